"""Imports Beam without Google's clients, which are a third of its import, for runs that use nothing of Google Cloud.

Beam imports them where they are installed and does without where they are not; both are in its code. Here they seem not
to be installed while Beam is imported. Whoever asks for them later finds what he would have found:

    import apache_beam.io.gcp.bigquery           as ever
    beam.io.WriteToBigQuery, beam.io.gcp.pubsub  Python asks a module's __getattr__ for names that are not there
    beam.io.ReadFromText("gs://…")               a file system of Beam's that gives way to the real one

Nothing of Beam's is replaced.
"""

import contextlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_FILES = "apache_beam.io.gcp.gcsfilesystem"
#: What Beam takes from where into apache_beam.io, in its order.
_STARS = ("apache_beam.io.gcp.bigquery", "apache_beam.io.gcp.pubsub", "apache_beam.transforms.xlang.io")
#: A client of which Beam takes the module alone, so that Python itself can load it late.
_LAZY = "google.cloud.dataflow"
#: Whether a thread is importing the rest; and the file system that gives way, since Beam finds what somebody holds.
_busy = threading.local()
_later: type | None = None


class _Without:
    """A finder of modules by which this thread finds no module of Beam's that needs Google's clients."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if threading.get_ident() != self._thread:
            return None
        if name in (_FILES, _STARS[0]):
            raise ModuleNotFoundError(f"{name} is imported later", name=name)
        spec = PathFinder.find_spec(name, path, target) if name == _LAZY else None
        if spec and spec.loader:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def import_beam() -> None:
    """Import Beam, unless that is done."""
    if "apache_beam" in sys.modules:
        return
    finder: Any = _Without()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("apache_beam")
    finally:
        sys.meta_path.remove(finder)
    io: Any = importlib.import_module("apache_beam.io")
    io.__getattr__, io.gcp.__getattr__ = _of_io, _of_gcp
    _give_way()


def _of_io(name: str) -> Any:
    """Return what would be in apache_beam.io, had it not been left out."""
    # Of the names that only Python asks for, __all__ is asked by `import *`, which then takes what is there.
    if (not name.startswith("__") or name == "__all__") and not getattr(_busy, "here", False):
        _busy.here = True  # because what is being imported may ask too, and finds nothing, as it would in Beam
        try:
            _import_rest()
        finally:
            _busy.here = False
        if name in (here := vars(importlib.import_module("apache_beam.io"))):
            return here[name]
    raise AttributeError(f"module 'apache_beam.io' has no attribute {name!r}")


def _of_gcp(name: str) -> Any:
    """Return a module of apache_beam.io.gcp, which Beam would have imported."""
    if not name.startswith("_"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(f"apache_beam.io.gcp.{name}")
    raise AttributeError(f"module 'apache_beam.io.gcp' has no attribute {name!r}")


def _import_rest() -> None:
    """Import what was left out, as Beam does; a second time is nothing."""
    here = vars(importlib.import_module("apache_beam.io"))
    with contextlib.suppress(ImportError):
        for name in _STARS:
            module = importlib.import_module(name)
            here |= {each: getattr(module, each) for each in _public(module)}
        here["gcsio"] = importlib.import_module("apache_beam.io.gcp.gcsio")


def _public(module: ModuleType) -> Iterator[str]:
    """Return the names that `import *` takes."""
    return iter(getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")])


def _give_way() -> None:
    """Have Beam find a file system for gs:// as long as its own has not been imported."""
    global _later
    from apache_beam.io.filesystem import FileSystem

    class GoogleLater(FileSystem):
        """Beam's own file system, as soon as there is one to be made."""

        @classmethod
        def scheme(cls) -> str | None:
            return None if _FILES in sys.modules else "gs"

        def __new__(cls, pipeline_options: Any) -> Any:
            return importlib.import_module(_FILES).GCSFileSystem(pipeline_options)

    _later = GoogleLater
