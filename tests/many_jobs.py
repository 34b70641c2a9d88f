"""Many jobs of one template: luigi --module many_jobs Many --count 1000."""

from typing import Any

import luigi
from template_tasks import Say


class Many(luigi.WrapperTask):
    """Each says its own number, in letters."""

    count = luigi.IntParameter()

    def requires(self) -> Any:
        return [Say(text=said(number)) for number in range(self.count)]


def said(number: int) -> str:
    """A number as the template takes it."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))
