"""Keeps the local Dataflow's jobs off the network: a job reaches what listens on this machine, and nothing else.

Two things hold a job. The kernel does (`confine`, seccomp): no connection is made unless `decide` allows it, whoever
asks: Python, gRPC's C core, a program that the job starts. It knows addresses alone, so Python is asked too (`watch`,
an audit hook): that one knows names, and fails a job at once with a sentence, where clients would take a refused
connection for a passing one and try for minutes.

It is there so that a test can't touch what is real by mistake; it is no wall against a program that means harm.
"""

import ctypes
import errno
import fcntl
import ipaddress
import os
import platform
import select
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
#: Numbers of the kernel's, by machine: the architecture, and system calls.
_MACHINES = {
    "x86_64": (0xC000003E, {"seccomp": 317, "connect": 42, "socket": 41, "sendto": 44, "sendmsg": 46, "sendmmsg": 307}),
    "aarch64": (
        0xC00000B7,
        {"seccomp": 277, "connect": 203, "socket": 198, "sendto": 206, "sendmsg": 211, "sendmmsg": 269},
    ),
}
_IO_URING_SETUP, _X32 = 425, 0x40000000
_MSG_FASTOPEN = 0x20000000
_TCP = (0, socket.IPPROTO_TCP)
_ALLOW, _ASK, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_RECEIVE, _SEND, _VALID = 0xC0502100, 0xC0182101, 0x40082102
#: struct seccomp_notif (id, pid, flags, number, architecture, instruction, arguments) and seccomp_notif_resp.
_NOTICE, _VERDICT = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_GO_ON = 1
_NAMES = 53
#: Where services of this machine listen that look up names, or run programs on the network, for others.
_DOORS = tuple(
    f"{run}/{name}"
    for run in ("/run", "/var/run")
    for name in ("nscd", "systemd/resolve", "dbus", "docker", "containerd", "podman")
)
#: Where programs ask whether they run on Google's machines; they are told that they do not.
_METADATA = ("metadata", "metadata.google.internal", "169.254.169.254")
_BLIND = "only Python's own connections are kept off the network, because this machine lets no process see another's"
_RULE = "no job of the local cloud reaches the network"
#: What of Google's is served where an emulator runs, and the variable that says so.
_EMULATORS = {"datastore": "DATASTORE_EMULATOR_HOST", "pubsub": "PUBSUB_EMULATOR_HOST"}
_GOOGLE = ".googleapis.com"


class UnreachableError(Exception):
    """The job asked for a host of the network. It is no OSError, because clients try again after such."""


def confine() -> int:
    """Have the kernel ask before this process, or one that it starts, connects; return where it asks.

    There is no way back. Raises OSError where the kernel can't.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, f"no filter of system calls is known for {platform.machine()}")
    program = _program(*machine)
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(b"".join(program))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "privileges can't be given up")
    listener = libc.syscall(machine[1]["seccomp"], _SET_MODE_FILTER, _NEW_LISTENER, described)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "system calls can't be filtered")
    return int(listener)


def _program(architecture: int, calls: dict[str, int]) -> list[bytes]:
    """Return the filter: connect() is asked for, and what could do without it is refused.

    Sockets are of this machine, or TCP's; no data goes with the opening of a connection; io_uring is not there.
    """

    def step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("=HBBI", code, then, otherwise, value)

    def argument(number: int) -> bytes:
        return step(_LOAD, 16 + 8 * number)

    def call(number: int, *steps: bytes) -> list[bytes]:
        return [step(_EQUAL, number, 0, len(steps)), *steps]

    def refuse(error: int) -> bytes:
        return step(_RETURN, _ERRNO | error)

    allow = step(_RETURN, _ALLOW)

    def without(number: int, bits: int) -> list[bytes]:
        return [argument(number), step(_ANY_BIT, bits, 0, 1), refuse(errno.EACCES), allow]

    families = (socket.AF_UNIX, socket.AF_NETLINK)
    opened = [
        argument(0),
        *(part for family in families for part in (step(_EQUAL, family, 0, 1), allow)),
        step(_EQUAL, socket.AF_INET, 2, 0),
        step(_EQUAL, socket.AF_INET6, 1, 0),
        refuse(errno.EAFNOSUPPORT),
        argument(1),
        step(_AND, 0xF),
        step(_EQUAL, socket.SOCK_STREAM, 1, 0),
        refuse(errno.EACCES),
        argument(2),
        *(part for protocol in _TCP for part in (step(_EQUAL, protocol, 0, 1), allow)),
        refuse(errno.EACCES),
    ]
    return [
        step(_LOAD, 4),
        step(_EQUAL, architecture, 1, 0),
        refuse(errno.EACCES),
        step(_LOAD, 0),
        step(_AT_LEAST, _X32, 0, 1),
        refuse(errno.ENOSYS),
        *call(calls["connect"], step(_RETURN, _ASK)),
        *call(calls["socket"], *opened),
        *call(calls["sendto"], *without(3, _MSG_FASTOPEN)),
        *call(calls["sendmsg"], *without(2, _MSG_FASTOPEN)),
        *call(calls["sendmmsg"], *without(3, _MSG_FASTOPEN)),
        *call(_IO_URING_SETUP, refuse(errno.ENOSYS)),
        allow,
    ]


def decide(listener: int, *, blind: bool = False) -> str:
    """Answer one question of the kernel's; return what was refused, as a sentence, or "".

    Call where the listener is readable. blind: whether nobody can see what is asked for, and so everything is allowed.
    """
    asked = bytearray(_NOTICE.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, asked)
    except FileNotFoundError:  # whoever asked is gone
        return ""
    id, pid, _, _, _, _, _, address, size, *_ = _NOTICE.unpack(asked)
    try:
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            memory.seek(address)
            found = memory.read(min(size, 128))
            host, port = _place(found)
    except PermissionError:
        host, port = ("" if blind else "an unknown address"), 0
    except (OSError, ValueError, struct.error):
        host, port = "an unknown address", 0
    door = host.startswith(_DOORS)
    allowed = not door and (not host or (is_here(host) and port != _NAMES))
    verdict = bytearray(_VERDICT.pack(id, 0, 0 if allowed else -errno.EACCES, _GO_ON if allowed else 0))
    with suppress(FileNotFoundError):  # whoever asked is gone
        fcntl.ioctl(listener, _SEND, verdict)
    # The C library knocks at some of the doors before it looks a name up elsewhere, be it this machine's own.
    return "" if allowed or door else refusal(host, port, _command(pid))


def _place(address: bytes) -> tuple[str, int]:
    """Return the host and port of a socket's address; no host for one that is of this machine by its kind.

    Of the sockets in the file system those count as hosts, by their paths, behind which somebody goes on the network.
    """
    family = int(struct.unpack_from("=H", address)[0])
    if family == socket.AF_UNIX:
        path = address[2:].partition(b"\0")[0].decode("utf-8", "replace")
        return (path if path.startswith(_DOORS) else ""), 0
    if family in (socket.AF_UNSPEC, socket.AF_NETLINK):
        return "", 0
    port = int(struct.unpack_from(">H", address, 2)[0])
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(address[4:8])), port
    if family == socket.AF_INET6:
        return str(ipaddress.IPv6Address(address[8:24])), port
    raise ValueError(f"family {family}")


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process"


class Guards:
    """Those who answer the kernel for the jobs: a link to each job's process, and the place where its kernel asks."""

    def __init__(self) -> None:
        self._links: list[socket.socket] = []
        self._listeners: dict[int, socket.socket] = {}
        self._blind = False

    def link(self) -> socket.socket:
        """Return a job's end of a new link."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._links.append(ours)
        return theirs

    def waiting(self) -> list[int]:
        """Return the descriptors where something may be said."""
        return [*(link.fileno() for link in self._links), *self._listeners]

    def answer(self, ready: int, event: int) -> None:
        """Do what is wanted at one of them. Where that fails, the job can't connect any more."""
        try:
            if ready in self._listeners:
                self._answer(ready, event)
            else:
                self._meet(next(each for each in self._links if each.fileno() == ready))
        except OSError:
            if ready in self._listeners:
                self._leave(ready)

    def _meet(self, link: socket.socket) -> None:
        self._links.remove(link)
        said, listeners, _, _ = socket.recv_fds(link, 16, 1)
        if not (said and listeners):
            link.close()
            return
        self._listeners[listeners[0]] = link
        try:
            open(f"/proc/{said.decode()}/mem", "rb").close()
        except PermissionError:  # as with kernel.yama.ptrace_scope = 2
            self._blind = True
            link.send(_BLIND.encode(), socket.MSG_DONTWAIT)

    def _answer(self, listener: int, event: int) -> None:
        if not event & select.POLLIN:  # nobody is left who could ask
            self._leave(listener)
        elif refused := decide(listener, blind=self._blind):
            with suppress(OSError):
                self._listeners[listener].send(refused.encode(), socket.MSG_DONTWAIT)

    def _leave(self, listener: int) -> None:
        os.close(listener)
        self._listeners.pop(listener).close()

    def forget(self) -> None:
        """Close everything, as in a job's process."""
        for listener, link in self._listeners.items():
            os.close(listener)
            link.close()
        for link in self._links:
            link.close()


def is_here(host: str) -> bool:
    """Return whether a name or address is this machine's own, by which it reaches itself."""
    name = host.strip("[]").rstrip(".").lower()
    if name in ("", "localhost", socket.gethostname().lower()) or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified or _is_own(str(address), address.version)


def _is_own(address: str, version: int) -> bool:
    """Return whether an address is one of this machine's interfaces: nobody can listen at others."""
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6) as listening:
        try:
            listening.bind((address, 0))
        except OSError:
            return False
    return True


def refusal(host: str, port: object, asking: str = "") -> str:
    """Return the sentence that says what was asked for, and what of it the local cloud has."""
    by = f" by {asking}" if asking else ""
    at = f", port {port}," if port else ""
    return f"{_RULE}, and {host}{at} was asked for{by}{_hint(host)}"


def _hint(host: str) -> str:
    service = host.removesuffix(_GOOGLE)
    if service == host:
        return ""
    if variable := _EMULATORS.get(service.removeprefix("batch-")):
        return f"; Google's emulator of it is reached where {variable} names one"
    return "; the local cloud does not serve it to this client"


def _check(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise UnreachableError where Python is about to reach what is not here."""
    if event[:7] != "socket.":
        return
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host, port = arguments[0], arguments[1] if len(arguments) > 1 else None
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(arguments[1], tuple):
        host, port = arguments[1][:2]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host is None or is_here(str(host)):
        return
    if str(host) in _METADATA:
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is no machine of the local cloud")
    raise UnreachableError(refusal(str(host), port))


def watch() -> None:
    """Have Python refuse, in this process, what is not here. There is no way back."""
    sys.addaudithook(_check)


def watch_grpc() -> None:
    """Have gRPC refuse channels to what is not here; its C core is no business of Python's hook."""
    import grpc._channel

    before: Callable[..., None] = grpc._channel.Channel.__init__

    def checked(self: Any, target: str, *arguments: Any, **more: Any) -> None:
        host, port = _target(target)
        if host is not None and not is_here(host):
            raise UnreachableError(refusal(host, port))
        before(self, target, *arguments, **more)

    grpc._channel.Channel.__init__ = checked


def _target(target: str) -> tuple[str | None, str]:
    """Return the host and port of a target of gRPC's; None for what is no host."""
    scheme, colon, rest = target.partition(":")
    if scheme in ("unix", "unix-abstract", "vsock"):
        return None, ""
    if colon and scheme in ("dns", "ipv4", "ipv6", "passthrough"):
        target = rest.rpartition("/")[2]
    host, _, port = target.rpartition(":")
    return (host, port) if host else (port, "")


def held(folder: os.PathLike[str]) -> None:
    """Write the module that has Python programs of a job watched, and led to the local BigQuery, for a folder of
    PYTHONPATH.
    """
    steps = {__file__: "watch", os.path.join(os.path.dirname(__file__), "beam_bigquery.py"): "lead"}
    with open(os.path.join(folder, "sitecustomize.py"), "w", encoding="utf-8") as file:
        file.write("import importlib.util\n")
        for path, step in steps.items():
            file.write(
                f"spec = importlib.util.spec_from_file_location('localcloud_{step}', {path!r})\n"
                "module = importlib.util.module_from_spec(spec)\n"
                "spec.loader.exec_module(module)\n"
                f"module.{step}()\n"
            )
