"""Flows for tests; in the folder that AT names they note that they ran, and there are files by which they go."""

import datetime
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from millrace import (
    Approval,
    Day,
    Delay,
    FileEntry,
    Flow,
    Outcome,
    Setting,
    Settings,
    Stage,
    Waiting,
    in_order,
    whole_number,
)
from millrace.core.ledger import Claim
from millrace.core.storage import crc32c
from millrace.tasks import session

AT = Path(os.environ.get("AT", "."))


def note(name: str, line: object) -> None:
    """Adds a line to a note."""
    with (AT / name).open("a") as file:
        file.write(f"{line}\n")


class Odd(Flow):
    """Hands on what the expression is; nothing where it is none."""

    what: str = luigi.Parameter()

    def steps(self) -> Any:
        return eval(self.what)  # as the tests say it


class Yields(Flow):
    """Yields what the expression is, and hands on what comes of it, as text."""

    what: str = luigi.Parameter()

    def steps(self) -> Any:
        return repr((yield eval(self.what)))


class Text(Flow):
    """Two texts as one."""

    one: str = luigi.Parameter(default="")
    two: str = luigi.Parameter(default="")

    def steps(self) -> list[str]:
        return [self.one, self.two]


class numbers(Settings):  # noqa: N801
    """A setting."""

    times: int = Setting(convert=whole_number(1, 100), description="times", default="2")


class Times(Flow):
    """A number as often as the setting says; may be held, or killed, once it runs."""

    section = numbers
    settings = ("times",)
    number: int = luigi.IntParameter()

    def steps(self) -> int:
        note(f"times-{self.number}", os.getpid())
        if (AT / "killed").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        while (AT / "held").exists():
            time.sleep(0.02)
        times: int = numbers().times
        return self.number * times


class Sum(Flow):
    """The sum of two of these; what it has is known when it runs."""

    def steps(self) -> Any:
        note("sum", os.getpid())
        one = yield Times(number=1)
        others = yield {"three": Times(number=3), "more": [Times(number=one), Times(number=5)]}
        return one + others["three"] + sum(others["more"])


class Again(Flow):
    """Asks for the same several times, and for what it requires."""

    def requires(self) -> Times:
        return Times(number=1)

    def steps(self) -> Any:
        required = self.requires().value()
        one = yield Times(number=1)
        two, three = yield [Times(number=2), Times(number=3)]
        return [required, one, two, three, (yield Times(number=2))]


class Paused(Flow):
    """Such a sum after a delay."""

    seconds: int = luigi.IntParameter(default=1)

    def steps(self) -> Any:
        one, _, two = yield from in_order(Times(number=1), Delay(name="pause", seconds=self.seconds), Times(number=2))
        return one + two


class Plain(luigi.Task):
    """A task of luigi's own."""

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(AT / "plain"))

    def run(self) -> None:
        Path(self.output().path).write_text("plain words")


class ReadsPlain(Flow):
    """What a plain task wrote."""

    def steps(self) -> Any:
        target = yield Plain()  # type: ignore[no-untyped-call]
        return Path(target.path).read_text()


class Written(Stage):
    """A stage that has a file, of a value of a flow that it requires."""

    writes = ("written",)
    date: datetime.date = Day()

    def requires(self) -> Times:
        return Times(number=self.date.day)

    def execute(self, claim: Claim) -> Outcome:
        data = str(self.requires().value()).encode()
        path = f"{self.datasets()[0].partition}/{claim.attempt.attempt}/written"
        session.current().storage.create(path, data)
        return Outcome([FileEntry(path, "written", 1, len(data), crc32c(data))], {}, {})


class Bytes(Flow):
    """How many bytes a stage wrote, of a day."""

    date: datetime.date = Day()

    def steps(self) -> Any:
        written = Written(date=self.date)
        [dataset] = yield written
        found = dataset.read()
        return [sum(file.bytes for file in found[0].files), str(self.date)]


class Gate(Flow):
    """Asks somebody, and hands on that it was allowed."""

    def steps(self) -> Any:
        yield Approval(name="gate")
        return "allowed"


class Late(Flow):
    """Requires a delay, of a length that makes no other flow of it."""

    seconds: int = luigi.IntParameter(default=0, significant=False)

    def requires(self) -> Delay:
        return Delay(name="late", seconds=self.seconds)

    def steps(self) -> int:
        return 1


class Looks(Flow):
    """Waits by itself until there is a file."""

    def steps(self) -> Any:
        one = yield Times(number=1)
        if not (AT / "there").exists():
            raise Waiting("nothing is there", on="the file")
        return one


class NoSteps(Flow):
    """Says nothing."""


class Dice(Flow):
    """Asks for another task each time that it is walked."""

    def steps(self) -> Any:
        thrown = time.monotonic_ns()
        return (yield Thrown(number=thrown))


class Thrown(Flow):
    """A number that was thrown."""

    number: int = luigi.IntParameter()

    def steps(self) -> int:
        return self.number


class Ping(Flow):
    """Needs Pong, which needs it."""

    def steps(self) -> Any:
        return (yield Pong())


class Pong(Flow):
    """Needs Ping, which needs it."""

    def steps(self) -> Any:
        return (yield Ping())


class Itself(Flow):
    """Needs itself."""

    def steps(self) -> Any:
        return (yield Itself())


class Fickle(luigi.Task):
    """Is complete each second time that somebody asks."""

    def complete(self) -> bool:
        note("fickle", "asked")
        return len((AT / "fickle").read_text().splitlines()) % 2 == 0


class Trusting(Flow):
    """Needs what is complete each second time."""

    def steps(self) -> Any:
        yield Fickle()  # type: ignore[no-untyped-call]


class Asks(Flow):
    """Reads a value that nobody has made."""

    def steps(self) -> Any:
        return Times(number=7).value()


class Breaks(Flow):
    """Has a mistake in its steps, behind what it needs."""

    def steps(self) -> Any:
        value: Mapping[str, int] = yield {"one": Times(number=1)}
        return value["two"]
