"""Several days in one Dataflow job, in the local cloud: how many jobs there are, and what becomes of each day.

Days are of a few posts, since jobs are counted here and not their work.
"""

import datetime
import os
import re
import signal
from collections import Counter
from collections.abc import Sequence

import cloud_running
import pytest
import running
from cloud_running import Place, keys_of, stage_of, state_of
from running import LONGEST

from localcloud import BUCKET
from localcloud.faults import Fault

DAY = running.DAY
SOURCE = f"gs://{BUCKET}/tiny/{{date:%Y-%m-%d}}.jsonl"


def day(offset: int) -> datetime.date:
    """A day so many after the first of November."""
    return DAY + datetime.timedelta(days=offset)


def tiny(place: Place, days: Sequence[datetime.date], bad: Sequence[datetime.date] = ()) -> None:
    """Have a source with a few posts for each day; those of the bad ones are no posts."""
    bucket = cloud_running.bucket(place.cloud)
    for each in days:
        post = f'{{"text": "two words", "created_at": "{each}T12:00:00Z", "id": "%d"}}\n'
        lines = "no post\n" * 3 if each in bad else "".join(post % n for n in range(3))
        bucket.blob(f"tiny/{each}.jsonl").upload_from_string(lines.encode())
    place.set("posts", source=SOURCE)


def days_of(place: Place, dataset: str) -> dict[str, str]:
    """The days of a dataset that are there, each with its job."""
    there = place.manifests().items()
    return {name.rpartition("=")[2]: str(m.job_id) for name, m in there if name.startswith(f"{dataset}/")}


@running.long
def test_a_cold_week_is_seven_jobs_at_most_and_the_next_day_four(place: Place) -> None:
    """Fourteen days of Fetch to Count are a job a stage; the ledger is asked a few times a day, whatever the batch."""
    tiny(place, [day(n) for n in range(-13, 2)])
    place.set("gcp", lease="3600")  # no lock is renewed by the clock
    before = len(place.cloud.storage.requests)
    place.succeed("Report", "--date", DAY, "--posts-days", 7)
    assert place.stages() == {"fetch": 1, "etl": 1, "count": 1, "aggregate": 1}
    asked = [each for each in place.cloud.storage.requests[before:] if re.search("(/|%2F)_jobs(/|%2F)", each.path)]
    # A claim is a lock, made and let go, and the entry, read; an attempt is entered, its job noted, and it is closed.
    assert len(asked) <= 8 * (3 * 14 + 2), Counter(f"{each.call} {each.path[:60]}" for each in asked).most_common(5)
    assert not place.locks()
    place.succeed("Report", "--date", day(1), "--posts-days", 7)
    assert place.stages() == {"fetch": 2, "etl": 2, "count": 2, "aggregate": 2}
    usage = [m.usage["vcpu_hours"] for name, m in place.manifests().items() if name.startswith("counts/")]
    assert len(usage) == 15
    assert min(usage) > 0


@running.long
@pytest.mark.timeout(LONGEST)
def test_a_backfill_of_a_year_is_sixty_jobs_at_most(place: Place) -> None:
    """365 days of Fetch to Aggregate, each with its 7-day window, by RangeDaily."""
    tiny(place, [day(n) for n in range(-380, 1)])
    days = ("--start", day(-364), "--stop", day(1), "--days-back", 400, "--task-limit", 400)
    ran = cloud_running.end(place.start("RangeDaily", "--of", "Aggregate", *days), LONGEST)
    assert ran.code == 0, ran
    assert len(days_of(place, "word_counts")) == 365
    assert len(place.jobs) <= 60, place.stages()


def test_a_bad_day_fails_alone(place: Place) -> None:
    """One day with too many rejects: the others of its job are published, and what follows from them is done."""
    tiny(place, [day(-1), day(0)], bad=[day(-1)])
    ran = place.luigi("RangeDaily", "--of", "Count", "--start", day(-1), "--stop", day(1), "--days-back", 400)
    assert ran.code == 30, ran
    assert [error for error in ran.errors if "no_json" in error or "rejected" in error], ran
    assert days_of(place, "counts").keys() == {str(day(0))}
    assert place.stages() == {"fetch": 1, "etl": 1, "count": 1}
    place.set("posts", max_dead_letter_share="1")
    ran = place.luigi("RangeDaily", "--of", "Count", "--start", day(-1), "--stop", day(1), "--days-back", 400)
    assert days_of(place, "posts").keys() == {str(day(-1)), str(day(0))}, ran
    assert place.stages()["etl"] == 1, "what its job made is looked at again"


def test_one_day_of_a_running_batch_is_waited_for(place: Place) -> None:
    """Killed (-9) with a job of two days at work: who wants one of them attaches, and publishes that one alone."""
    tiny(place, [day(-1), day(0)])
    process = place.hold("Report", *cloud_running.FLAGS)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    [job] = place.jobs
    again = place.start("Fetch", "--source", SOURCE, "--date", day(0))
    asked = place.asked(job.id)
    place.wait_for(lambda: place.asked(job.id) > asked)
    place.cloud.dataflow.release()
    ran = cloud_running.end(again)
    assert ran.code == 0, ran
    assert days_of(place, "raw") == {str(day(0)): job.id}
    place.succeed("Fetch", "--source", SOURCE, "--date", day(-1))
    assert [(each.id, state_of(each)) for each in place.jobs] == [(job.id, "DONE")]
    assert place.leftovers() == []


def test_a_batch_that_fails_is_cut_smaller(place: Place) -> None:
    """A job that dies of what belongs to no day has failed for each; the next ones are of a day, and one that is well
    is not held by one that is not.
    """
    tiny(place, [day(-1), day(0)])
    place.cloud.dataflow.fail("millrace-fetch-*", "no CPUs are left.")
    flags = ("RangeDaily", "--of", "Etl", "--start", day(-1), "--stop", day(1), "--days-back", 400)
    assert place.luigi(*flags).code == 30
    assert place.stages() == {"fetch": 1}
    place.cloud.dataflow.release()
    place.cloud.dataflow.fail(f"millrace-fetch-{day(0)}-*", "no CPUs are left.")
    assert place.luigi(*flags).code == 30
    assert place.stages("FAILED") == {"fetch": 2}
    assert place.stages("DONE") == {"fetch": 1, "etl": 1}
    assert days_of(place, "posts").keys() == {str(day(-1))}


@pytest.mark.parametrize("part", [False, pytest.param(True, marks=running.long)])
def test_a_batch_that_was_never_submitted(place: Place, part: bool) -> None:
    """Killed (-9) after all days were entered and before the job is there: a run with all of them submits just that
    job; one that wants a part of them makes a new attempt, and so does then the other day.
    """
    tiny(place, [day(-1), day(0)])
    cloud_running.refuse(place.cloud, "jobs.create", Fault("status"))
    process = place.start("Report", *cloud_running.FLAGS)
    place.wait_for(lambda: place.struck("jobs.create"))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    entries = place.entries("Fetch")
    assert len({entry.request_id for entry in entries}) == 1
    assert [entry.members for entry in entries] == [[entry.task for entry in entries]] * 2
    place.cloud.faults.clear()
    for each in [day(0), day(-1)] if part else []:
        place.succeed("Fetch", "--source", SOURCE, "--date", each)
    if not part:
        place.succeed("RangeDaily", "--of", "Etl", "--start", day(-1), "--stop", day(1), "--days-back", 400)
    requests = [job.client_request_id for job in place.jobs if job.name.startswith("millrace-fetch")]
    assert len(requests) == (2 if part else 1)
    assert (entries[0].request_id in requests) != part
    assert [entry.number for entry in place.entries("Fetch")] == ([2, 2] if part else [1, 1])
    assert place.leftovers() == []


def test_two_hosts_with_overlapping_days(place: Place) -> None:
    """Two processes with schedulers of their own, whose windows share days: both end well, and no day is done twice."""
    tiny(place, [day(n) for n in range(-3, 1)])
    both = [place.start("Report", "--date", day(n), "--posts-days", 1) for n in (-1, 0)]
    ran = [cloud_running.end(process) for process in both]
    assert [each.code for each in ran] == [0, 0], "\n".join(map(str, ran))
    for dataset, stage in (("posts", "etl"), ("counts", "count")):
        assert len(days_of(place, dataset)) == 3
        made = Counter(key for job in place.jobs if stage_of(job) == stage for key in keys_of(job))
        assert set(made.values()) == {1}, (stage, made)
    assert place.leftovers() == []
