"""Steps of a pipeline that Beam is quick to look at.

Beam looks at a step's DoFn a dozen times before a pipeline runs, each time at the signature of every method that dir()
lists, for state and timers may be declared in any of them: half the time of a small pipeline. The steps of a batch have
neither, and their dir() says so.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam


class Step(beam.DoFn):
    """A DoFn with nothing but its process()."""

    def __dir__(self) -> list[str]:
        return ["process"]


class _Each(Step):
    def __init__(self, function: Callable[..., Iterable[Any] | None], *arguments: Any) -> None:
        self._function, self._arguments = function, arguments

    def process(self, element: Any) -> Iterable[Any] | None:
        return self._function(element, *self._arguments)


def each(function: Callable[..., Iterable[Any] | None], *arguments: Any) -> Any:
    """Return the step that yields what a function returns of an element, and of further arguments."""
    return beam.ParDo(_Each(function, *arguments))


class Elements(beam.PTransform):
    """Some elements, at the beginning of a pipeline, each to be worked on by whichever worker is free.

    beam.Create does so too, in four more steps.
    """

    def __init__(self, elements: Sequence[Any]) -> None:
        self._elements = elements

    def expand(self, begin: Any) -> Any:
        if len(self._elements) < 2:
            return begin | beam.Create(self._elements, reshuffle=False)
        # From beam.Create, because that is where Dask begins.
        numbered = beam.Create(list(enumerate(self._elements)), reshuffle=False)
        return begin | numbered.with_output_types(tuple[int, Any]) | "Spread" >> beam.GroupByKey() | each(_values)


def _values(numbered: tuple[int, Iterable[Any]]) -> Iterable[Any]:
    return numbered[1]
