"""What workers install: a wheel of the pipeline's own package and of what the library ships, and of nothing else.

The wheel asks for millrace/beam/requirements.txt, and for the requirements.txt beside the pipeline's module, if there
is one. A wheel of plain Python is a zip file with three more files, so it is written here, in milliseconds, instead of
being built by setuptools in seconds; a worker needs no setuptools either. The same sources make the same bytes.
"""

import base64
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

from millrace import errors

_LIBRARY = Path(errors.__file__).parent
#: What of the library ships to workers.
_SHIPPED = [_LIBRARY / name for name in ("__init__.py", "errors.py", "common", "beam")]


def write(folder: str, pipeline: str) -> str:
    """Write the wheel for a pipeline's module into a folder; return its path."""
    import zipfile  # takes as long as all of this package to import, and most runs write no wheel

    files = _files(pipeline)
    # Named by its contents, because pip takes a package of the same version for the same package.
    version = f"0.{int(_digest(files)[:12], 16)}"
    info = f"millrace_pipelines-{version}.dist-info"
    own = "/".join([*pipeline.split(".")[:-1], "requirements.txt"])
    lists = [files[name].decode().split() for name in ("millrace/beam/requirements.txt", own) if name in files]
    needs = "".join(f"Requires-Dist: {line}\n" for lines in lists for line in lines)
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: millrace-pipelines\nVersion: {version}\n{needs}".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: millrace\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{name},sha256={_sha256(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = Path(folder) / f"millrace_pipelines-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            # Without a date of its own a member is of 1980.
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return str(wheel)


def digest(pipeline: str) -> str:
    """Return what tells the code for a pipeline's module from other code."""
    return _digest(_files(pipeline))


def _files(pipeline: str) -> dict[str, bytes]:
    """Return what workers need for a pipeline's module: path → bytes."""
    return {
        path.relative_to(part.parent if part not in _SHIPPED else _LIBRARY.parent).as_posix(): path.read_bytes()
        for part in [*_application(pipeline), *_SHIPPED]
        for path in sorted([part] if part.is_file() else part.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _digest(files: Mapping[str, bytes]) -> str:
    framed = (f"{name}\0{len(data)}\0".encode() + data for name, data in files.items())
    return hashlib.sha256(b"".join(framed)).hexdigest()


def _application(pipeline: str) -> Iterator[Path]:
    """Yield where the top-level package of a module lies, or the one file that such a module is."""
    top = pipeline.partition(".")[0]
    spec = importlib.util.find_spec(top) if top != _LIBRARY.name else None
    if spec and spec.submodule_search_locations:
        yield from map(Path, spec.submodule_search_locations)
    elif spec and spec.origin:
        yield Path(spec.origin)


def _sha256(data: bytes) -> str:
    """Return a digest as wheels write it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
