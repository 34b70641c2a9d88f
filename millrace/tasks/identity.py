"""What a stage's result depends on: the settings and parameters that a partition is bound to.

They are derived: a stage's own, and those of all that it is built on. They stand in the manifest, and their digest in
the note beside it. A run with other settings does not pass off what is there as its own: it stops, and says which
setting differs, where that setting comes from, and how to go on.
"""

import datetime
import functools
import hashlib
import json
import logging
import shlex
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

import luigi
from luigi.task import flatten

from millrace.common import secrets
from millrace.core.manifests import NAME, Manifest
from millrace.errors import MillraceError, SettingsDifferError, SourceChangedError
from millrace.tasks import advice, session
from millrace.tasks.protocols import StageLike
from millrace.tasks.settings import Day, Hour, Setting, Settings, origin

log = logging.getLogger("millrace")


def of(stage: StageLike) -> dict[str, str]:
    """Return settings ("section.key"), own parameters ("days") and inputs' ("Aggregate.days") as text, less dates.

    A date is in the partition's name. An input's parameter is left out where a setting, or an own parameter, of the
    same name says the same.
    """
    kinds = list(chain(stage, by_kind=True))
    said = {key: texts for task in kinds for key, texts in _settings(task)} | dict(_parameters(stage))
    known = {(_name(key), frozenset(texts)) for key, texts in said.items()}
    theirs: dict[str, set[str]] = {}
    for task in kinds[1:]:
        for name, texts in _parameters(task):
            theirs.setdefault(f"{task.task_family}.{name}", set()).update(texts)
    said |= {key: sorted(texts) for key, texts in theirs.items() if (_name(key), frozenset(texts)) not in known}
    return {key: " ".join(map(_quoted, texts)) for key, texts in said.items()}


def own(stage: StageLike) -> dict[str, str]:
    """Return a stage's own parameters as text, less dates, as they stand among the settings in its manifest."""
    return {name: " ".join(map(_quoted, texts)) for name, texts in _parameters(stage)}


def text(value: object) -> str:
    """Return a parameter's value as text, as it stands there."""
    return " ".join(map(_quoted, _texts(value)))


def digest(stage: StageLike) -> str:
    """Return a digest of what a stage's result depends on, short enough for a note."""
    return hashlib.sha256(json.dumps(of(stage), sort_keys=True).encode()).hexdigest()[:32]


def of_yielded(manifests: Iterable[Manifest]) -> dict[str, str]:
    """Return the settings, of sections of luigi.cfg, that some partitions were made with."""
    said = {key: text for manifest in manifests for key, text in manifest.settings.items()}
    return {key: text for key, text in sorted(said.items()) if _now(key) is not None}


def of_yielded_note(manifest: Manifest) -> dict[str, str]:
    """Return of those settings, in a partition's manifest, a digest each, short enough for a note."""
    return {key: _short(text) for key, text in of_yielded([manifest]).items()}


def of_yielded_holds(noted: Mapping[str, str]) -> bool:
    """Return whether those settings are this run's, as far as this run knows them."""
    return all(now is None or _short(now) == digest for key, digest in noted.items() for now in [_now(key)])


def check(stage: StageLike, manifest: Manifest) -> None:
    """Raise SettingsDifferError if a partition was made with other settings than this run's."""
    mine = of(stage)
    if stage.yields:  # what it depends on by what it asked for while it ran, only its manifest knows
        mine = {key: now for key in manifest.settings if (now := _now(key)) is not None} | mine
    for key in sorted({*mine, *(key for key in manifest.settings if not _is_insignificant(stage, key))}):
        here = mine.get(key, "not set")
        there = _told(manifest, key)
        if there is None:
            there = "not set" if manifest.code else here
        # Before there was a record of the code, a text with spaces in it stood there without quotes.
        if here != there and (manifest.code or here != _quoted(there)):
            source: Any = _first_with(stage, key)
            kind = type(source)
            dates = [getattr(task, "date", None) for task in chain(stage) if type(task) is kind]
            days = [date for date in dates if type(date) is datetime.date]
            forget = advice.clear(source.task_family, min(days, default=None), max(days, default=None))
            if not days and not any(getattr(task, "date", None) for task in chain(stage)):
                forget = advice.clear_partition(source.datasets()[0].partition)
            raise SettingsDifferError(
                f"{session.current().storage.uri(manifest.partition)} was made with {key} = {secrets.redacted(there)}, "
                f"but this run says {here} ({_origin(source, key)}); give this run another storage "
                f"(--millrace-storage FOLDER), or forget the old results ({forget}) and run again"
            )
    if name := changed(stage, manifest.versions):
        there, now = manifest.versions[name], versions(stage)[name]
        raise SourceChangedError(
            f"{session.current().storage.uri(manifest.partition)} was made of {secrets.redacted(name)} when that was "
            f"{there}, and now it is {now}; a run with --refresh makes it anew, or forget the old results "
            f"({advice.clear_partition(manifest.partition)}) and run again"
        )


def versions(stage: StageLike) -> dict[str, str]:
    """Return what a stage, and all that it is built on, is made of that no stage makes → a digest of what it is like.

    What can't be asked, or is not there, is left out, because nothing could be made of it anew.
    """

    def asked(task: StageLike) -> dict[str, str]:
        try:
            return {name: version for name, version in task.versions().items() if version}
        except MillraceError as error:  # the run that needs it says so
            log.debug("%s: %s", task, error)
            return {}

    def found(tasks: Iterator[luigi.Task]) -> dict[str, str]:
        known: dict[str, str] = {}
        for task in tasks:
            if is_stage(task):
                known |= session.current().once(("versions", task.task_id), functools.partial(asked, task))
        return known

    # Most stages have none, and then one of a kind tells; else each day may have its own.
    return found(chain(stage)) if found(chain(stage, by_kind=True)) else {}


def changed(stage: StageLike, made_of: Mapping[str, str]) -> str:
    """Return the first of what a partition was made of that is different now; "" where there is none."""
    now = versions(stage) if made_of else {}
    return next((name for name, made in sorted(made_of.items()) if now.get(name, made) != made), "")


def chain(stage: StageLike, *, by_kind: bool = False) -> Iterator[luigi.Task]:
    """Yield a stage and all that it is built on, each before its inputs.

    A gate, or whatever else only says when a stage may begin, is nothing that the stage is built on: so a gate can be
    put before a stage, renamed and taken away, and what was made before stays complete. Nor is what the gate requires,
    because people look there at what the stage may have nothing to do with.

    by_kind: of tasks that differ in their date alone, one is enough, and of its own kind what that one is built on.
    """
    seen: set[str] = set()
    left = deque[tuple[Any, frozenset[str]]]([(stage, frozenset())])
    while left:
        task, path = left.popleft()
        kind = str((task.task_family, sorted(_told_apart(task).items()))) if by_kind else ""
        if task.task_id not in seen and not (kind in seen and kind not in path):
            seen |= {task.task_id, kind} if by_kind else {task.task_id}
            yield task
            tasks = task.built_on() if is_stage(task) else flatten(task.requires())
            left.extend((each, path | {kind}) for each in tasks if not getattr(each, "only_orders", False))


def is_stage(task: luigi.Task) -> TypeGuard[StageLike]:
    """Return whether a task is a stage, and not one of luigi's plain ones."""
    return hasattr(task, "built_on")


def _settings(task: luigi.Task) -> Iterator[tuple[str, list[str]]]:
    """Yield the settings that a task itself depends on; those of a task that is no stage are not known."""
    if is_stage(task) and (keys := task.decided_by()):
        section = task.section()
        for key in keys:
            yield f"{task.section.__name__}.{key}", _texts(getattr(section, key))


def _parameters(task: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the parameters that tell a task from others of its kind, less the date."""
    for name, value in _told_apart(task).items():
        # What a day means to a task that is no stage is not known; most likely the day names what the task makes.
        if is_stage(task) or not isinstance(value, datetime.date):
            yield name, _texts(value)


def _told_apart(task: luigi.Task) -> dict[str, object]:
    return {name: getattr(task, name) for name in _names(type(task))}


@functools.cache
def _names(kind: type[luigi.Task]) -> list[str]:
    dates = {name for name, each in kind.get_params() if isinstance(each, Day | Hour)} | {"date"}
    return [name for name, parameter in kind.get_params() if parameter.significant and name not in dates]


def _told(manifest: Manifest, key: str) -> str | None:
    """Return what a manifest says of a setting; None for nothing.

    A manifest without a record of the code is of a time when stages named their inputs' settings by hand. What such a
    stage left out, its options may say, or its inputs' manifests.
    """
    found = manifest.settings.get(key)
    if found is None and not manifest.code:
        found = manifest.options.get(_name(key))
        for entry in manifest.inputs:
            path = f"{entry.partition}/{NAME}"
            if found is None and (read := session.current().storage.read(path)):
                found = _told(Manifest.from_json(read.data, path), key)
    return found


def _origin(stage: StageLike, key: str) -> str:
    """Return where a setting or parameter was read, in words."""
    places = (stage.task_family, stage.section.__name__, key.rpartition(".")[0])
    return next((o for place in places if (o := origin(place, _name(key))) != "the default"), "the default")


def _first_with(stage: StageLike, key: str) -> StageLike:
    """Return the stage farthest up whose result depends on a setting, because its partitions and what builds on them
    go.
    """
    stages = [task for task in chain(stage, by_kind=True) if is_stage(task)]
    *_, last = stage, *(task for task in stages if key in of(task) or task.task_family == key.rpartition(".")[0])
    return last


def _is_insignificant(stage: StageLike, key: str) -> bool:
    """Return whether a setting, which an earlier version took for one, has nothing to do with a result any more."""
    section, _, name = key.rpartition(".")
    sections = {task.section for task in chain(stage, by_kind=True) if is_stage(task)}
    return any(
        each.__name__ == section
        and isinstance(setting := getattr(each, name, None), Setting)
        and not setting.significant
        for each in sections
    )


def _now(key: str) -> str | None:
    """Return what this run says of a setting "section.key"; None where it knows none such."""
    section, _, name = key.rpartition(".")
    found = next((each for each in Settings.__subclasses__() if each.__name__ == section), None)
    if found is None or name not in dict(found.get_params()):
        return None
    return " ".join(map(_quoted, _texts(getattr(found(), name))))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


def _quoted(text: str) -> str:
    """Return a text as one of several, so that a space in it does not make two of it."""
    return shlex.quote(text) if any(map(str.isspace, text)) else text
