"""TemplateJob in the local Dataflow: one job a task, whoever died at which step, and all that is wrong said at once."""

import dataclasses
import datetime
import queue
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import template_tasks
from apache_beam.io.filesystems import FileSystems
from children import Child
from cloud_running import state_of
from dataflow_running import Set
from google.cloud import dataflow_v1beta3 as api
from local_dataflow import PATTERNS, get, matches, options, read
from running import EVERY, LONGEST, WHOLE, long
from template_tasks import CLASSIC, FLEX, Say, SayDaily

from localcloud import BUCKET, PROJECT, REGION
from localcloud.dataflow import Dataflow
from localcloud.dataflow_jobs import Job
from localcloud.faults import Fault
from localcloud.storage import Storage
from millrace import TemplateJob
from millrace.core.findings import OK, Finding, ok
from millrace.core.ledger import Ledger
from millrace.core.stopping import Stopped
from millrace.errors import ConflictError, JobCancelledError, JobFailedError, ServiceError, SettingError
from millrace.ops import clear
from millrace.ops.checks import findings, machine
from millrace.ops.checks import templates as checked
from millrace.runners.dataflow import environments, templates
from millrace.runners.runner import Ticket
from millrace.tasks import session

#: How many effects of a run are followed by its death, unless all are.
SAMPLE = 2

pytestmark = pytest.mark.timeout(LONGEST if WHOLE else 300)


@pytest.fixture
def say(local: Dataflow, request: pytest.FixtureRequest) -> str:
    """The words of a task that no other test has; the classic template is there."""
    local.life.release()
    if not FileSystems.match([CLASSIC])[0].metadata_list:
        template_tasks.stage_classic(options(local.url, "say"))
    return re.sub(r"[^a-z]+", " ", request.node.name.removeprefix("test_"))[:20].strip()


def jobs_of(local: Dataflow, task: TemplateJob) -> list[Job]:
    """The jobs of a task, in the order of their creation: those that its parameters tell of."""
    return [job for job in local.jobs if task.given().items() <= job.options.items()]


def states(local: Dataflow, task: TemplateJob) -> list[str]:
    return [state_of(job) for job in jobs_of(local, task)]


def test_a_template_is_launched_once_and_done(local: Dataflow, say: str) -> None:
    """It is complete when its job is done, and then a run launches nothing; other parameters are another task."""
    task = Say(text=say)
    assert not task.complete()
    task.run()
    assert task.complete()
    task.run()
    assert states(local, task) == ["DONE"]
    assert read(f"{task.given()['say_where']}*") == say.encode() + b"\n"
    entry = Ledger(session.current().storage).entry(task.job)
    assert entry is not None
    assert (entry.state, entry.job_id, entry.job_name[:13]) == ("done", jobs_of(local, task)[0].id, "millrace-say-")
    assert not Say(text=f"{say}x").complete()


def test_a_flex_template_is_launched_by_its_spec(local: Dataflow, say: str, tmp_path: Path) -> None:
    """Its answer is lost, and the launch is found by the name; the environment is that of settings and task."""
    template_tasks.stage_flex(local, tmp_path)
    output = f"gs://{BUCKET}/said/flex-job"
    own = {"maxWorkers": 3, "labels": {"team": "data"}, "machine_type": "n2-standard-2"}
    task = TemplateJob(template=FLEX, parameters={"say_what": say, "say_where": output}, environment=own)
    local.faults.at(1, Fault("lost"), call="flexTemplates.launch")
    task.run()
    assert task.complete()
    [job] = jobs_of(local, task)
    assert (state_of(job), read(f"{output}*")) == ("DONE", say.encode() + b"\n")
    found = get(local, job.id, view=api.JobView.JOB_VIEW_ALL)
    [pool] = found.environment.worker_pools
    assert (pool.autoscaling_settings.max_num_workers, pool.machine_type) == (3, "n2-standard-2")
    entry = Ledger(session.current().storage).entry(task.job)
    assert entry is not None
    labels = {"team": "data", "millrace-task": "templatejob", "millrace-request": entry.request_id}
    assert dict(found.labels) == labels


def test_all_that_is_wrong_with_parameters_is_said_at_once(local: Dataflow, say: str) -> None:
    """Unknown, missing, of another pattern, none of those allowed: one error, no launch, no attempt."""
    task = TemplateJob(template=CLASSIC, parameters={"say_what": "Loud!", "loud": "no", "to": "gs://x"})
    with pytest.raises(SettingError) as raised:
        task.run()
    assert str(raised.value) == (
        f"the template {CLASSIC} can't be launched with these parameters: to = 'gs://x' is not one of its parameters; "
        "say_what = 'Loud!' does not match [a-z ]+; say_where is missing (Where to write it); "
        "loud = 'no' is not one of true"
    )
    assert Ledger(session.current().storage).entry(task.job) is None
    with pytest.raises(SettingError, match=r"the template gs://nowhere/t: it does not exist"):
        TemplateJob(template="gs://nowhere/t").run()
    with pytest.raises(SettingError, match=r"say_what = \('a',\)"):
        TemplateJob(template=CLASSIC, parameters={"say_what": ["a"]}).complete()
    with pytest.raises(SettingError, match=r"'templates/say'; Dataflow reads templates at gs://"):
        TemplateJob(template="templates/say").complete()


def test_a_streaming_template_is_refused(local: Dataflow, say: str) -> None:
    """Its job has no end that a task could wait for."""
    template_tasks.write(f"{FLEX}.streaming", {"image": "i", "metadata": {"name": "Stream", "streaming": True}})
    with pytest.raises(SettingError, match="is a streaming one, whose job does not end"):
        TemplateJob(template=f"{FLEX}.streaming").run()


def parameter(name: str, **more: Any) -> Any:
    """A parameter of a template's metadata."""
    return api.ParameterMetadata(name=name, label=name, **more)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"format": "text"}, []),
        ({}, ["format is missing (format)"]),
        ({"format": "avro"}, ["schema is missing (schema)"]),
        ({"format": "avro", "schema": "s"}, []),
        ({"format": "text", "schema": "s"}, []),
    ],
)
def test_a_parameter_that_another_one_calls_for_is_missing_only_then(given: dict[str, str], wrong: list[str]) -> None:
    """As the metadata of Google's own templates has it; a pattern that can't be read here is Dataflow's to check."""
    known = templates.Template(
        "gs://t",
        False,
        False,
        [
            parameter("format", regexes=["(?U)[0-9]+", "[[:alpha:]]+"]),
            parameter("schema", parent_name="format", parent_trigger_values=["avro"]),
        ],
    )
    assert templates.problems(known, given) == wrong
    given = {"format": "text", "sdk_container_image": "i"}
    [problem] = templates.problems(known, given)
    assert problem == "sdk_container_image = 'i' is not one of its parameters"
    assert templates.problems(dataclasses.replace(known, flex=True), given) == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_read_as_re2_reads_them(pattern: str) -> None:
    r"""[[:alpha:]] are the letters of ASCII, \p{L} those of all scripts."""
    known = templates.Template("gs://t", False, False, [parameter("said", regexes=[pattern])])
    for text, matched in matches(pattern).items():
        wrong = [] if matched else [f"said = {text!r} does not match {pattern}"]
        assert templates.problems(known, {"said": text}) == wrong


def test_settings_of_jobs_are_those_of_launches(local: Dataflow, setting: Set) -> None:
    """[dataflow] holds, [dataflow.TASK] before it, the task's own before both; what no launch takes is said at once."""
    for section, key, value in (
        ("dataflow", "max_num_workers", "5"),
        ("dataflow", "setup_file", "./setup.py"),  # for all tasks: those that are launched do without
        ("dataflow", "experiments", "one, two"),
        ("dataflow.Say", "max_num_workers", "7"),
        ("dataflow.Say", "no_use_public_ips", "true"),
        ("dataflow.Say", "labels", "team=data\nrun=x"),
        ("dataflow.Say", "flexrs_goal", "COST_OPTIMIZED"),
        ("dataflow.Say", "worker_zone", "us-central1-b"),
    ):
        setting(section, key, value)
    with session.use(session.Session()):
        found = environments.environment(session.current().google, "Say", {"num_workers": 2}, flex=True)
        assert (found.num_workers, found.max_workers, found.worker_zone) == (2, 7, "us-central1-b")
        assert found.ip_configuration == api.WorkerIPAddressConfiguration.WORKER_IP_PRIVATE
        assert found.flexrs_goal == api.FlexResourceSchedulingGoal.FLEXRS_COST_OPTIMIZED
        assert list(found.additional_experiments) == ["one", "two"]
        assert dict(found.additional_user_labels) == {"millrace-task": "say", "team": "data", "run": "x"}
        assert found.temp_location == found.staging_location == f"gs://{BUCKET}/data/_dataflow"
        setting("dataflow.Say", "region", "us-east1")
    wrong: dict[str, object] = {"maxWorker": 3, "num_workers": "many", "ip_configuration": "NO"}
    wrong["additional_experiments"] = ["create_or_update_job"]
    with session.use(session.Session()), pytest.raises(SettingError) as raised:
        environments.environment(session.current().google, "Say", wrong, flex=False)
    for said in (
        "not one of a classic template: ",
        "[dataflow.Say] flexrs_goal = 'COST_OPTIMIZED'",
        "[dataflow.Say] region = 'us-east1'",
        "say region in [gcp]",
        "maxWorker = 3: there is no such field; there are ",
        "num_workers = 'many': ",
        "the experiment create_or_update_job would have a repeated launch replace the job",
        "ip_configuration = 'NO': allowed is one of WORKER_IP_UNSPECIFIED, ",
    ):
        assert said in str(raised.value)


def test_a_running_job_is_found_and_another_ones_is_not(local: Dataflow, say: str, setting: Set) -> None:
    """A run that left its job running is followed by one that waits for it, whatever else has that job's name."""
    setting("run", "detach", "true")
    local.hold("*")
    task = Say(text=say)
    stopped(local, task)
    [job] = jobs_of(local, task)
    assert state_of(job) == "RUNNING"
    local.release()
    job.unseen = 2  # in the moment after its creation Dataflow may not know it by its id
    task.run()
    assert states(local, task) == ["DONE"]
    entry = Ledger(session.current().storage).entry(task.job)
    assert entry is not None
    google, ticket = session.current().google, Ticket(entry.job_name, entry.request_id, entry.where)
    found = templates.find(google, ticket, entry.started)
    assert (found and found.id) == entry.job_id
    later = entry.started.replace("20", "21", 1)  # a hundred years
    assert templates.find(google, ticket, later) is None
    assert templates.find(google, ticket._replace(request_id="another"), entry.started) is None


def stopped(local: Dataflow, task: TemplateJob) -> None:
    """Runs a task, and stops it when its job runs."""

    class Stops(Say):
        job = task.job

        def say(self, message: str) -> None:
            if "RUNNING" in message:
                raise Stopped("stopped by SIGTERM")

    stops = Stops(text=task.given()["say_what"])
    with pytest.raises(Stopped):
        stops.run()


def test_a_stopped_run_cancels_its_job(local: Dataflow, say: str) -> None:
    """The ledger says why, and the next run launches another one."""
    local.hold("*")
    task = Say(text=say)
    stopped(local, task)
    entry = Ledger(session.current().storage).entry(task.job)
    assert entry is not None
    assert (entry.state, entry.error) == ("stopped", f"stopped by SIGTERM; job {entry.job_id} is cancelled")
    local.release()
    task.run()
    assert states(local, task) == ["CANCELLED", "DONE"]


def test_a_job_that_fails_is_told_and_not_launched_for_ever(local: Dataflow, say: str, setting: Set) -> None:
    """The error has Dataflow's words and the command that tries again; the one that forgets the failures works."""
    setting("dataflow", "attempts", "1")
    task = Say(text=say)
    local.fail("*", "no such disk")
    with pytest.raises(JobFailedError, match=f"no such disk.*run again: .* Say --text '{say}'"):
        task.run()
    local.release()
    with pytest.raises(JobFailedError, match="no further job was launched; the last one: ") as raised:
        task.run()
    assert "no such disk" in str(raised.value)
    assert clear.main(["Say", "--text", f"{say}x"]) == 0
    with pytest.raises(JobFailedError, match="no further job"):
        task.run()
    assert clear.main(["Say", "--text", say]) == 0
    task.run()
    assert states(local, task) == ["FAILED", "DONE"]
    assert task.complete()
    assert clear.main(["Say", "--text", say]) == 0
    assert not task.complete()


def test_a_job_that_luigid_is_told_to_cancel_is_told(local: Dataflow, say: str) -> None:
    """As of any task with a job: the answer says so, and the error names the job and what runs it again."""
    local.hold("*")
    task, answers = Say(text=say), list[str]()
    task.scheduler_messages = queue.Queue()
    task.scheduler_messages.put(Message("cancel", answers.append))  # type: ignore[arg-type]
    with pytest.raises(JobCancelledError, match=f"was cancelled.*run again: .* Say --text '{say}'"):
        task.run()
    assert [answer[:22] for answer in answers] == ["asked Dataflow to canc"]
    assert states(local, task) == ["CANCELLED"]


class Message(NamedTuple):
    """What luigid passes on."""

    content: str
    respond: Callable[[str], object]


def test_somebody_elses_job_of_that_name_is_not_taken(local: Dataflow, say: str) -> None:
    google = session.current().google
    where = (PROJECT, REGION)
    known = templates.template(google, CLASSIC, where)
    given = Say(text=say).given()
    environment = environments.environment(google, "Say", {}, flex=False)
    local.hold("*")
    ticket = Ticket(f"say-{say.replace(' ', '-')}", "mine", "/".join(where))
    now = "2020-01-01T00:00:00+00:00"

    def launch(ticket: Ticket, confirm: Callable[[], object] = list) -> Any:
        return templates.launch(google, known, given, environment, ticket, now, confirm, print)

    first = launch(ticket)
    assert launch(ticket).id == first.id
    with pytest.raises(ConflictError, match=f"already, but not of this run .*{first.id}"):
        launch(ticket._replace(request_id="another"))

    def lost() -> None:
        raise ConflictError("taken over")

    with pytest.raises(ConflictError, match="taken over"):
        launch(ticket._replace(name="never"), lost)
    assert [job.name for job in local.jobs].count("never") == 0


def test_a_launch_beyond_the_quota_waits_for_its_turn(local: Dataflow, say: str, setting: Set) -> None:
    setting("dataflow", "stuck_after", "1")
    task = Say(text=say)
    with session.use(session.Session()):
        local.most = 0
        with pytest.raises(ServiceError, match="runs as many Dataflow jobs as its quota allows"):
            task.run()
        local.most = 100
        task.run()
    assert states(local, task) == ["DONE"]


def test_days_are_forgotten_by_their_days(local: Dataflow, say: str) -> None:
    """A task of a day takes it as its only parameter; clear forgets of some days that they were done."""
    assert [name for name, _ in SayDaily.get_params()] == ["environment", "region", "date"]
    days = [datetime.date(2026, 11, day) for day in (1, 2)]
    storage = session.current().storage
    for day in days:
        task = SayDaily(date=day)
        with Ledger(storage).claim(task.job) as claim:  # as a run leaves it
            claim.begin("millrace-saydaily", work=task.work())
            claim.close()
    assert clear.main(["SayDaily", "--from", "2026-11-02", "--to", "2026-11-03"]) == 0
    assert [SayDaily(date=day).complete() for day in days] == [True, False]


def test_the_doctor_looks_at_templates(local: Dataflow, say: str, setting: Set) -> None:
    """Of each task that has a value for every parameter: whether the template is there, and takes what it is given."""

    def found() -> dict[str, Finding]:
        return {check.name: finding for check, finding in findings.examine(checked.checks())}

    assert found()["Say"] == ok(f"the classic template {CLASSIC}, which takes these parameters")
    assert found()["SayDaily"].state == OK
    setting("Say", "text", "Loud!")
    assert "say_what = 'Loud!' does not match" in found()["Say"].said
    setting("dataflow.Say", "max_num_workers", "3")
    setting("dataflow.TemplateJob", "max_num_workers", "3")
    assert machine.options().state == OK


@pytest.fixture
def steady(setting: Set) -> Iterator[None]:
    """Locks are renewed by no clock, so that every run has the same effects."""
    setting("gcp", "lease", "600")
    with session.use(session.Session()):
        yield


@pytest.mark.parametrize("template", [CLASSIC, pytest.param(FLEX, marks=long)])
@pytest.mark.parametrize("kind", ["kill", "lost"])
def test_whatever_happens_after_any_effect_there_is_one_job(
    local: Dataflow,
    services: tuple[Storage, Dataflow],
    say: str,
    steady: None,
    tmp_path: Path,
    kind: Any,
    template: str,
) -> None:
    """A run dies after each of its effects, or their answers are lost: with the next run one job is done."""
    template_tasks.stage_flex(local, tmp_path)

    def task_of(words: str) -> TemplateJob:
        where = f"gs://{BUCKET}/said/{kind}/{template[-4:]}/{words}"
        return TemplateJob(template=template, parameters={"say_what": words, "say_where": where})

    def effects() -> int:
        return sum(each.effect for service in services for each in service.requests)

    before = effects()
    assert Child(task_of("counted").run).end() == 0
    count = effects() - before
    assert count > 3
    some = SAMPLE if kind == "kill" else 1
    numbers = range(1, count + 1, EVERY) if WHOLE else [(2 * i + 1) * count // (2 * some) + 1 for i in range(some)]
    trouble = []
    for n in numbers:
        task, fault = task_of("x" * n), Fault(kind)
        local.faults.at(n, fault, effects_only=True)
        code = Child(task.run, fault).end()
        local.faults.clear()
        if (code == -signal.SIGKILL) != (kind == "kill"):
            trouble.append(f"{n} of {count}: ended with {code}")
        if not task.complete():
            task.run()
        if states(local, task) != ["DONE"] or not task.complete():
            trouble.append(f"{n} of {count}: {states(local, task)}")
    assert trouble == []
