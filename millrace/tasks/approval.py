"""Approval: a task that is a gate, at which what depends on it waits for a person, or for an event from outside.

Nothing runs while a gate waits: the run notes once that it came to the gate, and ends; the next run looks again. The
answer comes by bin/approve, by the page of approve_page.py, or by `answer_gate`.
"""

import datetime
import logging
from typing import Any

import luigi
from luigi.cmdline_parser import CmdlineParser

from millrace.common.text import moment, one_line
from millrace.core import approvals
from millrace.core.approvals import Event, Gate, State
from millrace.core.waiting import APPROVAL, Waiting
from millrace.errors import MillraceError, SettingError
from millrace.tasks import advice, preflight, session, telling
from millrace.tasks.base import Task
from millrace.tasks.settings import Day, Setting

log = logging.getLogger("millrace")


class _PerhapsDay(Day):
    """A day as a task's parameter, or none."""

    def parse(self, x: str) -> Any:
        return super().parse(x) if x.strip() else None

    def normalize(self, x: Any) -> Any:
        """Return a day, or None. Raises SettingError."""
        return None if x is None or x == "" else super().normalize(x)


class Approval(Task):
    """A gate: what requires it is made when somebody has approved, and fails where somebody has rejected.

    A gate of one's own says `name`, and in requires() what has to be there before anybody is asked. What the gate
    requires is nothing that a stage behind the gate reads: the stage requires that itself.
    """

    name: str = Setting(
        convert=approvals.name_of,
        allowed=approvals.ALLOWED,
        description="what the gate is called: a word, such as publish",
    )
    date: datetime.date | None = _PerhapsDay(description="the gate's day as YYYY-MM-DD; none unless given")

    only_orders = True

    @property
    def gate(self) -> Gate:
        """The gate. Raises SettingError for a name, or a day, that a class says and that is none."""
        try:
            gate = Gate(approvals.name_of(str(self.name)), self.date)
        except ValueError as error:
            raise SettingError(f"{self.task_family}.name = {self.name!r}: {error}") from None
        if isinstance(self.date, datetime.datetime):
            raise SettingError(f"{self.task_family}.date = {self.date}: a gate has a day, or none")
        return gate

    def output(self) -> "ApprovalTarget":
        """Return the approval."""
        return ApprovalTarget(self)

    def complete(self) -> bool:
        """Return whether the gate was approved; that is told once a run, with who and when."""
        preflight.once(("preflight", "storage"), lambda: session.current().storage.check())
        answer = self.state().answer
        if answer is None or answer.kind != approvals.APPROVED:
            return False
        session.current().once(("approved", self.task_id), lambda: log.info("%s: %s", self, answer))
        return True

    def run(self) -> None:
        """Raise Waiting while nobody has answered, and RejectedError where somebody said no."""
        state = approvals.ask(session.current().storage, self.gate, _asking(self))
        if state.answer:
            telling.show(self.set_status_message, str(state.answer))
        if not approvals.check(state):
            how = advice.command("approve", *self.gate.arguments)
            words = f"waiting for approval since {moment(state.since)}; {how} answers"
            raise Waiting(words, on=f"approval of {self.gate}", kind=APPROVAL)

    def shown(self) -> tuple[str, str]:
        """Return what luigid shows of the gate while there is nothing to do: no link, and who approved."""
        try:
            return "", str(self.state().answer or "")
        except MillraceError as error:
            return "", str(error)

    def on_failure(self, exception: BaseException) -> Any:
        """Return what luigi tells people: the sentence of an error that is meant for them."""
        if isinstance(exception, MillraceError):
            return str(exception)
        return super().on_failure(exception)  # type: ignore[no-untyped-call]

    def __str__(self) -> str:
        """Return task, name and day as people say them."""
        name = "" if self.name == self.task_family else str(self.name)
        return " ".join(filter(None, [self.task_family, name, str(self.date or "")]))

    def state(self) -> State:
        """Return how the gate stands."""
        return approvals.read(session.current().storage, self.gate)


class ApprovalTarget(luigi.Target):
    """An approval. It exists when somebody has approved."""

    def __init__(self, task: Approval) -> None:
        self._task = task

    def exists(self) -> bool:
        """Return whether somebody has approved."""
        return self._task.complete()

    @property
    def answer(self) -> Event | None:
        """The answer that counts, with by, at and reason; None while there is none. A flow is handed it."""
        return self._task.state().answer


def answer_gate(
    name: str,
    date: datetime.date | None = None,
    *,
    by: str,
    reject: bool = False,
    reason: str = "",
    ahead: bool = False,
) -> str:
    """Approve, or reject, a gate as bin/approve does; return in words the answer that counts.

    by: the person, or the event. ahead: whether that may be before a run has come to the gate, as an event may be.
    The same answer by the same person may be given again, as events are. Raises ConflictError where another answer was
    first, SettingError where nobody waits.
    """
    kind = approvals.REJECTED if reject else approvals.APPROVED
    gate = Gate(_checked(name), date)
    said, _ = approvals.answer(session.current().storage, gate, kind, by, reason, ahead=ahead)
    return f"{gate}: {said}"


def _checked(name: str) -> str:
    try:
        return approvals.name_of(name)
    except ValueError as error:
        raise SettingError(f"{name!r} is no name of a gate: {error}") from None


def _asking(task: Approval) -> str:
    """Return what the run is for that came to a gate: the task that its command line names."""
    known = CmdlineParser.get_instance()
    return one_line(str(known.get_task_obj() if known else task))
