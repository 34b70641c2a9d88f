"""What workers install."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import running

from millrace.runners import worker_package


def held(wheel: Path) -> tuple[set[str], str]:
    """What a wheel holds, and what it says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        return names, archive.read(metadata).decode()


def test_workers_install_pipelines_and_nothing_else(tmp_path: Path) -> None:
    """The same sources are the same bytes; what the package needs is what requirements.txt of millrace/beam says, and
    that of the pipeline's folder.
    """
    (tmp_path / "again").mkdir()
    wheel, again = (
        Path(worker_package.write(str(folder), "pipelines.posts.etl")) for folder in (tmp_path, tmp_path / "again")
    )
    assert wheel.name == again.name
    assert wheel.read_bytes() == again.read_bytes()
    names, metadata = held(wheel)
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    assert {name.split("/")[0] for name in names} == {"millrace", "pipelines", info}
    library = {"/".join(name.split("/")[:2]) for name in names if name.startswith("millrace/")}
    assert library == {"millrace/__init__.py", "millrace/errors.py", "millrace/common", "millrace/beam"}
    assert "pipelines/posts/etl.py" in names
    needs = (running.ROOT / "millrace/beam/requirements.txt").read_text(encoding="utf-8").split()
    assert [line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")] == needs
    digits = held(Path(worker_package.write(str(tmp_path), "pipelines.digits.score")))
    assert "pipelines/digits/model/digits.onnx" in digits[0]
    own = (running.ROOT / "pipelines/digits/requirements.txt").read_text(encoding="utf-8").split()
    assert [line.split(": ")[1] for line in digits[1].splitlines() if line.startswith("Requires-Dist")] == needs + own
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


def test_what_ships_is_the_pipeline_s_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of any name, one without an __init__.py too, or a module that is one file; of the library no more."""
    for name in ("ours/logs/statuses.py", "ours/__init__.py", "ours/logs/words.txt", "bare/one.py", "alone.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for module, files in {
        "ours.logs.statuses": {"ours/logs/statuses.py", "ours/__init__.py", "ours/logs/words.txt"},
        "bare.one": {"bare/one.py"},
        "alone": {"alone.py"},
        "millrace.beam.files": set(),
    }.items():
        names, _ = held(Path(worker_package.write(str(tmp_path), module)))
        assert {name for name in names if not name.startswith("millrace")} == files
        assert "millrace/tasks/stage.py" not in names
