"""Steps that Beam is quick to look at."""

from collections.abc import Sequence

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.userstate import get_dofn_specs

import millrace.beam.batch
from millrace.beam.steps import Elements, Step, each


@pytest.mark.parametrize("elements", [(), ("a",), ("a", ("b", 2), None, "a")])
def test_elements_are_those_that_were_given(elements: Sequence[object]) -> None:
    """None, one or several, some of them equal."""
    with TestPipeline() as pipeline:
        assert_that(pipeline | Elements(elements), equal_to(list(elements)))


def test_a_step_applies_a_function() -> None:
    """What the function returns is yielded one by one, and nothing where it returns nothing."""
    with TestPipeline() as pipeline:
        found = pipeline | Elements([3, 0]) | each(lambda n, by: [n * by] * n or None, 2)
        assert_that(found, equal_to([6, 6, 6]))


def test_nothing_is_hidden_from_beam() -> None:
    """No step has more of a DoFn than its process(), with no state or timer, so that Beam need not look for any."""
    left, steps = [Step], list[type[Step]]()
    while left:
        steps.append(left.pop())
        left += steps[-1].__subclasses__()
    assert millrace.beam.batch._Each in steps
    for step in steps:
        added = {name for name in vars(step) if callable(getattr(beam.DoFn, name, None)) and not name.startswith("__")}
        assert added <= {"process"}
    assert get_dofn_specs(each(list).fn) == (set(), set())
