"""A small project of a user's: its tasks in mine.py beside luigi.cfg, what they compute in a package of its own."""

import datetime
import os
from collections.abc import Mapping
from pathlib import Path

import running
from running import Ran

DAY = datetime.date(2026, 11, 19)
TASKS = '''
"""Stages that need no Beam, so that a run takes a second."""
import datetime

from luigi import IntParameter

from millrace import Stage

from millrace.tasks import session
from millrace.core.manifests import FileEntry
from millrace.tasks.settings import Day, Settings
from millrace.tasks.stage import Outcome
from millrace.core.storage import crc32c


class mine(Settings):
    """No settings."""


class Mine(Stage):
    section = mine
    date: datetime.date = Day()

    def execute(self, claim):
        from counting import count

        data = count.made(self.task_family).encode()
        path = f"{self.datasets()[0].partition}/{claim.attempt.attempt}/made.txt"
        session.current().storage.create(path, data)
        return Outcome([FileEntry(path, self.writes[0], 1, len(data), crc32c(data))], {}, {})


class Daily(Mine):
    writes = ("daily",)
    made_by = "counting.count"


class Weekly(Mine):
    writes = ("weekly",)
    version = "1"
    days = IntParameter(default=3)

    def requires(self):
        return [Daily(date=self.date - datetime.timedelta(days=n)) for n in range(self.days)]


class Page(Mine):
    writes = ("pages",)
    version = "1"
    days = IntParameter(default=3)

    def requires(self):
        return Weekly(date=self.date, days=self.days)
'''
COUNT = (
    '"""What Daily makes."""\nfrom counting import helping\n\n\ndef made(name):\n    return f"{name} {helping.WORD}"\n'
)
HELPING = 'WORD = "first"\n'


class Small:
    """Such a project; its storage has a name with a space."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder, self.storage = folder, folder / "its data"
        self.env = dict(env or running.environment())
        self.env["PYTHONPATH"] = os.pathsep.join([str(folder), self.env["PYTHONPATH"]])
        folder.mkdir(parents=True, exist_ok=True)
        self.write("mine.py", TASKS)
        self.write("counting/__init__.py", "")
        self.write("counting/count.py", COUNT)
        self.write("counting/helping.py", HELPING)

    def write(self, name: str, text: str) -> None:
        """Writes a module; at once what Python has compiled of it is out of date, even within a second."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()

    def luigi(self, task: str, *flags: object) -> Ran:
        """Runs a task to its end, which has to be a good one."""
        ran = running.run(running.command(task, *flags, module="mine"), self.folder, self.env)
        assert ran.code == 0, ran
        return ran

    def made(self) -> dict[str, str]:
        """What lies in the folder's storage: the partition → its file."""
        return {
            str(path.parents[1].relative_to(self.storage)): path.read_text() for path in self.storage.rglob("made.txt")
        }


def said(ran: Ran) -> list[str]:
    """The lines of a run about other code, without their times."""
    return [line.partition("  ")[2] for line in (ran.out + ran.err).splitlines() if "other code" in line]
