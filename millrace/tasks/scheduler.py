"""How a run deals with luigid, be it ours or one that a team shares, with whatever settings.

luigid remembers longer than a run lasts. What failed, what was interrupted, what another run holds and what luigid has
forgotten must not keep the next run from healing. So this module says, on top of luigi's own worker:

- A failure is no reason to shut a task out of later runs. In the run in which a task failed it is not tried again.
- A run that is stopped tells luigid so, instead of leaving its tasks to look as if they were running.
- A run whose tasks another run is at work on waits for that run, as it does without luigid. What that run leaves
  undone, and what luigid has forgotten or shut out, is asked for again.
- A luigid that does not answer is one sentence and an exit code of its own. What is running then still ends.
"""

import json
import logging
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import luigi.interface
import tenacity
from luigi.rpc import RemoteScheduler, RPCError
from luigi.scheduler import WORKER_STATE_DISABLED, Scheduler
from luigi.task_status import DONE, FAILED, PENDING, RUNNING, UNKNOWN
from luigi.worker import GetWorkResponse

from millrace.common.text import plain
from millrace.tasks import advice, sections, waits, workers
from millrace.tasks.approval import Approval
from millrace.tasks.service import Service

log = logging.getLogger("millrace")
luigis_log = logging.getLogger("luigi-interface")

#: The exit code of a run whose luigid does not answer.
LUIGID_GONE = 45
#: So many failures, within so many seconds, that luigid never shuts a task out.
_NEVER = {"retry_count": 999_999_999, "disable_hard_timeout": 999_999_999}
#: Seconds for a connection; for luigid to come back to a run; for luigid to give work that nothing seems to hold up.
_CONNECT, _AWAY, _FRUITLESS = 3.05, 5.0, 15.0
# luigi's classes have no type hints, and some of their methods only when they run.
_Remote: Any = RemoteScheduler
_luigi: Any = luigi.interface
_REASON = re.compile(r"\[Errno -?\d+\] ([^'\")\]]+)")


def install() -> None:
    """Make the runs of this process deal with luigid as this module says."""
    _luigi._WorkerSchedulerFactory = _Factory  # the command gives no other way to choose a worker


class _Factory(_luigi._WorkerSchedulerFactory):  # type: ignore[misc]
    """What a run talks to, and the worker that does."""

    def create_local_scheduler(self) -> Scheduler:
        # luigi's, which would take no task to be done again that it has just seen done.
        return Scheduler(prune_on_get_work=True, record_task_history=False, stable_done_cooldown_secs=0)

    def create_remote_scheduler(self, url: str) -> "Luigid":
        luigid = Luigid(url)
        try:
            luigid.prune()  # runs that died since luigid last looked hold nothing from here on
        except RPCError as error:
            luigis_log.error("%s; %s starts one, and --local-scheduler runs without", error, advice.program("luigid"))
            raise SystemExit(LUIGID_GONE) from None
        return luigid

    def create_worker(
        self, scheduler: "Scheduler | Luigid", worker_processes: int, assistant: bool = False
    ) -> workers.Worker:
        kind = Worker if isinstance(scheduler, Luigid) else workers.Worker
        return kind(scheduler=scheduler, worker_processes=worker_processes, assistant=assistant)


class Luigid(_Remote):  # type: ignore[misc]
    """luigid, as a run and the processes of its tasks ask it. Raises RPCError, with a sentence for people."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        #: What luigid did not answer, once it has been given up.
        self.lost = ""
        self._silent_since: float | None = None

    @property
    def name(self) -> str:
        """Luigid's address, without what may not be shown."""
        parts = urlsplit(self._url)
        return f"luigid at {parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()}"

    def lose(self, error: RPCError) -> None:
        """Give luigid up, and say so, once."""
        if not self.lost:
            self.lost = str(error)
            luigis_log.error(
                "%s; what is running ends, nothing further is begun, and the same command goes on from here", error
            )

    def add_task(self, **task: Any) -> None:
        """Tell luigid of a task, or of its state; a failure is never to shut it out, unless the task says when."""
        said = {key: value for key, value in (task.get("retry_policy_dict") or {}).items() if value is not None}
        super().add_task(**{**task, "retry_policy_dict": {**_NEVER, **said}})

    def set_task_status_message(self, task_id: str, status_message: str | None) -> None:
        """Show a message, which luigid's page takes for HTML."""
        super().set_task_status_message(task_id, _harmless(status_message))

    def add_scheduler_message_response(self, task_id: str, message_id: str, response: str | None) -> None:
        """Answer a message, in what luigid's page takes for HTML."""
        super().add_scheduler_message_response(task_id, message_id, _harmless(response))

    def announce_scheduling_failure(self, **failure: Any) -> None:
        """Tell luigid, for its mail, what could not be scheduled. If luigid is gone, the next question finds out."""
        with suppress(RPCError):
            super().announce_scheduling_failure(**failure)

    def add_task_batcher(self, **batcher: Any) -> None:
        """Tell luigid which tasks may be one. If luigid is gone, the next question finds out."""
        with suppress(RPCError):
            super().add_task_batcher(**batcher)

    def ping(self, **worker: Any) -> Mapping[str, Any] | None:
        """Tell luigid that this run lives; return None if luigid does not answer, and give it up if it stays away."""
        try:
            answer: Mapping[str, Any] = super().ping(**worker)
        except RPCError as error:
            self._silent_since = self._silent_since or time.monotonic()
            if time.monotonic() - self._silent_since > _AWAY:
                self.lose(error)
            return None
        self._silent_since = None
        return answer

    def running_elsewhere(self, worker: str) -> dict[str, Mapping[str, Any]]:
        """Return the tasks that other workers than this are at work on, by id."""
        found = self.task_list(status=RUNNING, upstream_status="", search="")
        return {id: task for id, task in found.items() if isinstance(task, dict) and task["worker_running"] != worker}

    def wanted_by_others(self, task_id: str, worker: str) -> bool:
        """Return whether a living worker other than this one has asked for a task that is running."""
        task = self.task_list(status=RUNNING, upstream_status="", search="").get(task_id, {})
        return any(other != worker for other in task.get("workers", ()))

    def _request(self, url: str, data: Any, attempts: int = 3, allow_null: bool = True) -> Any:
        try:
            return super()._request(url, data, attempts, allow_null)
        except (ValueError, KeyError, TypeError):
            raise RPCError(f"what answers at {self.name.removeprefix('luigid at ')} is no luigid") from None

    def _fetch(self, url_suffix: str, body: Any) -> str:
        attempts = 1 if url_suffix == "/api/ping" else self._rpc_retry_attempts
        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(self._fetcher.raises),
            stop=tenacity.stop_after_attempt(attempts),
            wait=tenacity.wait_fixed(self._rpc_retry_wait),
            reraise=True,
        )

        def ask() -> str:
            if self.lost:
                raise RPCError(self.lost)
            answer: str = self._fetcher.fetch(self._url + url_suffix, body, (_CONNECT, self._connect_timeout))
            return answer

        try:
            return again(ask)
        except self._fetcher.raises as error:
            raise RPCError(f"{self.name} does not answer ({_reason(error)})") from None


class Worker(workers.Worker):
    """The worker of a run, at a luigid."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: What luigid was asked to have done and is not done yet, and what is done, by id, as it was told; what failed.
        self._asked: dict[str, dict[str, Any]] = {}
        self._done: dict[str, dict[str, Any]] = {}
        self._failed: set[str] = set()
        self._fruitless_since: float | None = None
        self._waited = False
        #: Whether something was given back since work was last asked for; what was, ever.
        self._gave_back = False
        self._given_back: set[str] = set()

    def run(self) -> bool:
        """Run as luigi's worker does. Raises SystemExit if luigid was given up."""
        succeeded = not self._scheduler.lost and super().run()
        with suppress(RPCError):  # a luigid that is gone shows nothing
            self._end_waits()
        if self._scheduler.lost:
            raise SystemExit(LUIGID_GONE)
        return bool(succeeded)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        for task_id in self._running_tasks:  # luigid would take these tasks for running until it misses this worker
            with suppress(RPCError):
                expl = json.dumps(str(value) or "stopped")
                self._scheduler.add_task(worker=self._id, task_id=task_id, status=FAILED, runnable=False, expl=expl)

    def _end_waits(self) -> None:
        """Tell luigid that what was waited for is over, where nothing waits for it any more; luigid would show it as
        pending for another ten minutes. What this run waits for is not asked about, of which there may be thousands.
        """
        known = self._scheduler.task_list(status=PENDING, upstream_status="", search=waits.FAMILY)
        for task_id, task in known.items():
            if isinstance(task, dict) and task["name"] == waits.FAMILY and task_id not in self.waits.ids():
                needing = self._scheduler.inverse_dep_graph(task_id=task_id)
                if not any(each["status"] == PENDING for other, each in needing.items() if other != task_id):
                    self._scheduler.add_task(worker=self._id, task_id=task_id, status=DONE)

    def _add_worker(self) -> None:
        try:
            super()._add_worker()
        except RPCError as error:
            self._scheduler.lose(error)

    def _tell(self, *args: Any, **task: Any) -> None:
        task_id, status, message = task["task_id"], task["status"], ""
        self._failed.discard(task_id)
        self._done.pop(task_id, None)
        before = self._asked.pop(task_id, {})
        if status == PENDING and task["runnable"] is not False:
            needs = [*(before.get("deps") or ()), *(task.pop("deps", None) or ()), *(task.get("new_deps") or ())]
            self._asked[task_id] = {**task, "deps": list(dict.fromkeys(needs)), "runnable": True}
            task["deps"] = self._asked[task_id]["deps"]
        elif status == DONE:
            # How a service stands, or who approved, is to be seen also while there is nothing to do.
            link, message = _shown(self._scheduled_tasks.get(task_id))
            task |= {"tracking_url": link} if link else {}
            self._done[task_id] = {**task}
        elif status == FAILED:
            self._failed.add(task_id)
        try:
            super()._tell(*args, **task)
            if message:
                self._scheduler.set_task_status_message(task_id, message)
        except RPCError as error:
            self._scheduler.lose(error)

    def _get_work(self) -> GetWorkResponse:
        try:
            work: GetWorkResponse = super()._get_work()
            while self._gave_back:
                self._gave_back = False
                work = super()._get_work()
            refused: set[str | None] = set()
            # A luigid that tries again at once what failed would give several such tasks in turn without end.
            while work.task_id in refused or (work.task_id is not None and self._refuses(work.task_id)):
                self._scheduler.add_task(worker=self._id, task_id=work.task_id, status=FAILED, runnable=False)
                again = work.task_id in refused
                refused.add(work.task_id)
                work = work._replace(task_id=None) if again else super()._get_work()
        except RPCError as error:
            self._scheduler.lose(error)
        if self._scheduler.lost:
            return GetWorkResponse(None, 0, 0, 0, 0, WORKER_STATE_DISABLED)
        if work.task_id is not None:
            self._fruitless_since = None
        # What others are at work on is waited for, and is no result of this run.
        if not self._assistant and sections.waits():
            for asked in self._get_work_response_history[-1:]:
                asked["running_tasks"] = []
        return work

    def _gives_back(self, task_id: str) -> bool:
        """Give a task back, once, if something that it needs is not done: luigid has seen that done a moment ago, and
        takes nobody's word for a while that it is to be done again.
        """
        undone = (
            [] if task_id in self._given_back else [need for need in self._needs(task_id) if not self._is_done(need)]
        )
        if not undone:
            return False
        self._given_back.add(task_id)
        self._gave_back = True
        for need in undone:
            self._scheduler.add_task(worker=self._id, task_id=need, status=UNKNOWN)  # that is believed at once
            self._add_task(**self._asked[need])
        self._scheduler.add_task(**{**self._asked[task_id], "new_deps": undone})
        return True

    def _needs(self, task_id: str) -> list[str]:
        """Return what a task needs that this run has asked for and not heard to be done."""
        return [need for need in self._asked.get(task_id, {}).get("deps") or () if need in self._asked]

    def _is_done(self, task_id: str) -> bool:
        """Return whether another run has done what this one asks for; luigid is told so."""
        try:
            done = bool(self._scheduled_tasks[task_id].complete())
        except Exception as error:
            log.warning("%s: %s", self._scheduled_tasks[task_id], error)
            return False
        if done:
            self._add_task(**{**self._asked[task_id], "status": DONE, "deps": None, "runnable": False})
        return done

    def _refuses(self, task_id: str) -> bool:
        """Return whether a task failed in this run and is not done again, as it is if it says so or another run wants
        it.
        """
        if task_id not in self._failed or self._scheduled_tasks[task_id].retry_count is not None:
            return False
        return not self._scheduler.wanted_by_others(task_id, self._id)

    def _keep_alive(self, get_work_response: GetWorkResponse) -> bool:
        """Return whether to look for work again, there being none for now."""
        if super()._keep_alive(get_work_response):
            return True
        if self._stop_requesting_work or self._assistant or not sections.waits():
            return False
        try:
            self._scheduler.prune()  # because luigid alone would take a minute to look whether the others live
            return self._others_are_at_work() or self._ask_again()
        except RPCError as error:
            self._scheduler.lose(error)
            return False

    def _others_are_at_work(self) -> bool:
        """Return whether another run is at work on a task that this one needs; say so the first time."""
        found = self._scheduler.running_elsewhere(self._id)
        # What is done holds up the tasks that need it, as long as luigid has not heard of it.
        wanted = {*self._asked, *self._done} if self._asked else set()
        ours = [(task_id, task) for task_id, task in found.items() if task_id in wanted]
        if ours and not self._waited:
            self._waited = True
            task_id, task = ours[0]
            log.info("%s: waiting for another run%s", self._scheduled_tasks[task_id], _whose(task["worker_running"]))
        if ours:
            self._fruitless_since = None
        return bool(ours)

    def _ask_again(self) -> bool:
        """Ask once more for what nothing holds up: luigid has forgotten it, or others have shut it out or given it up.

        Return whether it makes sense to look for work. For a while luigid takes no task that it has just seen done.
        What is done is told once more too, because luigid does not hear of it while a run that died seems to be at work
        on it, and takes it for failed from then on.
        """
        could = [task_id for task_id in self._asked if self._could_run(task_id)]
        self._fruitless_since = self._fruitless_since or time.monotonic()
        if time.monotonic() - self._fruitless_since > _FRUITLESS:
            return False
        for task_id in dict.fromkeys(needed for asked in could for needed in self._asked[asked]["deps"]):
            if task_id in self._done:
                self._add_task(**self._done[task_id])
        for task_id in could:
            task = self._asked[task_id]
            try:
                done = self._scheduled_tasks[task_id].complete()
            except Exception as error:
                log.warning("%s: %s", self._scheduled_tasks[task_id], error)
                del self._asked[task_id]
                continue
            if done:  # another run has made it
                self._add_task(**{**task, "status": DONE, "deps": None, "runnable": False})
            else:
                self._scheduler.re_enable_task(task_id=task_id)
                self._add_task(**task)
        return any(task_id in self._asked for task_id in could)

    def _could_run(self, task_id: str) -> bool:
        """Return whether nothing that a task needs has failed, or is missing."""
        task = self._asked.get(task_id)
        return task is not None and all(d in self._done or self._could_run(d) for d in task["deps"])


def _shown(task: luigi.Task | None) -> tuple[str, str]:
    """Return what luigid shows of a task while there is nothing to do: a link and a message, "" for none."""
    return task.shown() if isinstance(task, Service | Approval) else ("", "")


def _whose(worker: str) -> str:
    """Return where a worker of luigi runs, as its id says."""
    found = dict(re.findall(r"(host|pid)=([^,)]+)", worker))
    return f" (host {found['host']}, process {found['pid']})" if found.keys() == {"host", "pid"} else ""


def _harmless(message: str | None) -> str | None:
    """Return a text that is the same as text and as HTML, because luigid's page shows it as one, then as the other."""
    return message and plain(str(message), keep="\n\t").replace("<", "‹").replace(">", "›")


def _reason(error: Exception) -> str:
    """Return the root of a failed request's error, in words."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"status {response.status_code}"
    found = _REASON.findall(str(error))
    return found[-1] if found else re.sub("(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
