"""Many jobs of one template: luigi --module many_jobs Many --count 1000."""

from pathlib import Path
from typing import Any

import luigi
from template_tasks import Say


class Many(luigi.WrapperTask):
    """Each says its own number, in letters."""

    count = luigi.IntParameter()

    def requires(self) -> Any:
        return [Say(text=said(number)) for number in range(self.count)]


class Yielding(luigi.Task):
    """Turns out to need them while it runs, as soon as one of them is done."""

    count = luigi.IntParameter()
    made = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(self.made))

    def run(self) -> Any:
        yield Say(text=said(0))
        yield Many(count=self.count)  # type: ignore[no-untyped-call]
        Path(self.made).touch()


def said(number: int) -> str:
    """A number as the template takes it."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))
