"""The jobs of the local Dataflow: what is known of each, and the workers that run them."""

import datetime
import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from google.cloud import dataflow_v1beta3 as api
from google.protobuf import json_format

from localcloud.dataflow_templates import Launch

_WORKER = Path(__file__).with_name("dataflow_worker.py")
#: States that a job never leaves, by what `jobs.list` calls them.
TERMINAL = ("JOB_STATE_DONE", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_UPDATED", "JOB_STATE_DRAINED")


class Workers:
    """The process that forks the jobs' processes (localcloud.dataflow_worker); it ends with this one."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, open(folder / "workers.log", "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, path: Path) -> tuple[int, IO[str]]:
        """Start a job that a file describes; return its process and the stream of its reports. Raises OSError."""
        reading, writing = os.pipe()
        try:
            pid = int(self._ask(f"run {path}", writing))
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return pid, os.fdopen(reading, encoding="utf-8")

    def end(self, pid: int) -> None:
        """End a job's process group, if it is still there."""
        self._ask(f"end {pid}")

    def stop(self) -> None:
        """End every job, and the process that forks them."""
        self._channel.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the system kills the jobs
            self._process.wait()
        self._channel.close()

    def _ask(self, command: str, *pipes: int) -> bytes:
        with self._lock:
            socket.send_fds(self._channel, [command.encode()], pipes)
            answer = self._channel.recv(1 << 16)
        if not answer:
            raise ConnectionError("the local Dataflow's workers are gone")
        return answer


@dataclass(frozen=True)
class Message:
    """One of a job's messages; importance is a name of JobMessageImportance."""

    time: datetime.datetime
    importance: str
    text: str


@dataclass
class Stage:
    """A stage of a job, as it is executed: transforms, fused.

    ended: None until it is done with what it had so far. told: whether a message said so.
    """

    id: str
    name: str
    transforms: list[str]
    started: datetime.datetime | None = None
    ended: datetime.datetime | None = None
    told: bool = False


@dataclass
class Job:
    """A job. submitted: the api.Job that was asked for; asked: the state that somebody wants it to go to.

    launch: of a flex template, what is to make the job; until then "submitted" holds only its name. graph: the
    transforms that were submitted; stages: what the worker made of them.
    metrics: the worker's last report of them. workers: (time, number) whenever the number changed. held: why the job is
    RUNNING and executes nothing, "" where it executes. behind: of a streaming job, by how many seconds its system and
    data watermarks are behind; tests set it.
    """

    id: str
    project: str
    location: str
    submitted: Any
    unseen: int = 0
    state: str = "JOB_STATE_PENDING"
    asked: str = ""
    attempts: int = 0
    error: str = ""
    pid: int = 0
    replaced_by: str = ""
    launch: Launch | None = None
    graph: list[dict[str, Any]] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    created: datetime.datetime = field(default_factory=lambda: now())
    entered: datetime.datetime = field(default_factory=lambda: now())
    started: datetime.datetime | None = None
    messages: list[Message] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    held: str = ""
    behind: tuple[float, float] = (0.0, 0.0)
    workers: list[tuple[datetime.datetime, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.submitted.name)

    @property
    def client_request_id(self) -> str:
        """What its creator called the request for it."""
        return str(self.submitted.client_request_id)

    @property
    def options(self) -> dict[str, Any]:
        """The pipeline options, as the workers get them."""
        found = json_format.MessageToJson(api.Environment.pb(self.submitted.environment).sdk_pipeline_options)
        return dict(json.loads(found, parse_float=_number).get("options", {}))

    @property
    def streaming(self) -> bool:
        """Whether it was submitted as a streaming job."""
        return bool(self.submitted.type_ == api.JobType.JOB_TYPE_STREAMING)

    @property
    def over(self) -> bool:
        """Whether its state is terminal."""
        return self.state in TERMINAL

    def say(self, importance: str, text: str) -> None:
        """Add a message."""
        self.messages.append(Message(now(), importance, text))


def now() -> datetime.datetime:
    """Return the time, with its zone."""
    return datetime.datetime.now(datetime.UTC)


def _number(text: str) -> float:
    """Return a number of a Struct, which has no whole numbers; Beam's options take no 1.0 for 1."""
    value = float(text)
    return int(value) if value.is_integer() else value


def new_id() -> str:
    """Return a job id as Dataflow gives them: 2026-11-21_06_12_01-1234567890123456789."""
    return f"{now():%Y-%m-%d_%H_%M_%S}-{random.SystemRandom().randrange(10**18, 10**19)}"
