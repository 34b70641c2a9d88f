"""The jobs of the local Dataflow: what is known of each, and their life from PENDING to a terminal state."""

import datetime
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from google.cloud import dataflow_v1beta3 as api
from google.protobuf import json_format

from localcloud.dataflow_templates import Launch

_WORKER = Path(__file__).with_name("dataflow_worker.py")
#: States that a job never leaves, by what `jobs.list` calls them.
TERMINAL = ("JOB_STATE_DONE", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_UPDATED", "JOB_STATE_DRAINED")
#: How much of a launcher's log an error has.
_LOG_END = 20_000
_LOST = (
    "The worker lost contact with the service. The process of the job ended without a word, as one does that is "
    "killed, or out of memory."
)


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


class Life:
    """Moves jobs from state to state, a thread each, and runs them: `at_once` at a time, each up to `tries` times."""

    def __init__(
        self,
        start_workers: Callable[[Path], Workers],
        at_once: int,
        tries: int,
        take: Callable[[Job, str], str],
    ) -> None:
        self.changed = threading.Condition()
        self._folder = Path()
        self._start_workers = start_workers
        self._workers: Workers | None = None
        self._free = at_once
        self._tries = tries
        #: Makes of a launched job what its launcher wrote; gets the log, returns the error.
        self._take = take
        self._held: list[str] = []
        self._stuck: list[str] = []
        self._failing: list[tuple[str, str]] = []
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Get ready to run jobs."""
        self._folder = Path(tempfile.mkdtemp(prefix="local-dataflow-"))

    def stop(self) -> None:
        """End every process; the jobs stay in the states they are in."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
            if self._workers:
                self._workers.stop()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self._folder)

    def begin(self, job: Job) -> None:
        """Begin a job's life."""
        job.say("JOB_MESSAGE_BASIC", f"Worker configuration: 1 worker, of this machine, for {job.location}.")
        thread = threading.Thread(target=self._live, args=(job,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def hold(self, pattern: str) -> None:
        """Keep jobs with such names, a shell pattern, RUNNING without doing anything, until `release`."""
        with self.changed:
            self._held.append(pattern)

    def stick(self, pattern: str) -> None:
        """Keep jobs with such names CANCELLING, until `release`."""
        with self.changed:
            self._stuck.append(pattern)

    def fail(self, pattern: str, message: str) -> None:
        """Let jobs with such names fail with a message, without doing anything."""
        with self.changed:
            self._failing.append((pattern, message))

    def release(self) -> None:
        """End what `hold`, `stick` and `fail` asked for."""
        with self.changed:
            self._held.clear()
            self._stuck.clear()
            self._failing.clear()
            self.changed.notify_all()

    def ask(self, job: Job, state: str) -> None:
        """Have a job that is not over go to CANCELLED, DRAINED or UPDATED, by way of what lies between.

        Call with `changed` held.
        """
        if job.over:
            return
        job.asked = state
        between = {"JOB_STATE_CANCELLED": "JOB_STATE_CANCELLING", "JOB_STATE_DRAINED": "JOB_STATE_DRAINING"}
        self._enter(job, between.get(state, job.state))
        if job.pid and state != "JOB_STATE_DRAINED" and self._workers:
            self._workers.end(job.pid)
        self.changed.notify_all()

    def _enter(self, job: Job, state: str) -> None:
        if state != job.state:
            job.state, job.entered = state, now()
            self.changed.notify_all()

    def _live(self, job: Job) -> None:
        error = self._lived(job)
        with self.changed:
            if job.asked == "JOB_STATE_CANCELLED":
                self.changed.wait_for(lambda: self._stopping or not _matches(job, self._stuck))
            if self._stopping:
                return
            job.error = error
            if job.asked and not (error and job.asked == "JOB_STATE_DRAINED"):
                self._enter(job, job.asked)
            elif error:
                job.say("JOB_MESSAGE_ERROR", f"Workflow failed. Causes: {_cause(error, job.attempts)}")
                self._enter(job, "JOB_STATE_FAILED")
            else:
                self._enter(job, "JOB_STATE_DONE")

    def _lived(self, job: Job) -> str:
        """Bring a job to what comes before its end; return the error, or ""."""
        if job.launch and (error := self._launched(job)):
            return error
        with self.changed:
            if _matches(job, self._held) or _matches(job, [pattern for pattern, _ in self._failing]):
                self._enter(job, "JOB_STATE_RUNNING")
                job.started = now()
            self.changed.wait_for(lambda: self._stopping or job.asked or not _matches(job, self._held))
            for pattern, message in self._failing:
                if not job.asked and _matches(job, [pattern]):
                    job.say("JOB_MESSAGE_ERROR", message)
                    return message
            if not self._free and not job.asked and not job.started:
                self._enter(job, "JOB_STATE_QUEUED")
            self.changed.wait_for(lambda: self._stopping or job.asked or self._free)
            if self._stopping or job.asked:
                return ""
            self._free -= 1
            job.started = job.started or now()
            self._enter(job, "JOB_STATE_RUNNING")
        try:
            error = self._tried(job)
        finally:
            with self.changed:
                self._free += 1
                self.changed.notify_all()
        if job.held:
            with self.changed:
                self.changed.wait_for(lambda: self._stopping or job.asked)
        return error

    def _tried(self, job: Job) -> str:
        job.workers.append((now(), 1))
        error = ""
        while job.attempts < self._tries and not job.asked:
            job.attempts += 1
            try:
                error = self._executed(job)
            except OSError as problem:
                error = f"The local Dataflow could not run the job: {problem}."
            if not error:
                break
            if not (self._stopping or job.asked):
                job.say("JOB_MESSAGE_ERROR", error)
        job.workers.append((now(), 0))
        return error

    def _launched(self, job: Job) -> str:
        """Run the process that is to make the job; return the error, or ""."""
        assert job.launch
        name = f"{job.id}.launcher"
        job.say("JOB_MESSAGE_BASIC", f"Console log from launcher will be available at {job.launch.log}.")
        try:
            described = {"command": job.launch.command, "folder": job.launch.folder or str(self._folder)}
            error = self._reported(job, name, described)
            log = (self._folder / f"{name}.json.log").read_text(encoding="utf-8", errors="replace")
        except OSError as problem:
            return f"The local Dataflow could not launch the job: {problem}."
        if job.asked or self._stopping:
            return ""
        if not error and not (error := self._take(job, log)):
            return ""
        error = (
            f"Error occurred in the launcher container: Template launch failed. See console logs.\n{error}\n{_end(log)}"
        )
        job.say("JOB_MESSAGE_ERROR", error)
        return error

    def _executed(self, job: Job) -> str:
        """Run the job's pipeline to its end; return the error, or ""."""
        described = {
            "name": job.name,
            "pipeline_url": job.options["pipelineUrl"],
            "options": job.options,
            "packages": str(self._folder / "packages"),
        }
        return self._reported(job, f"{job.id}.{job.attempts}", described)

    def _reported(self, job: Job, name: str, described: Mapping[str, Any]) -> str:
        """Run a process of the job's to its end and note its reports; return the error, or ""."""
        spec = self._folder / f"{name}.json"
        spec.write_text(json.dumps(described), encoding="utf-8")
        workers = self._ready()
        pid, reports = workers.run(spec)
        with self.changed:
            job.pid = pid
            if job.asked in ("JOB_STATE_CANCELLED", "JOB_STATE_UPDATED"):
                workers.end(pid)
        error = _LOST
        with reports:
            for line in reports:
                if not line.endswith("\n"):  # killed while it wrote
                    break
                report = json.loads(line)
                if "message" in report:
                    job.say(*report["message"])
                elif "held" in report:
                    job.held = report["held"]
                    job.say("JOB_MESSAGE_WARNING", job.held)
                elif "graph" in report:
                    job.graph = report["graph"]
                elif "stages" in report:
                    job.stages = [Stage(**each) for each in report["stages"]]
                elif "stage" in report:
                    self._go_on(job, **report["stage"])
                elif "metrics" in report:
                    job.metrics = report["metrics"]
                else:
                    error = report["end"] or ""
                    break
        with self.changed:
            job.pid = 0
        with suppress(OSError):  # the workers end before the service does
            workers.end(pid)
        return error

    def _go_on(self, job: Job, id: str, *, done: bool) -> None:
        """Note that a stage begins to work, or is done with what it had."""
        stage = next(each for each in job.stages if each.id == id)
        first = stage.started is None
        stage.started = stage.started or now()
        stage.ended = now() if done else None
        operation = "+".join(stage.transforms)
        if first and not done:
            job.say("JOB_MESSAGE_BASIC", f"Executing operation {operation}")
        if done and not stage.told:
            stage.told = True
            job.say("JOB_MESSAGE_BASIC", f"Finished operation {operation}")

    def _ready(self) -> Workers:
        """Return the workers, which the first job starts, because most clouds of tests never need them.

        Raises OSError at the end.
        """
        with self.changed:
            if self._stopping:
                raise OSError("the local Dataflow is stopping")
            self._workers = self._workers or self._start_workers(self._folder)
            return self._workers


def _matches(job: Job, patterns: list[str]) -> bool:
    return any(fnmatchcase(job.name, pattern) for pattern in patterns)


def _cause(error: str, attempts: int) -> str:
    if attempts == 0:
        return error
    return (
        f"The job failed because a work item has failed {attempts} times. Look in previous log entries for the cause "
        f"of each one of the {attempts} failures."
    )


def _end(log: str) -> str:
    return log if len(log) <= _LOG_END else f"…{log[-_LOG_END:]}"
