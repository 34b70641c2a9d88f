"""What changes while a job runs, or before anybody has seen its end: settings, inputs, files, wrong answers."""

import json
import os
import signal

import cloud_running
import running
from cloud_running import Place, state_of

from localcloud.faults import Fault
from millrace.core import code, manifests
from millrace.core.version import code_version
from workflows import Fetch

DATE = ("--date", running.DAY)
FETCH = ("Fetch", "--source", "sample://", *DATE)
ETL = ("Etl", *DATE)


def abandon(place: Place, *task: object) -> None:
    """Has a run submit a job and wait for it, and kills the run; the job goes on, held."""
    process = place.hold(*map(str, task))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def states(place: Place) -> list[str]:
    """The states of the place's jobs, in the order of their creation."""
    return [state_of(job) for job in place.jobs]


def test_another_region_does_not_make_another_job(place: Place) -> None:
    """A job stays where it was submitted: with another [gcp] region the next run still waits for it."""
    abandon(place, *FETCH)
    place.set("gcp", region="us-east1")
    place.cloud.dataflow.release()
    place.succeed(*FETCH)
    assert states(place) == ["DONE"]
    assert place.entry("Fetch").where.endswith("/us-central1")


def test_a_wrong_answer_while_waiting_is_not_the_job_s_end(place: Place) -> None:
    """A 400 to a look at a job fails the run, but not the attempt: the next run waits for the same job."""
    process = place.hold(*FETCH)
    place.cloud.faults.at(1, Fault("status", status=400), call="jobs.get", service="dataflow")
    ran = cloud_running.end(process)
    assert ran.code == 30, ran
    assert place.entry("Fetch").state == "running"
    place.cloud.dataflow.release()
    place.succeed(*FETCH)
    assert states(place) == ["DONE"]


def test_counters_that_can_t_be_had_lose_no_result(place: Place) -> None:
    """Where Dataflow does not tell what a finished job counted, its result is published all the same."""
    place.cloud.dataflow.denied.add("dataflow.metrics.get")
    try:
        ran = place.luigi(*FETCH)
    finally:
        place.cloud.dataflow.denied.clear()
    assert ran.code == 0, ran
    [manifest] = place.manifests().values()
    assert manifest.counters["read"] > 0
    assert manifest.usage == {}


def test_a_result_that_is_gone_is_made_again(place: Place) -> None:
    """A job is done, nobody saw it, and its files were deleted since: the next run makes the next attempt."""
    abandon(place, *FETCH)
    place.cloud.dataflow.release()
    place.wait_for(lambda: states(place) == ["DONE"])
    for blob in cloud_running.bucket(place.cloud).list_blobs(prefix=f"{place.name}/raw/"):
        blob.delete()
    place.succeed(*FETCH)
    assert states(place) == ["DONE", "DONE"]
    assert place.entry("Fetch").number == 2


@running.long
def test_input_made_anew_while_a_job_runs(place: Place) -> None:
    """A job whose input was forgotten and made anew is not published: the lineage would name what it never read."""
    place.succeed(*FETCH)
    process = place.hold(*ETL)
    cleared = place.run("millrace", "clear", "Fetch", "--yes")
    assert cleared.code == 0, cleared
    place.cloud.dataflow.release()
    ran = cloud_running.end(process)
    assert ran.code == 30, ran
    assert "Etl" not in str(place.manifests())
    place.succeed(*ETL)
    made = place.manifests()
    [read] = made[f"posts/date={running.DAY}"].inputs
    assert read.partition in made


def test_input_that_is_another_when_a_job_is_done(place: Place) -> None:
    """A job that is done, but whose input has another manifest by then, is not published with the old one's name."""
    place.succeed(*FETCH)
    process = place.hold(*ETL)
    [blob] = cloud_running.bucket(place.cloud).list_blobs(match_glob=f"{place.name}/raw/**/_MANIFEST.json")
    blob.upload_from_string(blob.download_as_bytes() + b"\n")  # the same files, under another digest
    place.cloud.dataflow.release()
    ran = cloud_running.end(process)
    assert ran.code == 30, ran
    [error] = ran.errors
    assert "was made anew while it ran" in error
    assert f"posts/date={running.DAY}" not in place.manifests()
    place.succeed(*ETL)
    assert states(place) == ["DONE", "DONE"]
    made = place.manifests()
    [read] = made[f"posts/date={running.DAY}"].inputs
    [now] = cloud_running.bucket(place.cloud).list_blobs(match_glob=f"{place.name}/{read.partition}/_MANIFEST.json")
    assert read.digest == manifests.digest(now.download_as_bytes())


def test_other_settings_are_no_result_of_this_run(place: Place) -> None:
    """What the bucket holds of other settings is not taken for this run's: one sentence says which setting it is."""
    place.set("millrace", runner="FnApiRunner")
    place.succeed("Count", *DATE)
    place.set("posts", rules="classic")
    ran = place.luigi("Count", *DATE)
    assert ran.code == 35, ran
    [error] = ran.errors
    assert f"counts/date={running.DAY} was made with posts.rules = standard, but this run says classic" in error
    assert "millrace clear Count" in error


def test_a_refused_result_is_not_made_again(place: Place) -> None:
    """More rejects than allowed: no further job while nothing changes; with a higher limit the same result is taken."""
    place.set("posts", max_dead_letter_share="0.001")
    for _ in range(2):
        ran = place.luigi(*ETL)
        assert ran.code == 30, ran
        assert "max_dead_letter_share = 0.001" in ran.out, ran
    assert place.stages() == {"fetch": 1, "etl": 1}
    assert place.entry("Etl").state == "refused"
    place.set("posts", max_dead_letter_share="0.5")
    place.succeed(*ETL)
    assert place.stages() == {"fetch": 1, "etl": 1}


def test_an_entry_of_a_later_version_is_understood(place: Place) -> None:
    """What a later version of Millrace adds to the ledger does not make this one forget the job, nor its code."""
    abandon(place, *FETCH)
    [blob] = cloud_running.bucket(place.cloud).list_blobs(match_glob=f"{place.name}/_jobs/Fetch_*.json")
    entry = json.loads(blob.download_as_text())
    assert entry["code"] == f"{code_version()} {code.of(Fetch)}"
    blob.upload_from_string(json.dumps({"mood": "good", **entry, "code": "0.9 3f2c3f2c3f2c/9a119a119a11"}))
    place.cloud.dataflow.release()
    place.succeed(*FETCH)
    assert states(place) == ["DONE"]
    [manifest] = place.manifests().values()
    assert (manifest.code_version, manifest.code) == ("0.9", {"Fetch": ["3f2c3f2c3f2c/9a119a119a11"]})


def test_newer_inputs_are_made_anew_on_request(place: Place) -> None:
    """--refresh: tables have the old rows until the new manifest takes the old one's place; then one load each."""
    place.set("millrace", runner="FnApiRunner")
    place.set("posts", days="1")
    report = ("Report", *DATE)
    place.succeed(*report)
    before = {name: manifest.attempt for name, manifest in place.manifests().items()}
    [blob] = cloud_running.bucket(place.cloud).list_blobs(
        match_glob=f"{place.name}/counts/date={running.DAY}/_MANIFEST.json"
    )
    blob.upload_from_string(blob.download_as_bytes() + b"\n")  # the same files, under another digest
    place.succeed(*report)
    assert {name: manifest.attempt for name, manifest in place.manifests().items()} == before
    for _ in range(2):
        place.succeed(*report, "--refresh")
        after = {name: manifest.attempt for name, manifest in place.manifests().items()}
        changed = {name for name in before if before[name] != after[name]}
        made = {"word_counts", "urls", "word_cooccur", "emerging_pairs", "posts_by_hour", "reports"}
        assert changed == {f"{name}/date={running.DAY}" for name in made}
