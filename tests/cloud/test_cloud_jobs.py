"""What becomes of a stage's Dataflow job, in the local cloud: failed, cancelled, stuck, replaced, or done.

The service holds or fails jobs by their names; whoever runs luigi sees the end of each in its output and exit code.
"""

import math
import re
from pathlib import Path

import cloud_running
import pytest
import running
from cloud_running import Place, refuse, state_of
from luigid_asking import listed

from localcloud import PROJECT, REGION
from localcloud.dataflow_jobs import Job
from localcloud.faults import Fault
from millrace.core.version import code_version

DATE = ("--date", running.DAY)
FETCH = ("Fetch", "--source", "sample://", *DATE)
COMMAND = f"luigi --module workflows Fetch --source sample:// --date {running.DAY}"


def url(job: Job) -> str:
    """A job's page in the console."""
    return f"https://console.cloud.google.com/dataflow/jobs/{REGION}/{job.id}?project={PROJECT}"


def test_failed_job_is_named_with_its_error_link_and_command(place: Place) -> None:
    """Exit code 30; the error names the job, says its own message, links to it, and gives the command; so the ledger.

    The next run submits the next attempt, which is done.
    """
    place.cloud.dataflow.fail("*", "Startup of the worker pool in zone us-central1-b failed: no CPUs are left.")
    ran = place.luigi(*FETCH)
    [job] = place.jobs
    assert ran.code == 30, ran
    [error] = ran.errors
    for part in (job.name, "failed: Startup of the worker pool in zone us-central1-b failed", url(job), COMMAND):
        assert part in error, ran
    assert "Traceback" not in ran.out, ran
    assert "1 failed" in ran.out, ran
    entry = place.entry("Fetch")
    assert (entry.state, entry.number, entry.job_id) == ("failed", 1, job.id)
    assert entry.error in error
    place.cloud.dataflow.release()
    place.succeed(*FETCH)
    assert [state_of(each) for each in place.jobs] == ["FAILED", "DONE"]
    assert (place.entry("Fetch").state, place.entry("Fetch").number) == ("done", 2)


@pytest.mark.parametrize("runner", ["DataflowRunner", "FnApiRunner"])
def test_our_own_sentence_of_a_worker_is_the_error(place: Place, runner: str) -> None:
    """A source that can't be read fails the stage, and its sentence arrives as it was raised on the worker."""
    place.set("millrace", runner=runner)
    cloud_running.bucket(place.cloud).blob("broken/posts-2026-11-01.jsonl.gz").upload_from_string(b"\x1f\x8b nonsense")
    broken = "gs://millrace-test/broken/posts-{date:%Y-%m-%d}.jsonl.gz"
    ran = place.luigi("Fetch", "--source", broken, *DATE)
    assert ran.code == 30, ran
    [error] = ran.errors
    assert "Traceback" not in ran.out, ran
    assert "gs://millrace-test/broken/posts-2026-11-01.jsonl.gz" in error, ran
    assert "while running" not in error, ran
    if runner == "FnApiRunner":
        return
    assert f"{place.jobs[0].name} failed: " in error, ran
    # What it says to run can be pasted: a shell would take the braces and the space for something else.
    assert f"--source '{broken}'" in error, ran


@running.long
def test_a_job_that_has_failed_too_often_is_not_submitted_again(place: Place) -> None:
    """After [dataflow] attempts failures of the same code and input there are no more jobs until something changes.

    The millrace clear command that it prints is one such change, as it stands there; the setting is another.
    """
    place.set("dataflow", attempts="2")
    place.cloud.dataflow.fail("*", "no CPUs are left.")
    for _ in range(2):
        assert place.luigi(*FETCH).code == 30
    place.cloud.dataflow.release()
    ran = place.luigi(*FETCH)
    assert ran.code == 30, ran
    [error] = ran.errors
    for part in ("has failed 2 times", "attempts = 2", "no further job", "no CPUs are left"):
        assert part in error, ran
    assert [state_of(job) for job in place.jobs] == ["FAILED", "FAILED"]
    [printed] = re.findall(r"\((\S*millrace clear .*?)\), and run again", error)
    assert f"--from {running.DAY} --to {running.DAY} --source sample://" in printed
    cleared = running.run(["sh", "-c", printed], place.folder, place.environment)
    assert cleared.code == 0, cleared
    assert cleared.out.endswith("\n0 partitions gone\n"), cleared
    place.succeed(*FETCH)
    assert [state_of(job) for job in place.jobs] == ["FAILED", "FAILED", "DONE"]
    assert place.leftovers() == []


def test_source_that_is_late_costs_no_attempt(place: Place) -> None:
    """What passes is no failure of the job's: a cron that comes too early must not use up the attempts."""
    place.set("dataflow", attempts="1")
    place.cloud.dataflow.fail("*", "Traceback …\nmillrace.errors.NotThereYetError: the file is not there yet")
    ran = place.luigi(*FETCH)
    assert ran.code == 30, ran
    assert "the file is not there yet" in ran.out, ran
    place.cloud.dataflow.release()
    place.succeed(*FETCH)
    assert [state_of(job) for job in place.jobs] == ["FAILED", "DONE"]


def test_changed_input_starts_the_count_anew(place: Place) -> None:
    """The limit is for the same input: when that was made anew, the job is tried again."""
    place.set("dataflow", attempts="1")
    place.cloud.dataflow.fail("millrace-etl-*", "no CPUs are left.")
    assert place.luigi("Etl", *DATE).code == 30
    place.cloud.dataflow.release()
    ran = place.luigi("Etl", *DATE)
    assert "no further job" in ran.out, ran
    cleared = place.run("millrace", "clear", "Fetch")
    assert cleared.code == 0, cleared
    place.succeed("Etl", *DATE)
    assert place.stages() == {"fetch": 2, "etl": 2}
    assert place.stages("DONE") == {"fetch": 2, "etl": 1}


def more_attempts(place: Place) -> None:
    """A run that finds the one attempt used up submits no job; from then on there may be a second attempt."""
    jobs = len(place.jobs)
    ran = place.luigi(*FETCH)
    assert ran.code == 30, ran
    assert "no further job" in ran.out, ran
    assert len(place.jobs) == jobs
    place.set("dataflow", attempts="2")


def test_job_that_somebody_else_cancels(place: Place) -> None:
    """Cancelled in the console: the error names the job, which counts; the next run makes the next attempt."""
    place.set("dataflow", attempts="1")
    process = place.hold(*FETCH)
    [job] = place.jobs
    place.cloud.dataflow.cancel(job.id)
    ran = cloud_running.end(process)
    assert ran.code == 30, ran
    [error] = ran.errors
    for part in (job.name, "was cancelled", url(job), COMMAND):
        assert part in error, ran
    place.cloud.dataflow.release()
    more_attempts(place)
    place.succeed(*FETCH)
    assert [state_of(each) for each in place.jobs] == ["CANCELLED", "DONE"]
    assert place.entry("Fetch").number == 2


@running.long
def test_job_that_is_stuck_cancelling_is_given_up(place: Place) -> None:
    """After [dataflow] stuck_after seconds the error names it, and it counts; the next run does not wait for it."""
    place.set("dataflow", stuck_after="1", attempts="1")
    place.cloud.dataflow.stick("*")
    process = place.hold(*FETCH)
    [job] = place.jobs
    place.cloud.dataflow.cancel(job.id)
    ran = cloud_running.end(process)
    assert ran.code == 30, ran
    [error] = ran.errors
    for part in (job.name, "still being cancelled after 1 s", url(job)):
        assert part in error, ran
    assert state_of(job) == "CANCELLING"
    place.cloud.dataflow.release()
    more_attempts(place)
    place.succeed(*FETCH)
    assert [state_of(each) for each in place.jobs] == ["CANCELLED", "DONE"]


def test_job_that_is_replaced_is_followed(place: Place) -> None:
    """Updated in the console: the wait goes on for the job that took its place, which the manifest names."""
    process = place.hold(*FETCH)
    [old] = place.jobs
    new = place.cloud.dataflow.replace(old.id)
    place.wait_for(lambda: place.watched(new.id))
    place.cloud.dataflow.release()
    ran = cloud_running.end(process)
    assert ran.code == 0, ran
    assert [(job.id, state_of(job)) for job in place.jobs] == [(old.id, "UPDATED"), (new.id, "DONE")]
    [manifest] = place.manifests().values()
    assert manifest.job_id == new.id
    assert place.entry("Fetch").state == "done"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        # Dataflow says that it was updated, but not by what.
        ("UPDATED", "was replaced by another"),
        # It has read but a part.
        ("DRAINED", "was drained, so what it wrote is not whole"),
    ],
)
def test_job_that_ends_otherwise_is_an_error(place: Place, state: str, words: str) -> None:
    """The run ends with an error and no manifest, and the next one makes the next attempt."""
    process = place.hold(*FETCH)
    [job] = place.jobs
    with place.cloud.dataflow.life.changed:
        place.cloud.dataflow.life.ask(job, f"JOB_STATE_{state}")
    ran = cloud_running.end(process)
    assert ran.code == 30, ran
    [error] = ran.errors
    assert f"{job.name} {words}; see {url(job)}" in error, ran
    assert place.manifests() == {}
    place.cloud.dataflow.release()
    place.succeed(*FETCH)
    assert [state_of(each) for each in place.jobs] == [state, "DONE"]


def test_dataflow_that_does_not_answer_loses_no_job(place: Place) -> None:
    """Where Dataflow is silent for too long the run fails, and the next one goes on with the same job."""
    place.set("dataflow", stuck_after="1")
    place.set("gcp", patience="2")
    process = place.hold(*FETCH)
    refuse(place.cloud, "jobs.get", Fault("status"))
    ran = cloud_running.end(process)
    place.cloud.faults.clear()
    assert ran.code == 30, ran
    assert "has not told of job" in ran.out, ran
    assert place.entry("Fetch").state == "running"
    place.cloud.dataflow.release()
    place.succeed(*FETCH)
    assert [state_of(job) for job in place.jobs] == ["DONE"]


def test_answer_to_the_submission_that_never_comes_makes_no_second_job(place: Place) -> None:
    """Every answer to the create is lost, until the run gives up: the next one goes on with the job that was made."""
    place.set("gcp", patience="2")
    refuse(place.cloud, "jobs.create", Fault("lost"))
    ran = place.luigi(*FETCH)
    place.cloud.faults.clear()
    assert ran.code == 30, ran
    assert "could not create Dataflow job" in ran.out, ran
    assert "Traceback" not in ran.out, ran
    place.succeed(*FETCH)
    assert [state_of(job) for job in place.jobs] == ["DONE"]


def test_account_to_act_as_does_all_of_a_run(place: Place) -> None:
    """With [gcp] impersonate each process of a run gets its token from IAM; workers act as their own account."""
    account = f"launcher@{PROJECT}.iam.gserviceaccount.com"
    place.set("gcp", impersonate=account)
    before = len(place.cloud.projects.requests)
    place.succeed(*FETCH)
    [job] = place.jobs
    assert state_of(job) == "DONE"
    assert "impersonate_service_account" not in job.options, "the workers act as the worker's account"
    asked = [(each.call, each.status, each.path) for each in place.cloud.projects.requests[before:]]
    token = f"/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
    assert set(asked) == {("serviceAccounts.generateAccessToken", 200, token)}


def test_job_that_waits_for_its_turn_says_so_in_luigid(place: Place, server: int) -> None:
    """Where the project runs as many jobs as it may; once it does no longer, the job is done."""
    place.set("core", scheduler_host="127.0.0.1", scheduler_port=str(server))

    def told() -> bool:
        messages = [str(task["status_message"]) for task in listed(server, "RUNNING").values()]
        return any("waits for its turn" in each and "as its quota allows" in each for each in messages)

    place.cloud.dataflow.most = 0
    try:
        process = place.start(*FETCH)
        place.wait_for(told)
    finally:
        place.cloud.dataflow.most = math.inf
    ran = cloud_running.end(process)
    assert ran.code == 0, ran
    assert [state_of(job) for job in place.jobs] == ["DONE"]


def test_another_luigi_costs_no_run(place: Place) -> None:
    """Where luigi keeps apart what a link for luigid needs, the link is left out, with a warning."""
    ran = cloud_running.end(place.start(*FETCH, module="another_luigi"))
    assert ran.code == 0, ran
    [job] = place.jobs
    assert state_of(job) == "DONE"
    told = [line for line in ran.out.splitlines() if "with this version of luigi" in line]
    assert len(told) == 1, ran
    assert url(job) in told[0]


def test_manifest_tells_of_the_job(place: Place) -> None:
    """A job's manifest has its id, the runner, code version, the pipeline's counters, what it used and would cost."""
    place.succeed("Etl", *DATE)
    fetch, etl = (
        place.manifests()["raw/source=sample-9a75ee8a/date=2026-11-01"],
        place.manifests()[f"posts/date={running.DAY}"],
    )
    assert [job.id for job in place.jobs] == [fetch.job_id, etl.job_id]
    assert {fetch.runner, etl.runner} == {"DataflowRunner"}
    assert etl.code_version == code_version()
    assert etl.counters["rows_read"] == etl.counters["read"] == fetch.counters["read"] > 0
    for manifest in (fetch, etl):
        assert set(manifest.usage) == {"vcpu_hours", "memory_gb_hours", "shuffle_gb", "estimated_cost_usd"}
        assert manifest.usage["vcpu_hours"] > 0
        assert manifest.usage["estimated_cost_usd"] > 0


def test_new_job_is_not_looked_for(place: Place) -> None:
    """What nobody has named before can't be there: it is created, without a question."""
    before = len(place.cloud.dataflow.requests)
    place.succeed(*FETCH)
    calls = [each.call for each in place.cloud.dataflow.requests[before:]]
    assert calls[0] == "jobs.create"
    assert "jobs.list" not in calls


def test_auto_chooses_by_the_memory_that_a_stage_takes(place: Place) -> None:
    """What fits auto_memory is worked on in the luigi process, what does not goes to Dataflow; nobody is told of it."""
    place.set("millrace", runner="auto", auto_memory=str(1 << 40))
    place.succeed("Etl", *DATE)
    assert place.jobs == []
    assert {manifest.runner for manifest in place.manifests().values()} == {"FnApiRunner"}
    place.set("millrace", auto_memory="1000")
    place.succeed("Count", *DATE)
    assert place.stages() == {"count": 1}
    manifest = place.manifests()[f"counts/date={running.DAY}"]
    assert (manifest.runner, manifest.job_id) == ("DataflowRunner", place.jobs[0].id)


def test_one_task_has_a_runner_of_its_own(place: Place) -> None:
    """[dataflow.Fetch] runner = FnApiRunner: that task runs in process, the others on Dataflow."""
    place.set("dataflow.Fetch", runner="FnApiRunner")
    place.succeed("Etl", *DATE)
    assert place.stages() == {"etl": 1}
    assert {m.pipeline: m.runner for m in place.manifests().values()} == {
        "pipelines.posts.fetch": "FnApiRunner",
        "pipelines.posts.etl": "DataflowRunner",
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"machine_typ": "n2-standard-4"}, ["machine_typ", "Beam has no such option; did you mean machine_type?"]),
        ({"num_workers": "many"}, ["num_workers = 'many'", "invalid int"]),
        ({"runner": "DirectRunner"}, ["runner = 'DirectRunner'", "allowed is one of FnApiRunner, DataflowRunner"]),
    ],
)
def test_option_that_beam_does_not_take(place: Place, options: dict[str, str], told: list[str]) -> None:
    """Is one clear error, before any job: also of the tasks that come before it."""
    place.set("dataflow.Etl", **options)
    ran = place.luigi("Count", *DATE)
    assert ran.code == 35, ran
    assert len([line for line in ran.out.splitlines() if "[dataflow.Etl]" in line]) == 1, ran
    for part in ("[dataflow.Etl]", *told):
        assert part in ran.out, ran
    assert "Traceback" not in ran.out, ran
    assert place.jobs == []


def test_in_process_over_the_same_cloud(place: Place, undisturbed: Path) -> None:
    """runner = FnApiRunner, everything else in the cloud: the tables of the single-machine run, and no job."""
    place.set("millrace", runner="FnApiRunner")
    place.succeed("Report", *cloud_running.FLAGS)
    assert place.wrong(running.tables(undisturbed), {}) == []


@pytest.mark.parametrize("runner", ["DataflowRunner", "FnApiRunner"])
def test_key_class_and_payer_reach_the_data_wherever_it_is_written(place: Place, runner: str) -> None:
    """All is encrypted with [gcp] kms_key; data and manifests have its storage_class, what is written anew has not."""
    key = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
    place.set("millrace", runner=runner)
    place.set("gcp", kms_key=key, storage_class="NEARLINE", user_project="payer")
    before = len(place.cloud.storage.requests)
    place.succeed(*FETCH)
    written = {blob.name: blob for blob in cloud_running.bucket(place.cloud).list_blobs(prefix=f"{place.name}/")}
    data = {name for name in written if not {"_jobs", "_dataflow"} & {*name.split("/")}}
    assert {name.rpartition("/")[2] for name in data} >= {"_MANIFEST.json", "_result.json"}
    assert any(name.endswith(".parquet") for name in data)
    assert {name for name, blob in written.items() if blob.storage_class == "NEARLINE"} == data
    assert {blob.kms_key_name for blob in written.values()} == {f"{key}/cryptoKeyVersions/1"}
    asked = place.cloud.storage.requests[before:]
    calls = {(each.call, each.query.get("userProject")) for each in asked if each.call.startswith("objects.")}
    assert {payer for call, payer in calls if call != "objects.insert.piece"} == {"payer"}
