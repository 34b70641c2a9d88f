"""How much memory a process may still take: what the machine has left, its cgroups allow, and its own limits.

A container, a systemd unit or a `ulimit` may allow less than the machine has, and what goes beyond is killed. All of it
stands in /proc, and in the cgroups' folders, whose places /proc tells. Where there is no /proc, the machine's memory
counts alone.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

#: Address space that allocators and threads reserve and don't fill in a process that runs a pipeline: up to 1.4 GiB
#: where two processors were there, and the more threads, the more processors.
RESERVED = (5 << 28) + (os.cpu_count() or 1) * (160 << 20)
#: cgroup v1 says so where there is no limit: the largest number of whole pages.
_UNLIMITED = 1 << 62
_V1, _V2 = "cgroup", "cgroup2"
#: Files of a memory cgroup by its version: its limits, what is used, and of that the cached files, which the kernel
#: drops first.
_FILES = {
    _V1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
    _V2: (("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file")),
}


class Room(NamedTuple):
    """Bytes that may still be taken, by whose word, and whether all processes of a run share them."""

    bytes: int
    said: str
    shared: bool = True


def share(workers: int, proc: str = "/proc") -> Room:
    """Return what each of some processes may take, by the tightest limit."""
    each = [room._replace(bytes=room.bytes // workers) if room.shared else room for room in rooms(proc)]
    return min(each, key=lambda room: room.bytes)


def rooms(proc: str = "/proc") -> list[Room]:
    """Return what this process may still take by each limit that there is."""
    return [_of_machine(proc), *_of_cgroups(proc), *_of_process(proc)]


def shown(size: int) -> str:
    """Return bytes as people say them."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"


def _of_machine(proc: str) -> Room:
    there = _numbers(f"{proc}/meminfo", 1024)
    if "MemTotal" in there:
        free = there.get("MemAvailable", there["MemTotal"])
        return Room(free, f"of the machine's {shown(there['MemTotal'])} {shown(free)} are left")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Room(pages, f"the machine has {shown(pages)}")


def _of_process(proc: str) -> Iterator[Room]:
    """Yield what `ulimit` allows this process alone."""
    used = _numbers(f"{proc}/self/status", 1024)
    for name, flag, of in (("Max address space", "-v", "VmSize"), ("Max data size", "-d", "VmData")):
        found = re.search(rf"^{name}\s+(\d+)", _read(f"{proc}/self/limits"), re.MULTILINE)
        if found:
            limit, taken = int(found[1]), used.get(of, 0)
            left = max(0, limit - taken - RESERVED)
            yield Room(left, f"ulimit {flag} is {shown(limit)}, of which {shown(taken)} are used", shared=False)


def _of_cgroups(proc: str) -> Iterator[Room]:
    """Yield what the memory cgroups of this process allow, each of them and those that they lie in."""
    for kind, top, folder in _folders(proc):
        limits, usage, cached = _FILES[kind]
        while True:
            for name in limits:
                limit = _read(f"{folder}/{name}").strip()
                if limit.isdecimal() and int(limit) < _UNLIMITED:
                    stat = _numbers(f"{folder}/memory.stat")
                    used = int(_read(f"{folder}/{usage}") or 0) - sum(stat.get(each, 0) for each in cached)
                    left = max(0, int(limit) - max(0, used))
                    said = (
                        f"{name} of the cgroup {folder} is {shown(int(limit))}, of which {shown(max(0, used))} are used"
                    )
                    yield Room(left, said)
            if folder in (top, os.path.dirname(folder)):
                break
            folder = os.path.dirname(folder)


def _folders(proc: str) -> Iterator[tuple[str, str, str]]:
    """Yield version, mount point and folder of the cgroups of this process that may limit memory."""
    own: dict[str, str] = {}
    for line in _read(f"{proc}/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            own[_V2 if number == "0" else _V1] = path
    for line in _read(f"{proc}/self/mountinfo").splitlines():
        place, _, kind = line.partition(" - ")
        _, _, _, root, mount, *_ = map(_unescaped, place.split(" "))
        version, _, options = kind.split(" ", 2)
        if version in own and (version == _V2 or "memory" in options.split(",")):
            # What is mounted may be a part of the tree, as in a container; what lies outside of it is not to be seen.
            path = own[version]
            inside = path[len(root.rstrip("/")) :] if f"{path}/".startswith(f"{root.rstrip('/')}/") else ""
            folder = os.path.normpath(f"{mount}/{inside}") if "/.." not in inside else mount
            yield version, mount, folder if os.path.isdir(folder) else mount


def _unescaped(text: str) -> str:
    """Return a field of mountinfo, in which spaces are octal numbers."""
    return re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), text)


def _numbers(path: str, unit: int = 1) -> Mapping[str, int]:
    """Return the numbers of a file of names and numbers."""
    return {name: int(value) * unit for name, value in re.findall(r"^(\w+):?\s+(\d+)", _read(path), re.MULTILINE)}


def _read(path: str) -> str:
    """Return a file; "" for one that is not there or may not be read."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
    return ""
