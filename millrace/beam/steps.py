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
    """Some elements, at the beginning of a pipeline.

    of: their type. spread: whether what follows may be done for each by another worker; beam.Create takes five steps
    for that.
    """

    def __init__(self, elements: Sequence[Any], of: Any = Any, *, spread: bool = True) -> None:
        self._elements, self._of, self._spread = elements, of, spread and len(elements) > 1

    def expand(self, begin: Any) -> Any:
        impulse = begin | beam.Impulse()
        if not self._spread:
            return impulse | "Elements" >> each(_given, self._elements).with_output_types(self._of)
        numbered = each(_given, list(enumerate(self._elements))).with_output_types(beam.typehints.Tuple[int, self._of])
        apart = each(_values).with_output_types(self._of)
        return impulse | "Elements" >> numbered | "Spread" >> beam.GroupByKey() | "Apart" >> apart


def _given(impulse: bytes, elements: Sequence[Any]) -> Iterable[Any]:
    return elements


def _values(numbered: tuple[int, Iterable[Any]]) -> Iterable[Any]:
    return numbered[1]
