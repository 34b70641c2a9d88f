"""A flow over days that are done in batches: luigi --module flow_days Week --first DAY."""

import datetime
from typing import Any

from day_tasks import Made

from millrace import Day, Flow


class Week(Flow):
    """The rows of seven days of a stage that is done in batches."""

    first: datetime.date = Day()

    def steps(self) -> Any:
        days = [Made(date=self.first + datetime.timedelta(days=number)) for number in range(7)]
        yield days[:2]
        made = yield days
        return sum(dataset.read()[0].files[0].rows for [dataset] in made)
