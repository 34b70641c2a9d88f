"""What workers install."""

import subprocess
import sys
import zipfile
from pathlib import Path

import running

from millrace.runners.dataflow import worker_package


def test_workers_install_pipelines_and_nothing_else(tmp_path: Path) -> None:
    """The same sources are the same bytes; what the package needs is what setup.py says that pipelines need."""
    (tmp_path / "again").mkdir()
    wheel, again = Path(worker_package.write(str(tmp_path))), Path(worker_package.write(str(tmp_path / "again")))
    assert wheel.name == again.name
    assert wheel.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
    assert {name.split("/")[0] for name in names} == {"millrace", "pipelines", info}
    assert "pipelines/posts/etl.py" in names
    needs = (running.ROOT / "millrace" / "beam" / "requirements.txt").read_text(encoding="utf-8").split()
    assert [line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")] == needs
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-index",
            "--no-deps",
            "--target",
            str(tmp_path / "in"),
            str(wheel),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
