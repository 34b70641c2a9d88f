"""The life of the local Dataflow's jobs: from PENDING, or a flex template's launch, to a terminal state."""

import json
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from localcloud.dataflow_jobs import Job, Stage, Workers, now

#: What a job's workers are, and how many there may be, where it does not say.
_MACHINE, _WORKERS = "n1-standard-1", 1000
#: Images that are Beam's own.
_BEAMS = re.compile(r"(^|/)beam_python[0-9.]+_sdk(:|$)")
#: How much of a launcher's log an error has.
_LOG_END = 20_000
_LOST = (
    "The worker lost contact with the service. The process of the job ended without a word, as one does that is "
    "killed, or out of memory."
)


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
        self._slow: list[tuple[str, float, float]] = []
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
        pools, place = job.submitted.environment.worker_pools, job.submitted.environment.worker_zone or job.location
        kind = next((pool.machine_type for pool in pools if pool.machine_type), _MACHINE)
        most = next((pool.autoscaling_settings.max_num_workers for pool in pools), 0) or _WORKERS
        job.say("JOB_MESSAGE_BASIC", f"Worker configuration: {kind} in {place}.")
        job.say(
            "JOB_MESSAGE_DETAILED",
            f"Autoscaling is enabled for job {job.id}. The number of workers will be between 1 and {most}.",
        )
        named = [image.container_image for pool in pools for image in pool.sdk_harness_container_images]
        if own := [each for each in named if not _BEAMS.search(each)]:
            text = f"The workers are this machine's Python, with what is installed here, and not {', '.join(own)}."
            job.say("JOB_MESSAGE_DETAILED", text)
        thread = threading.Thread(target=self._live, args=(job,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def resume(self, job: Job) -> None:
        """Go on with a job of an earlier service. What it did is lost, and so it begins anew; a launch can't."""
        job.attempts, job.held, job.metrics, job.stages, job.workers = 0, "", {}, [], []
        if job.options.get("pipelineUrl"):
            job.say("JOB_MESSAGE_BASIC", "The local Dataflow was started again, and the job begins anew.")
            job.state = "JOB_STATE_PENDING"
            self.begin(job)
            return
        job.error = "Workflow failed. Causes: The local Dataflow ended before the launcher of the job did."
        job.say("JOB_MESSAGE_ERROR", job.error)
        self._enter(job, job.asked or "JOB_STATE_FAILED")

    def hold(self, pattern: str) -> None:
        """Keep jobs with such names, a shell pattern, RUNNING without doing anything, until `release`."""
        with self.changed:
            self._held.append(pattern)

    def stick(self, pattern: str) -> None:
        """Keep jobs with such names CANCELLING, or DRAINING, until `release`."""
        with self.changed:
            self._stuck.append(pattern)

    def fail(self, pattern: str, message: str) -> None:
        """Let jobs with such names fail with a message, without doing anything."""
        with self.changed:
            self._failing.append((pattern, message))

    def take(self, pattern: str, *, pending: float = 0, running: float = 0) -> None:
        """Let jobs with such names take time: seconds PENDING before they run, and RUNNING at least."""
        with self.changed:
            self._slow.append((pattern, pending, running))

    def release(self) -> None:
        """End what `hold`, `stick`, `fail` and `take` asked for."""
        with self.changed:
            self._slow.clear()
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
        if state == "JOB_STATE_CANCELLED":
            job.say("JOB_MESSAGE_BASIC", f"Cancel request is committed for workflow job: {job.id}.")
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
            if job.asked in ("JOB_STATE_CANCELLED", "JOB_STATE_DRAINED"):
                self.changed.wait_for(lambda: self._stopping or not _matches(job, self._stuck))
            if self._stopping:
                return
            job.error = error
            failed = error and job.asked in ("", "JOB_STATE_DRAINED")
            if failed:
                job.say("JOB_MESSAGE_ERROR", f"Workflow failed. Causes: {_cause(error, job.attempts)}")
            if job.workers:
                self._clean_up(job)
            self._enter(job, "JOB_STATE_FAILED" if failed else job.asked or "JOB_STATE_DONE")

    def _lived(self, job: Job) -> str:
        """Bring a job to what comes before its end; return the error, or ""."""
        if job.launch and (error := self._launched(job)):
            return error
        with self.changed:
            slow = next((each for each in self._slow if _matches(job, [each[0]])), ("", 0, 0))
            if slow[1]:
                self._enter(job, "JOB_STATE_PENDING")
                self.changed.wait_for(lambda: self._stopping or job.asked or not self._slow, slow[1])
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
        with self.changed:
            if job.held:
                self.changed.wait_for(lambda: self._stopping or job.asked)
            else:
                left = slow[2] - (now() - job.started).total_seconds()
                self.changed.wait_for(lambda: self._stopping or job.asked or not self._slow, max(left, 0.0))
        return error

    def _tried(self, job: Job) -> str:
        job.say("JOB_MESSAGE_DEBUG", "Starting worker pool setup.")
        job.say(
            "JOB_MESSAGE_BASIC", f"Starting 1 workers in {job.submitted.environment.worker_zone or job.location}..."
        )
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

    def _clean_up(self, job: Job) -> None:
        job.say("JOB_MESSAGE_DETAILED", "Cleaning up.")
        job.say("JOB_MESSAGE_DEBUG", "Starting worker pool teardown.")
        job.say("JOB_MESSAGE_BASIC", "Stopping worker pool...")
        job.say("JOB_MESSAGE_DETAILED", "Autoscaling: Resized worker pool from 1 to 0.")
        job.say("JOB_MESSAGE_BASIC", "Worker pool stopped.")

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
