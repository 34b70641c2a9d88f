"""What a process may still take of memory, as /proc and the cgroups' folders say it."""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.core import memory
from millrace.core.memory import Room

GIB = 1 << 30
NONE = str((1 << 63) - 4096)  # what cgroup v1 says where there is no limit


def fabricated(root: Path, files: dict[str, str]) -> str:
    """A /proc of these files, on a machine of 16 GiB of which 12 are left."""
    own = {"meminfo": f"MemTotal:  {16 << 20} kB\nMemFree:  1 kB\nMemAvailable:   {12 << 20} kB\n", **files}
    for name, text in own.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def left(rooms: list[Room]) -> list[int]:
    return [room.bytes for room in rooms]


def test_without_limits_it_is_what_the_machine_has_left(tmp_path: Path) -> None:
    proc = fabricated(tmp_path, {"self/limits": "Max address space  unlimited  unlimited  bytes\n"})
    (room,) = memory.rooms(proc)
    assert room == Room(12 * GIB, "of the machine's 16.0 GiB 12.0 GiB are left")
    assert memory.share(3, proc).bytes == 4 * GIB


def test_without_proc_it_is_what_the_machine_has(tmp_path: Path) -> None:
    (room,) = memory.rooms(f"{tmp_path}/none")
    assert room.bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_cgroup_and_those_that_it_lies_in_limit(tmp_path: Path) -> None:
    """Version 2, at a place with a space: the hard limit and the one from which on a process is slowed down; cached
    files are not in the way; "max" is none.
    """
    top = tmp_path / "sys fs"
    groups = {
        "user.slice/memory.max": str(6 * GIB),
        "user.slice/memory.high": "max\n",
        "user.slice/memory.current": str(5 * GIB),
        "user.slice/memory.stat": f"anon 7\nfile {3 * GIB}\ninactive_file {2 * GIB}\nactive_file {GIB}\n",
        "user.slice/run.scope/memory.max": "max",
        "user.slice/run.scope/memory.high": f"{GIB}\n",
        "user.slice/run.scope/memory.current": str(2 * GIB),
    }
    fabricated(top, groups)
    mount = str(top).replace(" ", r"\040")
    own = {
        "self/cgroup": "1:name=systemd:/x\n0::/user.slice/run.scope\n",
        "self/mountinfo": f"30 1 0:26 / {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw\n31 1 0:5 / / rw - ext4 / rw\n",
    }
    found = memory.rooms(fabricated(tmp_path / "proc", own))
    assert left(found) == [12 * GIB, 0, 4 * GIB]
    assert (
        found[1].said == f"memory.high of the cgroup {top}/user.slice/run.scope is 1.0 GiB, of which 2.0 GiB are used"
    )


def test_a_containers_cgroup_is_where_the_container_sees_it(tmp_path: Path) -> None:
    """Version 1: the path that /proc tells begins at the host's root, what is mounted is the container's part."""
    top = tmp_path / "cgroup" / "memory"
    groups = {
        "memory.limit_in_bytes": str(4 * GIB),
        "memory.usage_in_bytes": str(2 * GIB),
        "memory.stat": f"inactive_file 9\ntotal_inactive_file {GIB}\ntotal_active_file 0\n",
        "own/memory.limit_in_bytes": NONE,
        "own/inner/memory.limit_in_bytes": str(2 * GIB),
        "own/inner/memory.usage_in_bytes": str(GIB),
    }
    fabricated(top, groups)
    mounted = f"31 30 0:27 /docker/abc {tmp_path}/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    mounted += f"32 30 0:28 /docker/abc {top} ro master:9 - cgroup cgroup rw,memory\n"
    for inside, expected in (("/own/inner", [1, 3]), ("/own", [3]), ("", [3]), ("x", [3])):
        own = {"self/cgroup": f"4:memory:/docker/abc{inside}\n3:cpu:/\n", "self/mountinfo": mounted}
        assert left(memory.rooms(fabricated(tmp_path / "proc", own))) == [each * GIB for each in (12, *expected)]


def test_a_process_outside_of_what_it_sees_goes_by_the_whole_of_that(tmp_path: Path) -> None:
    """As /proc tells a process that was moved out of its namespace: /../other."""
    fabricated(tmp_path / "top", {"memory.max": str(GIB), "memory.current": "0"})
    fabricated(tmp_path, {"other/memory.max": "1"})
    own = {"self/cgroup": "0::/../other\n", "self/mountinfo": f"3 1 0:2 / {tmp_path}/top rw - cgroup2 none rw\n"}
    assert left(memory.rooms(fabricated(tmp_path / "proc", own))) == [12 * GIB, GIB]


def test_limits_of_the_process_are_its_own_alone(tmp_path: Path) -> None:
    """What is reserved but not filled counts as address space; a share of a process's own limit is all of it."""
    limits = f"Limit  Soft Limit  Hard Limit  Units\nMax data size  {2 * GIB + memory.RESERVED}  unlimited  bytes\n"
    limits += f"Max address space         {5 * GIB + memory.RESERVED}           unlimited            bytes     \n"
    status = f"Name:\tpython\nVmSize:\t {2 << 20} kB\nVmData:\t{1 << 20} kB\nThreads:\t1\n"
    proc = fabricated(tmp_path, {"self/limits": limits, "self/status": status})
    assert left(memory.rooms(proc)) == [12 * GIB, 3 * GIB, GIB]
    room = memory.share(2, proc)
    assert (room.bytes, room.shared) == (GIB, False)
    assert re.fullmatch(r"ulimit -d is \d\.\d GiB, of which 1\.0 GiB are used", room.said)


def asked(before: str = "") -> list[int]:
    """What a process of its own is told, after some lines of a shell."""
    code = "from millrace.core import memory; print(*[room.bytes for room in memory.rooms()])"
    script = f'{before}\nexec "$0" -c "{code}"'
    done = subprocess.run(["sh", "-ec", script, sys.executable], capture_output=True, text=True, timeout=60, check=True)
    return [int(word) for word in done.stdout.split()]


def test_ulimit_is_seen_by_the_process_that_has_it() -> None:
    """The shell's own, in KiB."""
    limit = GIB + memory.RESERVED
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    assert GIB // 2 < asked(f"ulimit -v {limit >> 10}")[-1] < GIB


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A memory cgroup with another one in it; without the right to make them the test is skipped."""
    top = Path("/sys/fs/cgroup")
    folder = (top if (top / "cgroup.controllers").exists() else top / "memory") / f"millrace-test-{os.getpid()}"
    inner = folder / "inner"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        inner.mkdir()
        yield folder
    finally:
        inner.rmdir()
        folder.rmdir()


def test_the_kernels_own_cgroup_is_seen(cgroup: Path) -> None:
    """A process goes by the limit of the cgroup above its own."""
    limit = cgroup / ("memory.max" if (cgroup / "cgroup.controllers").exists() else "memory.limit_in_bytes")
    if not limit.exists():
        pytest.skip(f"{cgroup} has no memory controller")
    limit.write_text(str(GIB))
    assert GIB // 2 < min(asked(f"echo $$ > {cgroup}/inner/cgroup.procs")) <= GIB
    assert min(asked()) != GIB
