"""Luigi's worker, for which several days of a stage are one piece of work: a batch, done by one process.

Luigi's scheduler puts a batch together when a worker asks for work. Luigi's own worker makes one task of a batch, which
has one fate, and is one more task for the scheduler. Here a batch is no task: its members are said to be running, each
by itself; their process tells what became of each; and whatever luigi does with a task that has ended is done with each
of them. So the summary, the history, luigid's page, mails and exit codes know days only.
"""

import contextlib
import datetime
import gc
import json
import logging
import multiprocessing
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import luigi.worker
from luigi.event import Event
from luigi.task_register import load_task
from luigi.task_status import DONE, FAILED, PENDING, RUNNING

from millrace.core import keys
from millrace.core.stopping import Stopped
from millrace.core.waiting import Waiting
from millrace.tasks import batches, circles, freshness, looking, sections, waits
from millrace.tasks.stage import Stage

log = logging.getLogger("millrace")
luigis_log = logging.getLogger("luigi-interface")

# luigi's classes have no type hints.
_LuigiWorker: Any = luigi.worker.Worker
_TaskProcess: Any = luigi.worker.TaskProcess
_ContextManaged: Any = luigi.worker.ContextManagedTaskProcess

#: What luigi's worker is told of a task that ended: state, explanation, what was missing, what it needs now.
_Result = tuple[str, Any, list[str], list[Any]]


class _Running(dict[str, Any]):
    """The tasks that run, each with its process; there are as many as there are processes, as luigi counts them."""

    def __len__(self) -> int:
        return len(set(self.values()))


class _Kind:
    """The tasks of a kind, and how many of them may be a batch by now.

    Where pipelines run on this machine, that is a worker's share of what is left, because some days are empty and
    others are not: large batches first, then smaller ones for whoever is done before the others (guided
    self-scheduling, Polychronopoulos and Kuck 1987, doi:10.1109/TC.1987.5009495), but none below half of the first.
    """

    def __init__(self, tasks: Sequence[Stage], workers: int) -> None:
        self.left = {task.task_id for task in tasks}
        #: The size that the scheduler was told last; a batch of one is luigi's default.
        self.told = 1
        self._most = sections.millrace().batch
        self._workers = workers if any(task.shares_workers() for task in tasks) else 1
        self._least = -(-self._share() // 2)

    def more(self, tasks: Sequence[Stage]) -> None:
        """Take further tasks in, which others came to need while they ran."""
        self.left |= {task.task_id for task in tasks}
        self._least = max(self._least, -(-self._share() // 2))

    def size(self) -> int:
        """Return how many tasks may be a batch."""
        return max(self._share(), self._least)

    def _share(self) -> int:
        return min(self._most, -(-len(self.left) // self._workers))


class Worker(_LuigiWorker):  # type: ignore[misc]
    """luigi's worker, which runs batches."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._running_tasks = _Running()
        #: The kinds of tasks that may be batches.
        self._kinds: dict[type[Stage], _Kind] = {}
        #: The members of the batches that were given to this worker and have not begun, by the first one's id.
        self._given: dict[str, list[Stage]] = {}
        #: The processes that died, once that is told.
        self._buried: set[Any] = set()
        #: A task of each kind that is to come, as long as what such need is not imported.
        self._to_come: list[Stage] = []
        #: What tasks of this run wait for.
        self.waits = waits.Waits()
        #: What tasks need, and which are in a circle.
        self.needs = circles.Needs()
        #: Whether luigi still asks which tasks are complete, and none has run.
        self._asking = True

    def run(self) -> bool:
        """Run as luigi's worker does."""
        gc.freeze()  # what is there by now stays, and is shared with the processes that are forked
        gc.enable()
        freshness.changed()
        last = {task: status for task, status, runnable in self._add_task_history}
        self._count([task for task, status in last.items() if status == PENDING])
        if not sections.waits():
            pending = [task for task, status in last.items() if status == PENDING]
            for task, waiting in looking.look(pending).items():
                told = json.dumps(waits.result(waiting))
                self._add_task(worker=self._id, task_id=task.task_id, status=FAILED, runnable=None, expl=told)
        self._asking = False
        looking.over()
        succeeded = bool(super().run())
        self.waits.settle(self)
        for tasks, waiting in self.waits.grouped():
            log.info("%s: %s", _together(tasks), waiting)
        return succeeded

    def _add(self, task: luigi.Task, is_complete: bool) -> Iterator[luigi.Task]:
        """Tell the scheduler of a task, as luigi does; return what the task needs, of which luigi will ask one by one
        whether it is complete.
        """
        needed = list(super()._add(task, is_complete))
        if self._asking:
            looking.ahead(needed)
        yield from needed

    def _count(self, tasks: Sequence[luigi.Task]) -> None:
        """Note how many tasks of a kind are to be done, and what they need to have imported."""
        left, to_come = defaultdict(list), {type(task): task for task in self._to_come}
        for task in tasks:
            if isinstance(task, Stage):
                to_come[type(task)] = task
                if _can_be_batched(task):
                    left[type(task)].append(task)
        self._to_come = list(to_come.values())
        for kind, of_kind in left.items():
            if kind in self._kinds:
                self._kinds[kind].more(of_kind)
            else:
                self._kinds[kind] = _Kind(of_kind, max(1, self.worker_processes))

    def _add_task(self, *args: Any, **task: Any) -> None:
        """Tell the scheduler of a task, as luigi does; one that waits is left pending, and not given out again."""
        known = self._scheduled_tasks.get(task["task_id"])
        if known is not None and (waiting := waits.is_one(task)):
            self.waits.of[known] = waiting
            task, stands_for = waits.left(task, waiting)
            self._scheduler.add_task(**stands_for)
            self._tell(*args, **task)
            # luigid's page does not wrap lines.
            self._scheduler.set_task_status_message(known.task_id, str(waiting).replace("; ", "\n"))
            return
        self.needs.add(task["task_id"], task.get("deps"), task.get("new_deps"))
        if known is not None and task.get("new_deps"):
            task |= self._comes_to_need(known, task["new_deps"])
        self._tell(*args, **task)

    def _comes_to_need(self, task: luigi.Task, needed: Sequence[str]) -> dict[str, Any]:
        """Note that a task turned out to need others; return what is to be said of the task instead where they need it
        themselves.
        """
        if not (circle := self.needs.circle(task.task_id)):
            all_needed = self.waits.needs(task, [self._scheduled_tasks[each] for each in needed])
            if isinstance(task, Stage):
                task.came_to_need = all_needed  # also for the process that is forked to run the task again
            return {}
        others = ", ".join(str(self._scheduled_tasks[each]) for each in sorted(circle - {task.task_id}))
        sentence = f"it needs {others}, which needs {task}, so that neither can be the first"
        luigis_log.error("%s: %s", task, sentence)
        return {"status": FAILED, "new_deps": [], "expl": json.dumps(sentence)}

    def add(self, task: luigi.Task, *args: Any, **kwargs: Any) -> bool:
        """Schedule a task as luigi does; one that needs itself is not begun again because another needs that."""
        return task.task_id in self.needs.circular or bool(super().add(task, *args, **kwargs))

    def _tell(self, *args: Any, **task: Any) -> None:
        super()._add_task(*args, **task)

    def _email_task_failure(self, task: luigi.Task, formatted_traceback: Any) -> None:
        if not waits.told(formatted_traceback):
            super()._email_task_failure(task, formatted_traceback)

    def _keep_alive(self, get_work_response: Any) -> bool:
        """Return what luigi's worker does; never to wait for what is waited for by the next run."""
        return bool(super()._keep_alive(get_work_response)) and not self.waits.of

    def _add_task_batcher(self, task: luigi.Task) -> None:
        """Do nothing yet, because how many tasks belong together is known only when all are scheduled."""

    def _get_work(self) -> Any:
        """Return what luigi's worker does, by batches of a size that leaves none of the processes idle."""
        for kind, about in self._kinds.items():
            if (size := about.size()) != about.told:
                about.told = size
                self._scheduler.add_task_batcher(
                    worker=self._id, task_family=kind.task_family, batched_args=kind.batched(), max_batch_size=size
                )
        return super()._get_work()

    def _get_work_task_id(self, reply: dict[str, Any]) -> str | None:
        """Return the task to run; of a batch the first member, by which _run_task knows the others."""
        if "batch_id" not in reply:
            found: str | None = super()._get_work_task_id(reply)
            return None if found is not None and self._gives_back(found) else found
        ids = reply.pop("batch_task_ids")  # luigi would give all of them the first one's fate
        members = []
        for number, task_id in enumerate(ids):
            if self._gives_back(task_id):
                continue
            if self._refuses(task_id):
                # Or else it would be said to be done as soon as the first of the others is.
                self._scheduler.add_task(worker=self._id, task_id=task_id, status=FAILED, runnable=False)
                continue
            try:
                task = self._scheduled_tasks.get(task_id) or _loaded(reply, number)
            except Exception as error:  # as luigi does, which can't know what a user's module raises
                self._handle_task_load_error(error, [task_id])
                self.run_succeeded = False
                continue
            self._scheduled_tasks[task_id] = task
            members.append(task)
        members.sort(key=lambda task: [str(getattr(task, name)) for name in task.batched()])
        for number, task in enumerate(members):
            self._scheduler.add_task(
                worker=self._id,
                task_id=task.task_id,
                family=task.task_family,
                module=task.task_module,
                params=task.to_str_params(),
                status=RUNNING,
                accepts_messages=task.accepts_messages,
                resources=task.process_resources(),
                retry_policy_dict=luigi.worker._get_retry_policy_dict(task),
            )
            if number and (resources := task.process_resources()):  # a batch takes what one of its members takes
                self._scheduler.decrease_running_task_resources(task.task_id, resources)
        if not members:
            return ids[0] if self._refuses(ids[0]) else None
        self._given[members[0].task_id] = members
        return str(members[0].task_id)

    def _gives_back(self, task_id: str) -> bool:
        """Give a task back that can't be done yet, whatever the scheduler says; return whether that was so."""
        return False

    def _refuses(self, task_id: str) -> bool:
        """Return whether a task is not to be done by this run, whatever the scheduler says."""
        return False

    def _run_task(self, task_id: str) -> None:
        members = self._given.pop(task_id, [])
        for task in members or [self._scheduled_tasks[task_id]]:
            if type(task) in self._kinds:
                self._kinds[type(task)].left.discard(task.task_id)
        if len(members) < 2:
            super()._run_task(task_id)
            return
        log.info("%s: %d days in one batch", named(members), len(members))
        process = self._process_of(members)
        self._running_tasks.update((member.task_id, process) for member in members)
        if process.use_multiprocessing:
            with luigi.worker.fork_lock:
                process.start()
        else:
            process.run()

    def _create_task_process(self, task: luigi.Task) -> Any:
        return self._process(SingleProcess, [task])[0]

    def _process_of(self, members: Sequence[Stage]) -> "BatchProcess":
        process, reporters = self._process(BatchProcess, members)
        process.hold(members, reporters)
        return cast("BatchProcess", process)

    def _process(self, kind: Any, members: Sequence[luigi.Task]) -> tuple[Any, Sequence[Any]]:
        """Return a process for some tasks, as luigi makes one for a task, and by what each shows how far it is."""
        # A module's attribute, because somebody may have put another reporter there.
        reporter: Any = luigi.worker.TaskStatusReporter
        messages: Any = multiprocessing.Queue() if any(task.accepts_messages for task in members) else None
        reporters = [reporter(self._scheduler, task.task_id, self._id, messages) for task in members]
        config = self._config
        process = kind(
            config.task_process_context,
            members[0],
            self._id,
            self._task_result_queue,
            reporters[0],
            use_multiprocessing=config.force_multiprocessing or self.worker_processes > 1,
            worker_timeout=config.timeout,
            check_unfulfilled_deps=config.check_unfulfilled_deps,
            check_complete_on_run=config.check_complete_on_run,
            task_completion_cache=self._task_completion_cache,
        )
        return process, reporters

    def _handle_next_task(self) -> None:
        """Handle a result as luigi does; when a batch begins to tell what became of its members, hear all of it.

        Work that is asked for in between would be a batch of those that follow from the first few.
        """
        before = dict(self._running_tasks)
        if 0 < len(before) < self.worker_processes:  # there is time, and a processor with nothing to do
            self._preload()
        known = len(self._add_task_history)
        super()._handle_next_task()
        late = [task for task, status, runnable in self._add_task_history[known:] if status == PENDING and runnable]
        self._count([task for task in dict.fromkeys(late) if task.task_id not in self._running_tasks])
        telling = {process for task_id, process in before.items() if task_id not in self._running_tasks}
        while any(process in telling for process in self._running_tasks.values()):
            super()._handle_next_task()

    def _preload(self) -> None:
        """Import what the tasks to come need, so that their processes have it."""
        while self._to_come:
            task = self._to_come.pop()
            try:
                task.preload()
            except Exception:  # the task says it, when it runs
                log.debug("%s: could not be prepared", task, exc_info=True)

    def _purge_children(self) -> None:
        """Bury processes as luigi does; each member of a batch whose process died or was too slow is told by itself."""
        for process in set(self._running_tasks.values()) - self._buried:
            members = process.members if isinstance(process, BatchProcess) else [process.task]
            if not process.is_alive() and process.exitcode:
                event, how = Event.PROCESS_FAILURE, f"died unexpectedly with exit code {process.exitcode}"
            elif process.timeout_time is not None and time.time() > process.timeout_time and process.is_alive():
                process.terminate()
                event, how = Event.TIMEOUT, f"timed out after {process.worker_timeout} seconds and was terminated."
            else:
                continue
            self._buried.add(process)
            for task in members:
                if len(members) > 1 and _is_complete(task):  # the member was complete before the process ended
                    self._task_result_queue.put((task.task_id, DONE, "", [], []))
                    continue
                words = f"Task {task.task_id} {how}"
                luigis_log.info(words)
                task.trigger_event(event, task, words)
                self._task_result_queue.put((task.task_id, FAILED, words, [], []))


class _Batch(_TaskProcess):  # type: ignore[misc]
    """Luigi's process of a task, for the members of a batch: each has a result of its own."""

    members: Sequence[Any] = ()
    timeout_time: float | None
    worker_timeout: float
    reporters: Sequence[Any] = ()

    def hold(self, members: "Sequence[Stage]", reporters: Sequence[Any]) -> None:
        """Say what the process is to do; reporters: by which each member shows how far it is."""
        self.members, self.reporters = members, reporters
        if self.worker_timeout:  # a day's time for each day
            self.worker_timeout *= len(members)
            self.timeout_time = time.time() + self.worker_timeout

    def run(self) -> None:
        """Do the batch, and tell luigi's worker what became of each member."""
        results: dict[str, _Result] = {member.task_id: (FAILED, "", [], []) for member in self.members}
        try:
            if self.use_multiprocessing:
                random.seed(os.getpid() * time.time())
            self._run(results)
        finally:
            for task_id, result in results.items():
                self.result_queue.put((task_id, *result))

    def _run(self, results: dict[str, _Result]) -> None:
        ready = []
        for member in self.members:
            luigis_log.info("[pid %s] Worker %s running   %s", os.getpid(), self.worker_id, member)
            if missing := self._missing(member):
                error = RuntimeError(f"Unfulfilled dependencies at run time: {', '.join(missing)}")
                results[member.task_id] = FAILED, self._failed(member, error), missing, []
            else:
                ready.append(member)
                member.trigger_event(Event.START, member)
        began = time.time()
        fates: dict[str, BaseException | None] = {}
        stopped = False
        try:
            with self._reporting():
                batches.run(ready, fates)
        except KeyboardInterrupt:
            raise
        except BaseException as stop:
            # Whoever is told to stop looks at nothing more; the next run sees what else is complete.
            stopped = isinstance(stop, Stopped)
            left = [each for each in ready if each.task_id not in fates]
            fates |= {member.task_id: stop for member in left if stopped or not _is_complete(member)}
        for member in ready:
            if wrong := fates.get(member.task_id) or (None if stopped else self._not_done(member)):
                results[member.task_id] = FAILED, self._failed(member, wrong), [], []
                continue
            member.trigger_event(Event.PROCESSING_TIME, member, (time.time() - began) / len(ready))
            results[member.task_id] = DONE, member.on_success(), [], []
            luigis_log.info("[pid %s] Worker %s done      %s", os.getpid(), self.worker_id, member)
            member.trigger_event(Event.SUCCESS, member)

    def _missing(self, member: Any) -> list[str]:
        """Return what a member needs and is not there, as luigi says it."""
        if not self.check_unfulfilled_deps:
            return []
        return [need.task_id for need in member.deps() if not self.check_complete(need)]

    def _not_done(self, member: Stage) -> BaseException | None:
        """Return the error for a member that ended without its result; None if it has one."""
        try:
            if not self.check_complete_on_run or self.check_complete(member):
                return None
        except Exception as error:
            return error
        return luigi.worker.TaskException("Task finished running, but complete() is still returning false.")

    def _failed(self, member: Any, error: BaseException) -> Any:
        """Log and tell that a member failed; return what it says to that, or what it waits for instead."""
        if isinstance(error, Waiting):
            return waits.result(error)
        try:
            raise error
        except BaseException as raised:  # what a task says by itself has the traceback of what is being handled
            what = "[pid %s] Worker %s failed    %s"
            luigis_log.exception(what, os.getpid(), self.worker_id, member)
            member.trigger_event(Event.FAILURE, member, raised)
            return member.on_failure(raised)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Give each member what shows luigid how far it is, as luigi does."""
        for member, reporter in zip(self.members, self.reporters, strict=True):
            for theirs, ours in self.forward_reporter_attributes.items():
                setattr(member, ours, getattr(reporter, theirs))
        try:
            yield
        finally:
            for member in self.members:
                for ours in self.forward_reporter_attributes.values():
                    setattr(member, ours, None)


class _Single(_TaskProcess):  # type: ignore[misc]
    """Luigi's process of a task, for which to wait is no failure."""

    def _handle_run_exception(self, error: BaseException) -> Any:
        return waits.result(error) if isinstance(error, Waiting) else super()._handle_run_exception(error)


class SingleProcess(_ContextManaged, _Single):  # type: ignore[misc]
    """The process of a task, in the context that [worker] task_process_context names."""


class BatchProcess(_ContextManaged, _Batch):  # type: ignore[misc]
    """The process of a batch, in the context that [worker] task_process_context names."""


def named(members: "Sequence[Stage]") -> str:
    """Return a batch as people say it: Etl 2026-11-01 to 2026-11-07."""
    first = members[0]
    kept = [str(value) for name, value in first.parameters().items() if name not in first.batched()]
    return " ".join([first.task_family, *kept, ", ".join(_spans([_key(member) for member in members]))])


def _together(tasks: Sequence[luigi.Task]) -> str:
    """Return some tasks as people say them: those of one kind that may be a batch as one."""
    first = tasks[0]
    if all(type(task) is type(first) and isinstance(task, Stage) and task.batched() for task in tasks):
        return named(cast("Sequence[Stage]", tasks))
    return ", ".join(map(str, tasks))


def _key(member: Stage) -> Any:
    """Return what tells a member from the others: its day."""
    values = [value for name, value in member.parameters().items() if name in member.batched()]
    return values[0] if len(values) == 1 else " ".join(map(str, values))


def _spans(told_apart: Sequence[Any]) -> Iterator[str]:
    """Yield days, or hours, that follow each other as one, and whatever else by itself."""
    times = [key for key in told_apart if isinstance(key, datetime.date)]
    yield from (" to ".join(map(str, dict.fromkeys(span))) for span in keys.spans(times))
    yield from (str(key) for key in told_apart if not isinstance(key, datetime.date))


def _can_be_batched(stage: Stage) -> bool:
    """Return whether several of a stage can be done in one batch; not where the stage has a run() of its own."""
    return stage.batchable and bool(stage.batched()) and type(stage).run.__module__.startswith("millrace.")


def _is_complete(task: luigi.Task) -> bool:
    try:
        return bool(task.complete())
    except Exception as error:
        log.warning("%s: %s", task, error)
        return False


def _loaded(reply: Mapping[str, Any], number: int) -> Any:
    """Return a member of a batch that this worker has not scheduled; number: its place in the batch."""
    each = {name: said[number] if isinstance(said, list) else said for name, said in reply["task_params"].items()}
    return load_task(reply.get("task_module"), reply["task_family"], each)
