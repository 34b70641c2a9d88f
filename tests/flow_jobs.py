"""A flow over days that are jobs: luigi --module flow_jobs Fetched --date DAY."""

import datetime
from typing import Any

from millrace import Day, Flow
from workflows import Fetch


class Fetched(Flow):
    """How many records two days have."""

    date: datetime.date = Day()

    def steps(self) -> Any:
        days = [Fetch(date=self.date - datetime.timedelta(days=number), source="sample://") for number in range(2)]
        yield days
        made = [day.finished() for day in days]
        return {str(manifest.partition): sum(file.rows for file in manifest.files) for manifest in made}
