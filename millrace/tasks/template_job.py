"""TemplateJob: a task that launches a template of Dataflow and waits for its job; launching.py brings that about.

A template's job has no manifest, because it writes wherever its parameters say. The ledger is what remembers that it
was done: a task is complete when its last attempt is done, for the same template and parameters.
"""

import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from queue import Queue
from typing import TYPE_CHECKING, Any

import luigi

from millrace.core.ledger import Ledger
from millrace.errors import SettingError
from millrace.tasks import advice, launching, preflight, sections, session, telling
from millrace.tasks.base import Task

if TYPE_CHECKING:
    from luigi.worker import SchedulerMessage


class TemplateJob(Task):
    """A job of Dataflow that a template makes: a classic one, a flex one, or one that Google provides.

    template: where it is, gs://…: a classic template, or a flex template's spec. parameters: its own, name → value.
    environment: what the launch says of workers, by the names of Google's API: max_workers, machine_type,
    worker_zone, temp_location, additional_user_labels (or labels), service_account_email, network, …; before it hold
    [dataflow] and [dataflow.TASK]. region: where the job runs, [gcp] region unless given.

    A task of one's own says `template`, has parameters of its own, and says in `arguments()` what the template gets.
    """

    template: str = luigi.Parameter(description="the template: gs://… of a classic one, or of a flex template's spec")
    parameters: Mapping[str, Any] = luigi.DictParameter(default={}, description="the template's own parameters")
    environment: Mapping[str, Any] = luigi.DictParameter(
        default={}, significant=False, positional=False, description="what the launch says of workers: max_workers, …"
    )
    region: str = luigi.Parameter(
        default="", significant=False, positional=False, description="where the job runs; [gcp] region unless given"
    )
    #: What tells a template that was built anew under its old name: another version is other work.
    version: Any = ""
    #: Luigid offers to send messages, because a job can be told to cancel.
    accepts_messages = True
    #: Where luigi puts messages of luigid while the task runs.
    scheduler_messages: "Queue[SchedulerMessage] | None" = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # A task that says by itself what the template gets takes no parameters of the template's. They would come
        # before the task's own, of which RangeDaily takes the first for the day.
        if "arguments" in vars(cls) and "parameters" not in vars(cls):
            cls.parameters = {}
        super().__init_subclass__(**kwargs)

    def arguments(self) -> Mapping[str, Any]:
        """Return what the template gets: parameter → value. One that is None is left out."""
        return self.parameters

    def own_environment(self) -> Mapping[str, Any]:
        """Return what the launch says of workers, before what the settings say: field → value."""
        return self.environment

    @property
    def called(self) -> str:
        """What messages, settings and the names of Dataflow's jobs call the task."""
        return str(self.task_family)

    @property
    def job(self) -> str:
        """What the ledger calls the task: its name, its day if it has one, and what tells its parameters."""
        day = getattr(self, "date", None)
        return ".".join([self.task_family, *([f"date={day}"] if day else []), str(self.task_id)[-10:]])

    @classmethod
    def is_of(cls, job: str) -> bool:
        """Return whether what the ledger calls so is a task of this kind."""
        family = re.escape(str(cls.task_family))
        return bool(re.fullmatch(rf"{family}\.(date=[-0-9]+\.)?[0-9a-f]{{10}}", job))

    @classmethod
    def told_by(cls, job: str) -> Mapping[str, str]:
        """Return the parameters, as text, that what the ledger calls the task tells by itself, its day aside."""
        return {}

    def output(self) -> "TemplateTarget":
        """Return what there is when the job is done."""
        return TemplateTarget(self)

    def complete(self) -> bool:
        """Return whether the job is done. Raises a MillraceError for what would keep a run from that."""
        if self.output().exists():
            return True
        self.preflight()
        return False

    def preflight(self) -> None:
        """Raise a MillraceError for settings with which nothing can be launched."""
        preflight.check(self.called, lambda: None)
        self.place()
        self.given()
        if not self.template.startswith("gs://"):
            raise SettingError(
                f"the template of {self.called} is {self.template!r}; Dataflow reads templates at gs://BUCKET/PATH"
            )

    def run(self) -> None:
        """Have the template's job come to its end."""
        with Ledger(session.current().storage).claim(self.job, wait=sections.waits()) as claim:
            launching.run(self, claim)

    def given(self) -> dict[str, str]:
        """Return the parameters as a launch has them, all texts. Raises SettingError for what has no text."""
        found = {name: _text(value) for name, value in self.arguments().items() if value is not None}
        if wrong := [f"{name} = {self.arguments()[name]!r}" for name, text in found.items() if text is None]:
            raise SettingError(
                f"the template's parameters of {self.called} are texts, numbers, true, false or times, not "
                f"{'; '.join(wrong)}"
            )
        return {name: text for name, text in found.items() if text is not None}

    def place(self) -> str:
        """Return the project and region of new jobs, as in "p/r". Raises SettingError where either is unknown."""
        google = session.current().google
        if self.region:
            return f"{google.project}/{self.region}"
        return session.current().runner(launching.RUNNER).place()

    def work(self) -> str:
        """Return a digest of what the job is to do. What its workers are like is no part of that."""
        work = [str(self.template), self.given(), str(self.version)]
        return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def forget(self) -> str:
        """Return the command that forgets this task's failures."""
        named, day = self._named(), getattr(self, "date", None)
        named.pop("date", None)
        return advice.clear(self.task_family, day, day, **named)

    @property
    def command(self) -> str:
        """The command that runs this task again."""
        return advice.run(self.task_family, **self._named())

    def _named(self) -> dict[str, str]:
        """Return the parameters, as text, that are not as they are by themselves."""
        return {
            name: parameter.serialize(getattr(self, name))
            for name, parameter in self.get_params()
            if getattr(self, name) != getattr(parameter, "_default", None)
        }

    def say(self, message: str) -> None:
        """Show luigid a message."""
        telling.show(self.set_status_message, message)

    def link(self, url: str) -> None:
        """Show luigid where the job's page is."""
        telling.link(self, url)


class TemplateTarget(luigi.Target):
    """A template's job that is done. It exists when the ledger says so, for that template and those parameters."""

    def __init__(self, task: TemplateJob) -> None:
        self._task = task

    def exists(self) -> bool:
        """Return whether the job is done."""
        entry = session.current().entry(self._task.job)
        return entry is not None and entry.state == "done" and entry.work == self._task.work()


def _text(value: object) -> str | None:
    """Return a parameter as a launch has it; None for what is no single value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        # Dataflow's templates know no zones: a time is one of UTC.
        return (value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value).isoformat(" ")
    return str(value) if isinstance(value, str | int | float | datetime.date) else None
