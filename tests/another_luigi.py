"""The workflows under a luigi that keeps its parts under other names, as a later version may: for `--module`."""

from typing import Any

import luigi.worker

from workflows import *  # noqa: F403

_Reporter = luigi.worker.TaskStatusReporter


class Reporter:
    """Does what luigi's does, without its private attributes."""

    def __init__(self, *parts: Any) -> None:
        self.inner = _Reporter(*parts)
        self.scheduler_messages = self.inner.scheduler_messages

    def update_tracking_url(self, url: str) -> None:
        """Shows a link, as luigi itself does."""
        self.inner.update_tracking_url(url)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.inner, name)


luigi.worker.TaskStatusReporter = Reporter  # type: ignore[assignment, misc]
