"""What was made by other code: it stays complete, and at the end of a run a line a stage says which, and what mends it.

A manifest names the code of its stage and of all that the stage is built on (`of`). So one look at what was asked about
tells whether there is anything to say; only then is the rest looked for.
"""

import datetime
import logging
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from millrace.core import code, keys
from millrace.core.manifests import Manifest
from millrace.errors import MillraceError
from millrace.tasks import advice, completeness, freshness, session
from millrace.tasks.identity import chain, is_stage
from millrace.tasks.protocols import StageLike
from millrace.tasks.settings import in_luigi_command

log = logging.getLogger("millrace")


def of(family: str, own: str, inputs: Iterable[Manifest]) -> dict[str, list[str]]:
    """Return what a manifest says of the code that made a stage's result, and the results that it is built on.

    Of more than two codes of one stage two are named, because one of them, at least, is not the code of any later run.
    """
    found = defaultdict(list, {family: [own]} if own else {})
    for manifest in inputs:
        for name, said in manifest.code.items():
            for each in said:
                if len(found[name]) < 2 and not any(code.same(each, other) for other in found[name]):
                    found[name].append(each)
    return dict(found)


def asked(stage: StageLike) -> None:
    """Remember a stage for the end of the run."""
    if in_luigi_command():
        session.current().asked[stage.task_id] = stage


def tell() -> None:
    """Say at the end of a run, while its flags still hold, what was made by other code."""
    try:
        if freshness.on():
            completeness.forget()
        for line in lines(list(session.current().asked.values())):
            log.warning("%s", line)
    except MillraceError as error:  # a run that went well ends well
        log.debug("%s", error)


def lines(stages: Iterable[StageLike]) -> Iterator[str]:
    """Yield what there is to say of some stages and all that they are built on: a line for each kind of stage."""
    made = {stage.task_id: (stage, completeness.code_of(stage)) for stage in stages}
    said = {(family, each) for _, found in made.values() for family, all_ in found.items() for each in all_}
    other = {(family, each) for family, each in said if (kind := freshness.kind(family)) and not code.is_of(each, kind)}
    if not other:
        return
    stale: dict[str, dict[str, tuple[StageLike, str]]] = defaultdict(dict)
    yielded: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    seen, left = set(made), deque(made.values())
    while left:
        stage, found = left.popleft()
        family = stage.task_family
        for name, each in _yielded(stage, found):
            if (name, each) in other:
                yielded[family, name][stage.datasets()[0].partition] = each
        for own in [each for each in found.get(family, ())[:1] if (family, each) in other]:
            stale[family][stage.datasets()[0].partition] = stage, own
        if any((family, each) in other for family, all_ in found.items() for each in all_):
            for below in stage.built_on():
                if is_stage(below) and below.task_id not in seen:
                    seen.add(below.task_id)
                    left.append((below, completeness.code_of(below)))
    roots = _roots([stage for stage, _ in made.values()])
    for family, partitions in reversed(stale.items()):  # what others are built on comes first
        yield _line(family, list(partitions.values()), roots)
    for (family, name), codes in yielded.items():
        many, olds = len(codes) != 1, ", ".join(sorted(map(code.short, set(codes.values()))))
        yield (
            f"{family}: {len(codes)} partition{'s' * many} {'were' if many else 'was'} made of what {name} made by "
            f"other code ({olds} → {code.short(code.of(freshness.kind(name)))}); a run with --refresh makes "
            f"{'them' if many else 'it'} anew"
        )


def _yielded(stage: StageLike, found: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yield the kinds of stages, each with its code, that a stage asked for while it ran: no later run knows which."""
    if stage.yields:
        known = {task.task_family for task in chain(stage, by_kind=True)}
        yield from ((name, each) for name, all_ in sorted(found.items()) if name not in known for each in all_)


def _roots(stages: list[StageLike]) -> list[StageLike]:
    """Return those of some stages that no other of them is built on, which are what the run was for."""
    below = {task.task_id for stage in stages for task in stage.built_on()}
    return [stage for stage in stages if stage.task_id not in below]


def _line(family: str, made: list[tuple[StageLike, str]], roots: list[StageLike]) -> str:
    stages, count = [stage for stage, _ in made], len(made)
    days = sorted({date for root in roots if (date := _day(root))})
    span = " to ".join(map(str, dict.fromkeys([days[0], days[-1]]))) if days else ""
    window = "" if all(root.task_family == family for root in roots) else "window " if len(days) == 1 else "windows "
    olds = ", ".join(sorted({code.short(each) for _, each in made}))
    return (
        f"{family}: {count} partition{'s' * (count != 1)}{f' of {window}{span}' if span else ''} "
        f"{'were' if count != 1 else 'was'} made by other code ({olds} → {code.short(code.of(stages[0]))}); "
        f"{' && '.join(_commands(stages))} makes {'them' if count != 1 else 'it'} anew, "
        "and so does a run with --refresh"
    )


def _day(stage: StageLike) -> datetime.date | None:
    """Return a stage's day; None where its date is none, or an hour."""
    date = getattr(stage, "date", None)
    return date if type(date) is datetime.date else None


def _commands(stages: list[StageLike]) -> Iterator[str]:
    """Yield commands that clear the partitions of some stages of one kind and what was made of them, but no others."""
    alike: dict[str, list[datetime.date]] = defaultdict(list)
    ways: dict[str, dict[str, object]] = {}
    for stage in stages:
        partition, date = stage.datasets()[0].partition, _day(stage)
        if date is None:
            yield advice.clear(partition)
        else:
            # Where parameters are part of the partition's name, partitions with others are not meant.
            named = {} if partition == f"{stage.writes[0]}/date={date}" else stage.parameters()
            named = {name: value for name, value in named.items() if name != "date"}
            ways[str(named)] = named
            alike[str(named)].append(date)
    for way, days in alike.items():
        for first, last in keys.spans(days):
            yield advice.clear(stages[0].task_family, first, last, **ways[way])
