"""A flow with a gate: luigi --module gate_tasks All --date D. GATE names the gate; where that is empty there is none.

With CRASH_LOG in the environment the process can be killed at each change of the storage (crashing.py).
"""

import datetime
import importlib
import os
from typing import Any

import luigi

from millrace import Approval, Day, Flow, Outcome, Stage
from millrace.core.ledger import Claim

if "CRASH_LOG" in os.environ:
    importlib.import_module("crashing")
GATE = os.environ.get("GATE", "publish")


class Draft(Stage):
    """What is looked at before it is published."""

    writes = ("drafts",)
    date: datetime.date = Day()

    def execute(self, claim: Claim) -> Outcome:
        return self.empty("drafted")


class Look(Approval):
    """A gate at which nobody is asked before there is a draft."""

    name = "look"
    date: datetime.date = Day()

    def requires(self) -> Draft:
        return Draft(date=self.date)


class Publish(Stage):
    """Made when somebody has approved."""

    writes = ("published",)
    date: datetime.date = Day()

    def requires(self) -> list[luigi.Task]:
        if not GATE:
            return [Draft(date=self.date)]
        gate = Look(date=self.date) if GATE == "look" else Approval(name=GATE, date=self.date)
        return [Draft(date=self.date), gate]

    def execute(self, claim: Claim) -> Outcome:
        return self.empty("published")


class Asks(Flow):
    """Comes to a gate in the midst of its steps, and says who opened it."""

    date: datetime.date = Day()

    def steps(self) -> Any:
        yield Draft(date=self.date)
        gate = yield Approval(name="midst", date=self.date)
        return f"{gate.answer.by}: {gate.answer.reason}"


class Aside(Stage):
    """Has nothing to do with the gate."""

    writes = ("asides",)
    date: datetime.date = Day()

    def requires(self) -> Draft:
        return Draft(date=self.date)

    def execute(self, claim: Claim) -> Outcome:
        return self.empty("made")


class All(luigi.WrapperTask):
    """Both."""

    date = Day()

    def requires(self) -> list[luigi.Task]:
        return [Publish(date=self.date), Aside(date=self.date)]


class Open(Approval):
    """A gate without a day, that names itself wrongly."""

    name = "not/a name"
