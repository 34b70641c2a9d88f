"""What a stage's result depends on: the settings and parameters that a partition is bound to.

They stand in the manifest, and their digest in the note beside it. A run with others does not pass off what is there as
its own: it stops, and says which setting it is, where that comes from, and how to go on.
"""

import hashlib
import json
from typing import TYPE_CHECKING

from pipelines.errors import SettingsDifferError
from workflows.engine import clients
from workflows.engine.manifests import Manifest
from workflows.engine.settings import origin

if TYPE_CHECKING:
    from workflows.engine.stage import Stage


def of(stage: "Stage") -> dict[str, str]:
    """Settings ("section.key") and parameters as text, less the date, which is in the partition's name."""
    section = stage.section()
    mine = {f"{stage.section.__name__}.{key}": getattr(section, key) for key in stage.settings}
    own = {name: value for name, value in stage.parameters().items() if name != "date"}
    return {key: _as_text(value) for key, value in {**mine, **own}.items()}


def digest(stage: "Stage") -> str:
    """A digest of it, short enough for a note."""
    return hashlib.sha256(json.dumps(of(stage), sort_keys=True).encode()).hexdigest()[:32]


def check(stage: "Stage", manifest: Manifest) -> None:
    """Raises SettingsDifferError if a partition was made with other settings than this run's."""
    mine = of(stage)
    for key in sorted({*mine, *manifest.settings}):
        here, there = mine.get(key, "not set"), manifest.settings.get(key, "not set")
        if here != there:
            name, places = key.rpartition(".")[2], (type(stage).__name__, stage.section.__name__)
            where = next((o for place in places if (o := origin(place, name)) != "the default"), "the default")
            raise SettingsDifferError(
                f"{clients.storage().uri(manifest.partition)} was made with {key} = {there}, "
                f"but this run says {here} ({where}); give this run another storage (--millrace-storage FOLDER), "
                f"or forget the old results (bin/clear {_first_with(stage, key).task_family}) and run again"
            )


def _first_with(stage: "Stage", key: str) -> "Stage":
    """The stage farthest up whose result depends on a setting: what it made has to go, and what builds on it."""
    for task in stage.required():
        if key in of(task):
            return _first_with(task, key)
    return stage


def _as_text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
