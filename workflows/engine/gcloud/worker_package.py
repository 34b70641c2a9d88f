"""What workers install: a wheel of `pipelines`, and of nothing else, that asks for pipelines/requirements.txt.

A wheel of plain Python is a zip file with three more files, so it is written here, in milliseconds, instead of being
built by setuptools in seconds; a worker needs no setuptools either. The same sources make the same bytes.
"""

import base64
import hashlib
import zipfile
from pathlib import Path

from pipelines import errors


def write(folder: str) -> str:
    """Writes the wheel into a folder; its path."""
    package = Path(errors.__file__).parent
    files = {
        f"{package.name}/{path.relative_to(package)}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    digest = hashlib.sha256(b"".join(f"{name}\0{len(data)}\0".encode() + data for name, data in files.items()))
    # By its contents: pip takes a package of the same version for the same package.
    version = f"0.{int(digest.hexdigest()[:12], 16)}"
    info = f"millrace_pipelines-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in files[f"{package.name}/requirements.txt"].decode().split())
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
    """A digest as wheels write it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
