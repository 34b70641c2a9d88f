"""Service: a task whose streaming job should be there. It is not complete, but *there*: its target exists while the job
is RUNNING with this code and these options. serving.py brings that about.

StopService ends the job, and the ledger remembers that it is not wanted: from then on the service's own task, which
cron goes on to run, has nothing to do, and says how to start the job again.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import luigi

from millrace.core import code
from millrace.core.ledger import Entry, Ledger
from millrace.errors import MillraceError, SettingError
from millrace.tasks import advice, preflight, sections, serving, session, settings
from millrace.tasks.base import Task
from millrace.tasks.serving import RUNNER
from millrace.tasks.settings import Flag, Settings

log = logging.getLogger("millrace")


class Service(Task):
    """Base of services: say which pipeline, with which options."""

    #: The module that has `build(pipeline, options)`.
    pipeline: ClassVar[str]
    #: The luigi.cfg section of this workflow, and which of its keys the pipeline takes as options of the same name.
    section: ClassVar[type[Settings]] = Settings
    passes: ClassVar[Sequence[str]] = ()
    #: What is said of the pipeline's code instead of a digest of it.
    version: Any = ""

    start: bool = Flag(
        default=False,
        significant=False,
        positional=False,
        description="the job is started also where it was stopped on purpose",
    )

    @classmethod
    def maker(cls) -> tuple[str, bool]:
        """Return the module whose code the job runs."""
        return cls.pipeline, True

    def options(self) -> Mapping[str, Any]:
        """Return further options of the pipeline: name → value. None of them tells the service from another."""
        return {}

    def versions(self) -> Mapping[str, str]:
        """Return what the job reads from outside once, such as a model, with what tells it from another of its name:
        where that changes, the job is updated.
        """
        return {}

    def check(self) -> None:
        """Raise a MillraceError for settings of this workflow with which the job can't run."""

    @property
    def service(self) -> str:
        """What tells the service from others: the task's name, unless a task says more."""
        return str(self.task_family)

    def output(self) -> "ServiceTarget":
        """Return the job that should be there."""
        return ServiceTarget(self)

    def complete(self) -> bool:
        """Return whether there is nothing to do: the job runs as it should, or was stopped on purpose.

        Raises a MillraceError for what would keep a run from that.
        """
        entry = Ledger(session.current().storage).entry(self.service)
        if self.stopped(entry):
            session.current().once(("stopped", self.service), lambda: log.warning(self.why_stopped(entry)))
            return True
        self.preflight()
        return self.output().exists()

    def preflight(self) -> None:
        """Raise a MillraceError for settings with which no job can be submitted."""
        if (named := self.named_runner()) not in (RUNNER, "auto"):
            options = {"runner": "BundleBasedDirectRunner", "streaming": "True", **self.pipeline_options()}
            here = advice.pipeline(self.pipeline, *(f"--{key}={value}" for key, value in options.items()))
            raise SettingError(
                f"{self.task_family} is a streaming job of Dataflow, and runner = {named!r}, "
                f"{settings.origin('millrace', 'runner')}; set runner to {RUNNER}, or run the pipeline here: {here}"
            )
        preflight.check(self.task_family, preflight.for_dataflow)
        session.current().runner(RUNNER).check(self.task_family)
        self.check()

    def named_runner(self) -> str:
        """Return the runner that the settings name for this task."""
        own = sections.runner_options(RUNNER, self.task_family)
        return own.get("runner", sections.millrace().runner)

    def run(self) -> None:
        """Have the job run as it should."""
        with Ledger(session.current().storage).claim(self.service, wait=sections.waits()) as claim:
            if self.stopped(claim.entry):
                log.warning(self.why_stopped(claim.entry))
                return
            serving.keep(self, claim)

    def pipeline_options(self) -> dict[str, str]:
        """Return what the pipeline is given."""
        section = self.section() if self.passes else None
        passed = {key: str(getattr(section, key)) for key in self.passes}
        own = {key: str(value) for key, value in self.options().items()}
        return {**passed, **own}

    def table(self, name: str) -> str:
        """Return what Beam calls a table of the warehouse, PROJECT:DATASET.NAME; "" where that is not in BigQuery."""
        _, _, dataset = session.current().config.warehouse.partition("://")
        return f"{dataset.replace('/', ':')}.{name}" if dataset else ""

    def work(self) -> str:
        """Return a digest of the options, those of [dataflow] included, because an update may be for more workers."""
        from millrace.runners import beam_options

        chosen = beam_options.arguments(session.current().config, self.task_family)
        work = [self.pipeline, self.pipeline_options(), {**self.versions()}, chosen]
        return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:32]

    def say(self, message: str) -> None:
        """Show luigid, and whoever reads the run's output, a message."""
        log.info("%s: %s", self.task_family, message)
        if self.set_status_message:
            self.set_status_message(message)

    def link(self, url: str) -> None:
        """Show luigid where the job's page is."""
        if self.set_tracking_url:
            self.set_tracking_url(url)

    def shown(self) -> tuple[str, str]:
        """Return what luigid shows of the service while there is nothing to do: the job's page, and how it stands."""
        try:
            standing = serving.look(self)
        except MillraceError as error:
            return "", str(error)
        return standing.url, standing.said.replace("; ", "\n")  # since luigid's page does not wrap lines

    def as_wanted(self, entry: Entry | None) -> bool:
        """Return whether an attempt is at this code and these options."""
        return (
            entry is not None
            and entry.state == "running"
            and entry.work == self.work()
            and code.is_of(entry.code, self)
        )

    def stopped(self, entry: Entry | None) -> bool:
        """Return whether the job was stopped on purpose, and is not to be started all the same."""
        return entry is not None and entry.state == "stopped" and not self.start

    def why_stopped(self, entry: Entry | None) -> str:
        """Say that the job was stopped, and how to start it again."""
        assert entry is not None
        return f"{self.task_family}: {entry.error} at {entry.ended[:19]}Z, so nothing is done; {self.starter} starts it"

    @property
    def starter(self) -> str:
        """The command that starts the job also where it was stopped."""
        return advice.run(self.task_family, **self.named_parameters(), start="true")

    def named_parameters(self) -> dict[str, str]:
        """Return those parameters, as text, that tell this task from the one that its name alone means."""
        return {
            name: parameter.serialize(getattr(self, name))
            for name, parameter in self.get_params()
            if parameter.significant and getattr(self, name) != getattr(parameter, "_default", None)
        }


class ServiceTarget(luigi.Target):
    """The job of a service. It exists while it is RUNNING with the service's code and options."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def exists(self) -> bool:
        """Return whether the job is there."""
        entry = Ledger(session.current().storage).entry(self._service.service)
        if entry is None or not entry.job_id or not self._service.as_wanted(entry):
            return False
        job = serving.job_of(entry)
        return job is not None and job.state == "RUNNING"


class StopService(Task):
    """Base of tasks that end a service: say which. Draining lets the job end what it has read."""

    force: bool = Flag(default=False, description="the job is cancelled, and what it has read but not written is lost")

    def service(self) -> Service:
        """Return the service to end."""
        raise NotImplementedError(f"{type(self).__name__}.service")

    def complete(self) -> bool:
        """Return whether the service is known to be stopped on purpose, and no job of it is active."""
        preflight.once(("preflight", "storage"), lambda: session.current().storage.check())
        entry = Ledger(session.current().storage).entry(self.service().service)
        return entry is not None and entry.state == "stopped" and not serving.active(entry)

    def run(self) -> None:
        """Note that the job is not wanted, end it, and wait for that; a run that does not wait leaves it ending."""
        with Ledger(session.current().storage).claim(self.service().service, wait=sections.waits()) as claim:
            # First, so that a run of the service starts nothing also where this one dies before the job is at its end.
            if claim.entry is None or claim.entry.state != "stopped":
                claim.stop(f"stopped by {self.task_family}")
            serving.stop(claim.attempt, self.say, cancel=self.force)

    def say(self, message: str) -> None:
        """Show luigid, and whoever reads the run's output, a message."""
        log.info("%s: %s", self.task_family, message)
        if self.set_status_message:
            self.set_status_message(message)
