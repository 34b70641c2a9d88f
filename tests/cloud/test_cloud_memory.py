"""A hundred jobs can be awaited at once."""

import contextlib
import datetime
import os
from pathlib import Path

import cloud_running
import pytest
import running
from cloud_running import Place
from running import LONGEST

from localcloud import LocalCloud

#: Jobs that are awaited at once, and bytes of private memory for them, over all processes.
JOBS, LIMIT = 100, 2 << 30


def private(group: int) -> list[int]:
    """Bytes of private memory of each process of a group: what no other process shares."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.getpgid(int(folder.name)) == group:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                found.append(1024 * sum(int(each.split()[1]) for each in lines if each.startswith("Private_")))
        except OSError:  # it has ended
            continue
    return found


@running.long
@pytest.mark.timeout(LONGEST)
def test_a_hundred_jobs_awaited_take_less_than_two_gib(tmp_path: Path) -> None:
    """`--workers 100` with a job each: the private memory of all processes stays under 2 GiB."""
    first = datetime.date(2026, 5, 1)
    days = ("--start", first, "--stop", first + datetime.timedelta(days=JOBS), "--days-back", 100_000)
    every = ("--of", "Fetch", "--of-params", '{"source": "sample://"}', "--param-name", "date", "--task-limit", 1000)
    # A job each, and ten looks a second over all.
    more = {"millrace": {"batch": "1"}, "dataflow": {"poll_max": str(JOBS / 10)}}
    with LocalCloud() as cloud, contextlib.closing(Place(cloud, tmp_path / "run", more=more)) as place:
        cloud.dataflow.hold("*")
        process = place.start("RangeDaily", *every, *days, "--workers", JOBS)
        place.wait_for(lambda: process.poll() is not None or len(place.jobs) == JOBS, 900)
        assert process.poll() is None, cloud_running.end(process)
        # Every process has looked at its job: it is past submitting, and all that is left to it is to wait.
        waiting = {job.id for job in place.jobs}
        place.wait_for(lambda: waiting <= {each.path.rpartition("/jobs/")[2] for each in cloud.dataflow.requests}, 300)
        sizes = private(process.pid)
        cloud.dataflow.release()
        ran = cloud_running.end(process, 900)
    assert ran.code == 0, ran
    assert len(sizes) > JOBS
    print(f"{JOBS} jobs: {sum(sizes) / 2**20:.0f} MiB private, {max(sizes) / 2**20:.1f} MiB the largest")
    assert sum(sizes) < LIMIT
