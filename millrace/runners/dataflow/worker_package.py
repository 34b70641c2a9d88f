"""What workers install: a wheel of `pipelines`, and of nothing else, that asks for millrace/beam/requirements.txt.

A wheel of plain Python is a zip file with three more files, so it is written here, in milliseconds, instead of being
built by setuptools in seconds; a worker needs no setuptools either. The same sources make the same bytes.
"""

import base64
import hashlib
import zipfile
from pathlib import Path

import pipelines
from millrace import errors

_LIBRARY = Path(errors.__file__).parent
#: What the wheel holds: the application's pipelines, and of the library what ships to workers.
_SHIPPED = (
    Path(pipelines.__path__[0]),
    _LIBRARY / "__init__.py",
    _LIBRARY / "errors.py",
    _LIBRARY / "common",
    _LIBRARY / "beam",
)


def write(folder: str) -> str:
    """Write the wheel into a folder; its path."""
    files = {
        path.relative_to((part if part.name == "pipelines" else _LIBRARY).parent).as_posix(): path.read_bytes()
        for part in _SHIPPED
        for path in sorted([part] if part.is_file() else part.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    digest = hashlib.sha256(b"".join(f"{name}\0{len(data)}\0".encode() + data for name, data in files.items()))
    # By its contents: pip takes a package of the same version for the same package.
    version = f"0.{int(digest.hexdigest()[:12], 16)}"
    info = f"millrace_pipelines-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in files["millrace/beam/requirements.txt"].decode().split())
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


def _sha256(data: bytes) -> str:
    """Return a digest as wheels write it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
