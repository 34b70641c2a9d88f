"""Steps that are templates' jobs, and can undo what they did: their notes are in this process."""

import datetime
from collections.abc import Mapping
from typing import Any, ClassVar

import template_tasks

from localcloud import BUCKET
from millrace import Day, Stage, TemplateJob
from millrace.core.ledger import Claim
from millrace.tasks.stage import Outcome


class Undoes(TemplateJob):
    """A template's job that can be undone."""

    #: What was undone, in order.
    undone: ClassVar[list[str]] = []

    template = template_tasks.CLASSIC

    def arguments(self) -> Mapping[str, Any]:
        return {"say_what": "daily", "say_where": f"gs://{BUCKET}/said/{self.task_id}"}

    def undo(self) -> None:
        self.undone.append(str(self))


class Ship(Undoes):
    """The first step."""

    date: datetime.date = Day()


class Bill(Undoes):
    """The second step."""

    date: datetime.date = Day()

    def requires(self) -> Any:
        return Ship(date=self.date)


class Kept(Stage):
    """A stage that comes after the second, of which its manifest says nothing."""

    writes = ("kept",)
    date: datetime.date = Day()

    def requires(self) -> Any:
        return Bill(date=self.date)

    def execute(self, claim: Claim) -> Outcome:
        return self.empty("nothing")


class Post(template_tasks.Say):
    """A job that its parameter alone tells from others."""

    def undo(self) -> None:
        Undoes.undone.append(str(self))


class Reply(Undoes):
    """A step of a day that comes after one of none."""

    date: datetime.date = Day()

    def requires(self) -> Any:
        return Post(text="the same for all days")
