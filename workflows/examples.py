"""Flows in small, as docs/flows.md tells of them: luigi --module workflows.examples Gcd --x 1071 --y 462."""

import datetime
import logging
from collections.abc import Generator
from typing import Any

import luigi

from millrace import Day, Delay, Flow, SourceError, after, in_order

log = logging.getLogger("millrace")

#: What steps() returns that yields tasks.
Steps = Generator[Any, Any, Any]


class AddOne(Flow):
    """A number, and one."""

    number: int = luigi.IntParameter()

    def steps(self) -> int:
        return self.number + 1


class AddTwo(Flow):
    """A number, and two: the value of one task is the parameter of another."""

    number: int = luigi.IntParameter()

    def steps(self) -> Steps:
        one_more = yield AddOne(number=self.number)
        return (yield AddOne(number=one_more))


class Gcd(Flow):
    """The greatest common divisor of two numbers, by Euclid: a task that needs one of its own kind."""

    x: int = luigi.IntParameter()
    y: int = luigi.IntParameter()

    def steps(self) -> Steps:
        if self.y == 0:
            return self.x
        return (yield Gcd(x=self.y, y=self.x % self.y))


class Log(Flow):
    """A day's message in the log, once; the value is when."""

    date: datetime.date = Day()
    message: str = luigi.Parameter()

    def steps(self) -> str:
        log.info("%s: %s", self.date, self.message)
        return datetime.datetime.now(datetime.UTC).isoformat()


class LogWaitLog(Flow):
    """Two messages of a day, in order, and some seconds in between in which nothing runs."""

    date: datetime.date = Day()
    seconds: int = luigi.IntParameter(default=30)

    def steps(self) -> Steps:
        return (
            yield from in_order(
                Log(date=self.date, message="before"),
                Delay(name="between", date=self.date, seconds=self.seconds),
                Log(date=self.date, message="behind"),
            )
        )


class LogAfterLog(Flow):
    """A message of a day, and after that, and a while, two more, in whichever order."""

    date: datetime.date = Day()
    seconds: int = luigi.IntParameter(default=30)

    def steps(self) -> Steps:
        first = yield Log(date=self.date, message="first")
        wait = Delay(name="after the first", date=self.date, seconds=self.seconds)
        others = [Log(date=self.date, message=message) for message in ("one more", "another")]
        return [first, *(yield from after(wait, then=others))]


class Arm(Flow):
    """An arm of the diamond."""

    side: str = luigi.Parameter()
    number: int = luigi.IntParameter()
    broken: str = luigi.Parameter(default="", significant=False)

    def steps(self) -> int:
        if self.side == self.broken:
            raise SourceError(f"the {self.side} arm is broken; run again without --broken {self.side}")
        return self.number * 10


class Diamond(Flow):
    """One task, two that need it, side by side, and a join of both."""

    broken: str = luigi.Parameter(default="", significant=False)

    def steps(self) -> Steps:
        top = yield AddOne(number=1)
        arms = yield {side: Arm(side=side, number=top, broken=self.broken) for side in ("left", "right")}
        return arms["left"] + arms["right"]


class Contents(Flow):
    """Which pages a book has, as nobody knows before."""

    pages: int = luigi.IntParameter(default=100)

    def steps(self) -> list[int]:
        return list(range(1, self.pages + 1))


class Page(Flow):
    """The words of a page; a page has as many as its number says."""

    page: int = luigi.IntParameter()
    broken: int = luigi.IntParameter(default=0, significant=False)

    def steps(self) -> int:
        if self.page == self.broken:
            raise SourceError(f"page {self.page} is torn; run again without --broken {self.page}")
        return len(("word " * self.page).split())


class Book(Flow):
    """The words of all pages: how many tasks there are is decided by a task."""

    pages: int = luigi.IntParameter(default=100)
    broken: int = luigi.IntParameter(default=0, significant=False)

    def steps(self) -> Steps:
        pages = yield Contents(pages=self.pages)
        words = yield [Page(page=page, broken=self.broken) for page in pages]
        return sum(words)
