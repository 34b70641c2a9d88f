"""The jobs of a graph and what their ledger says of them: what is launched anew, what is not, and whose they are."""

import datetime
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import running
import template_tasks
from apache_beam.io.filesystems import FileSystems
from cloud_running import state_of
from dataflow_running import Set
from graph_tasks import Numbers
from local_dataflow import options
from template_tasks import CLASSIC

from localcloud import BUCKET, PROJECT, REGION
from localcloud.dataflow import Dataflow
from millrace import JobGraph
from millrace.core.ledger import Ledger
from millrace.core.stopping import Stopped
from millrace.errors import MillraceError, SettingError
from millrace.ops import clear
from millrace.runners.dataflow import environments, templates
from millrace.runners.runner import Ticket
from millrace.tasks import job_graph, session
from millrace.tasks.job_graph import GraphJob

DAY = datetime.date(2026, 11, 19)


class Chain:
    """A graph of three templates in a file of its own: a, then b, and c beside it. The words are what each says."""

    def __init__(self, local: Dataflow, folder: Path, name: str) -> None:
        self.local, self.path, self.name = local, folder / f"{name}.toml", name
        self.write()

    def write(self, *changes: tuple[str, str], a: str = "first", more: str = "") -> None:
        """Write the file; a run that begins from here on reads it."""
        out = f"gs://{BUCKET}/graphs/{self.name}"
        text = f"""
[jobs.a]
template = "{CLASSIC}"
output = "{out}/{{run}}/a"
parameters = {{ say_what = "{a}", say_where = "{out}/{{run}}/a" }}

[jobs.b]
after = ["a"]
template = "{CLASSIC}"
parameters = {{ say_what = "second", say_where = "{{jobs.a.output}}-b" }}

[jobs.c]
template = "{CLASSIC}"
parameters = {{ say_what = "third", say_where = "{out}/{{run}}/c" }}
{more}"""
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        self.path.write_text(text, encoding="utf-8")

    def task(self, name: str) -> Any:
        return job_graph.tasks_of(str(self.path), DAY, [name])[0]

    def run(self) -> dict[str, str]:
        """Runs what is not complete, as luigi does, in a session as of a new process; what went wrong, by job."""
        wrong = {}
        with session.use(session.Session()):
            for task in job_graph.tasks_of(str(self.path), DAY):
                try:
                    needed = [each for each in task.requires() if not isinstance(each, Numbers)]
                    if task.complete() or not all(each.complete() for each in needed):
                        continue
                    for each in task.run() or ():
                        each.complete() or each.run()
                    assert task.complete()
                except (MillraceError, Stopped) as error:
                    wrong[task.name] = str(error)
        return wrong

    @property
    def complete(self) -> list[str]:
        """The jobs that are complete, as a new process finds."""
        with session.use(session.Session()):
            found = [task.name for task in job_graph.tasks_of(str(self.path), DAY) if task.complete()]
            assert JobGraph(spec=str(self.path), date=DAY).complete() == (len(found) == len(self.jobs))
            return found

    @property
    def jobs(self) -> dict[str, list[str]]:
        """The states of each job's attempts."""
        found: dict[str, list[str]] = {name: [] for name in job_graph.load(str(self.path), DAY).jobs}
        for job in self.local.jobs:
            labels = dict(job.submitted.labels)
            if labels.get("millrace-graph") == self.name:
                found.setdefault(labels["millrace-job"], []).append(state_of(job))
        return found


@pytest.fixture
def chain(local: Dataflow, request: pytest.FixtureRequest, tmp_path: Path) -> Chain:
    """A graph that no other test has; the template is there."""
    if not FileSystems.match([CLASSIC])[0].metadata_list:
        template_tasks.stage_classic(options(local.url, "say"))
    name = re.sub(r"[^a-z]+", "-", request.node.name.removeprefix("test_"))[:38].strip("-")
    return Chain(local, tmp_path, name)


def test_other_parameters_of_a_job_have_it_and_all_after_it_launched_anew(
    chain: Chain, local: Dataflow, setting: Set
) -> None:
    """And nothing else; a job that still runs with the old ones is cancelled before."""
    assert chain.run() == {}
    assert chain.jobs == {"a": ["DONE"], "b": ["DONE"], "c": ["DONE"]}
    assert chain.complete == ["a", "b", "c"]
    entry = Ledger(session.current().storage).entry(f"GraphJob.{chain.name}.b.date={DAY}")
    assert entry is not None
    assert entry.job_name.startswith(f"millrace-{chain.name}-b-"[:52])
    chain.write(a="other")
    assert chain.complete == ["c"]
    assert chain.run() == {}
    assert chain.jobs == {"a": ["DONE", "DONE"], "b": ["DONE", "DONE"], "c": ["DONE"]}
    chain.write(('"second"', '"changed"'), a="other")
    local.hold("*")
    stop(chain, "b", setting)
    assert chain.jobs["b"] == ["DONE", "DONE", "RUNNING"]
    local.release()
    chain.write(('"second"', '"changed again"'), a="other")
    assert chain.run() == {}
    assert chain.jobs == {"a": ["DONE"] * 2, "b": ["DONE", "DONE", "CANCELLED", "DONE"], "c": ["DONE"]}


def stop(chain: Chain, name: str, setting: Set) -> None:
    """Runs one job, and leaves it running as soon as it does."""
    setting("run", "detach", "true")
    with session.use(session.Session()):
        task = chain.task(name)

        class Stops(GraphJob):
            def say(self, message: str) -> None:
                if "RUNNING" in message:
                    raise Stopped("stopped by SIGTERM")

        with pytest.raises(Stopped):
            Stops(name=name, date=DAY, spec=task.spec, graph=task.graph).run()


def test_another_version_is_launched_anew_and_another_place_for_workers_is_not(chain: Chain) -> None:
    """What workers are like is no part of what a job is to do."""
    assert chain.run() == {}
    workers = 'environment = { max_workers = 3, labels = { team = "data" } }'
    chain.write(("[jobs.b]", f'{workers}\n\n[jobs.b]\n{workers}\nversion = "2"'))
    assert chain.complete == ["a", "c"]
    assert chain.run() == {}
    assert chain.jobs == {"a": ["DONE"], "b": ["DONE", "DONE"], "c": ["DONE"]}
    labels = dict(chain.local.jobs[-1].submitted.labels)
    assert labels.items() >= {"team": "data", "millrace-job": "b", "millrace-date": "2026-11-19"}.items()


def test_a_job_that_is_cleared_is_launched_anew_with_all_after_it(chain: Chain) -> None:
    """bin/clear by the graph's file, one job or all, and only of the days that are named."""
    assert chain.run() == {}
    spec = ["--spec", str(chain.path)]
    assert clear.main(["GraphJob", *spec, "--name", "a", "--from", str(DAY + datetime.timedelta(days=1))]) == 0
    assert chain.complete == ["a", "b", "c"]
    assert clear.main(["GraphJob", *spec, "--name", "a", "--from", str(DAY), "--to", str(DAY)]) == 0
    assert chain.complete == ["c"]
    assert chain.run() == {}
    assert chain.jobs == {"a": ["DONE", "DONE"], "b": ["DONE", "DONE"], "c": ["DONE"]}
    whole = JobGraph(spec=str(chain.path), date=DAY)
    assert whole.complete()
    assert clear.main(["GraphJob", *spec]) == 0
    assert not whole.complete()  # a process that runs it again finds out
    assert chain.complete == []


def test_a_stage_that_is_made_anew_has_the_jobs_after_it_launched_anew(chain: Chain) -> None:
    """A template that reads what a stage of ours made, and one after it; the folder is that of the attempt."""
    more = f"""
[jobs.n]
task = "Numbers"
parameters = {{ date = "{{date}}" }}

[jobs.d]
after = ["n"]
template = "{CLASSIC}"
parameters = {{ say_what = "fourth", say_where = "{{jobs.n.output}}/d" }}
"""
    with session.use(session.Session()):
        assert clear.main(["Numbers", "--yes"]) == 0
    chain.write(more=more)
    assert chain.task("n").requires() == [Numbers(date=DAY)]  # so that luigi knows of it from the beginning
    assert chain.run() == {}
    found = Numbers(date=DAY).manifest()
    assert found is not None
    attempt = session.current().storage.uri(f"{found.partition}/{found.attempt}")
    assert local_where(chain, "d") == [f"{attempt}/d"]
    assert clear.main(["Numbers", "--yes"]) == 0
    assert chain.complete == ["a", "b", "c"]
    assert chain.run() == {}
    assert chain.jobs["d"] == ["DONE", "DONE"]
    assert len(set(local_where(chain, "d"))) == 2


def local_where(chain: Chain, name: str) -> list[str]:
    """Where the attempts of a job wrote."""
    labels = {"millrace-graph": chain.name, "millrace-job": name}
    return [
        job.options["say_where"] for job in chain.local.jobs if labels.items() <= dict(job.submitted.labels).items()
    ]


def test_jobs_of_others_in_the_project_are_not_touched_and_not_mistaken(chain: Chain, local: Dataflow) -> None:
    """Of the same name, of the same labels, of the same graph in another storage: each is left as it is."""
    local.hold("theirs*")
    google, where = session.current().google, (PROJECT, REGION)
    known = templates.template(google, CLASSIC, where)
    given = {"say_what": "theirs", "say_where": f"gs://{BUCKET}/theirs"}
    labels = {"millrace-graph": chain.name, "millrace-job": "a", "millrace-date": str(DAY), "millrace-task": "graphjob"}
    environment = environments.environment(google, "Theirs", {"labels": labels}, flex=False)
    now = "2020-01-01T00:00:00+00:00"

    def launch(name: str) -> str:
        ticket = Ticket(name, "theirs", "/".join(where))
        return templates.launch(google, known, given, environment, ticket, now, list, print).id

    first = launch(f"theirs-{chain.name}-a")
    task = chain.task("a")
    with Ledger(session.current().storage).claim(task.job) as claim:  # as a run that died before the launch leaves it
        entry = claim.begin("millrace-theirs", runner="DataflowRunner", where=task.place(), work=task.work(), code="")
    local.hold(entry.job_name)
    second = launch(entry.job_name)
    assert "is an active Dataflow job named" in chain.run()["a"]
    theirs = {job.id: state_of(job) for job in local.jobs if job.id in (first, second)}
    assert set(theirs.values()) <= {"RUNNING", "PENDING"}
    local.cancel(second)
    local.release()
    assert chain.run() == {}
    ours = [job for job in local.jobs if f"/graphs/{chain.name}/" in job.options["say_where"]]
    assert sorted((job.options["say_what"], state_of(job)) for job in ours) == [
        ("first", "DONE"),
        ("second", "DONE"),
        ("third", "DONE"),
    ]
    [unharmed] = [job for job in local.jobs if job.id == first]
    running.wait_for(lambda: unharmed.over, 30)
    assert state_of(unharmed) == "DONE"


def test_the_same_graph_in_another_storage_is_another_one(chain: Chain, setting: Set, local: Dataflow) -> None:
    """Two teams in one project: neither takes the other's jobs for its own, nor ends them."""
    assert chain.run() == {}
    setting("millrace", "storage", f"gs://{BUCKET}/other")
    assert chain.complete == []
    assert chain.run() == {}
    assert chain.jobs == {"a": ["DONE"] * 2, "b": ["DONE"] * 2, "c": ["DONE"] * 2}


def test_what_a_template_does_not_take_is_said_by_its_lines_before_anything_is_launched(chain: Chain) -> None:
    """All of a job at once: that job and those after it are not launched, the others are."""
    chain.write(('say_what = "second"', 'say_what = "Loud!", loud = "no", to = "x"'))
    wrong = chain.run()
    with session.use(session.Session()), pytest.raises(SettingError) as raised:
        chain.task("b").complete()
    assert (
        str(raised.value)
        == wrong["b"]
        == (
            f"{chain.path} has 3 mistakes: line 10: b: loud = 'no' is not one of true; "
            "line 10: b: say_what = 'Loud!' does not match [a-z ]+; "
            "line 10: b: to = 'x' is not one of its parameters"
        )
    )
    assert chain.jobs == {"a": ["DONE"], "b": [], "c": ["DONE"]}
    chain.write((f'after = ["a"]\ntemplate = "{CLASSIC}"', f'after = ["a"]\ntemplate = "{CLASSIC}-none"'))
    assert "-none: it does not exist" in chain.run()["b"]


def test_a_job_that_has_failed_too_often_is_forgotten_by_the_command_that_is_named(
    chain: Chain, local: Dataflow, setting: Set
) -> None:
    """The error names graph and job; what is named runs as it is printed."""
    setting("dataflow", "attempts", "1")
    local.fail("*-b-*", "no such disk")
    assert "no such disk" in chain.run()["b"]
    local.release()
    error = chain.run()["b"]
    assert error.startswith(f"{chain.name}.b has failed 1 times with the same template and parameters")
    told = re.search(r"forget the failures \((.*?)\), and run again", error)
    assert told
    words = shlex.split(told[1])
    assert words[1:2] == ["GraphJob"] or words[1:3] == ["clear", "GraphJob"], words
    assert clear.main(words[words.index("GraphJob") :]) == 0
    assert chain.run() == {}
    assert chain.jobs == {"a": ["DONE"], "b": ["FAILED", "DONE"], "c": ["DONE"]}


def test_a_job_at_work_is_waited_for_though_its_template_is_gone(chain: Chain, local: Dataflow, setting: Set) -> None:
    """What was launched is found by the ledger; the template is read for a launch alone."""
    gone = f"{CLASSIC}-{chain.name}"
    FileSystems.copy([CLASSIC], [gone])
    changes = (f'[jobs.c]\ntemplate = "{CLASSIC}"', f'[jobs.c]\ntemplate = "{gone}"')
    chain.write(changes)
    local.hold("*")
    stop(chain, "c", setting)
    FileSystems.delete([gone])
    local.release()
    assert chain.run() == {}
    assert chain.jobs["c"] == ["DONE"]
