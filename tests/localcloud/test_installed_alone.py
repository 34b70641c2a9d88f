"""The local cloud by itself: in a venv of its own with what the extra `localcloud` asks for, and nothing else."""

import importlib.metadata
import os
import shutil
import site
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import running
from packaging.requirements import Requirement

from localcloud import BUCKET, PROJECT, REGION

#: What somebody does there who never heard of Millrace.
CLIENT = f"""
import sys
import apache_beam as beam
from google.cloud import bigquery, storage

client = storage.Client()
client.create_bucket("my-bucket").blob("ü/greeting").upload_from_string("hello")
print(client.bucket("my-bucket").blob("ü/greeting").download_as_text())
print([blob.name for blob in client.list_blobs("my-bucket", match_glob="**/g*")])
tables = bigquery.Client(project="{PROJECT}")
print([tuple(row) for row in tables.query_and_wait("SELECT 6 * 7 AS n, FORMAT_DATE('%d.%m.', DATE '2026-11-19') AS d")])
options = beam.options.pipeline_options.PipelineOptions([
    "--runner=DataflowRunner", "--project={PROJECT}", "--region={REGION}", "--job_name=words", "--temp_location=gs://{BUCKET}/t",
    "--dataflow_endpoint=" + sys.argv[1]])
with beam.Pipeline(options=options) as pipeline:
    pipeline | beam.Create(["a b", "c"]) | beam.FlatMap(str.split) | beam.io.WriteToText("gs://{BUCKET}/words")
print(sorted(b"".join(blob.download_as_bytes() for blob in client.list_blobs("{BUCKET}", prefix="words")).split()))
"""

#: And a test of theirs.
TEST = """
def test_storage(place, faults):
    assert place.write("a", "b") == f"{place.uri}/a"
    assert place.lines("*") == ["b"]
"""


def needed(extra: str) -> set[str]:
    """The distributions that an extra of this project asks for, with all that they ask for in their turn."""
    project = tomllib.loads((running.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = (running.ROOT / "millrace/beam/requirements.txt").read_text(encoding="utf-8").splitlines()
    todo = [Requirement(each) for each in (*base, *project["optional-dependencies"][extra])]
    found: dict[str, set[str]] = {}
    while todo:
        requirement = todo.pop()
        known = found.setdefault(requirement.name.lower().replace("_", "-"), set())
        extras = {"", *requirement.extras} - known
        known |= extras
        for text in importlib.metadata.requires(requirement.name) or () if extras else ():
            each = Requirement(text)
            if any(each.marker is None or each.marker.evaluate({"extra": name}) for name in extras):
                todo.append(each)
    return {*found}


def linked(names: Iterable[str], folder: Path) -> None:
    """Put the installed files of distributions, as links, into another site-packages."""
    here = [Path(path) for path in site.getsitepackages()]
    for name in names:
        for file in importlib.metadata.files(name) or ():
            source = Path(str(file.locate()))
            if not any(source.is_relative_to(path) for path in here) or ".." in file.parts:
                continue
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(source)
            for compiled in (source.parent / "__pycache__").glob(f"{source.stem}.{sys.implementation.cache_tag}*.pyc"):
                cached = target.parent / "__pycache__" / compiled.name
                cached.parent.mkdir(exist_ok=True)
                if not cached.exists():
                    cached.symlink_to(compiled)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin of such a venv, into which pip has installed the project's wheel."""
    folder = tmp_path_factory.mktemp("alone")
    for package in ("bigquery_sql", "localcloud", "millrace"):
        unwanted = shutil.ignore_patterns("*.egg-info", "__pycache__", "build")
        shutil.copytree(running.ROOT / package, folder / "source" / package, ignore=unwanted)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(running.ROOT / name, folder / "source" / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (there,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    linked([*needed("localcloud"), "pip"], there)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q"]
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", *offline, folder / "source"], check=True, env=clean(folder))
    shutil.rmtree(folder / "source")
    return python.parent


def clean(folder: Path) -> dict[str, str]:
    """An environment that leads nowhere near this project."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", "TMPDIR": os.environ.get("TMPDIR", "/tmp")}


def test_the_extra_alone_is_enough(alone: Path, tmp_path: Path) -> None:
    """In a folder of somebody else the command starts, and Google's clients and Beam's own runner work in it."""
    for absent in ("luigi", "pytest", "hypothesis", "vl_convert"):
        assert not list(alone.parent.glob(f"lib/python3*/site-packages/{absent}"))
    (tmp_path / "client.py").write_text(CLIENT, encoding="utf-8")
    command = 'python client.py "$(sed -n "s/^dataflow_endpoint = //p" "$LUIGI_CONFIG_PATH")"'
    ran = running.run([alone / "localcloud", "--", "sh", "-c", command], tmp_path, clean(tmp_path))
    assert ran.out.splitlines() == ["hello", "['ü/greeting']", "[(42, '19.11.')]", "[b'a', b'b', b'c']"], ran
    assert ran.code == 0
    ran = running.run([alone / "python", "-m", "localcloud", "--", "sh", "-c", "exit 7"], tmp_path, clean(tmp_path))
    assert ran.code == 7, ran


def test_pytest_has_the_fixtures_without_a_word(alone: Path, tmp_path: Path) -> None:
    """Who has pytest besides finds them by the package's entry point."""
    linked(["pytest", "iniconfig", "pluggy", "packaging", "pygments"], tmp_path / "tools")
    (tmp_path / "test_mine.py").write_text(TEST, encoding="utf-8")
    env = {**clean(tmp_path), "PYTHONPATH": str(tmp_path / "tools")}
    ran = running.run([alone / "python", "-m", "pytest", "-q", "test_mine.py"], tmp_path, env)
    assert (ran.code, "1 passed" in ran.out) == (0, True), ran


@pytest.mark.parametrize("name", ["duckdb", "click"])
def test_what_is_missing_is_named(alone: Path, tmp_path: Path, name: str) -> None:
    """Where the extra was not installed, one sentence says what to do."""
    code = f"import sys; sys.modules['{name}'] = None; from localcloud.__main__ import main; sys.exit(main())"
    ran = running.run([alone / "python", "-c", code], tmp_path, clean(tmp_path))
    assert (ran.code, ran.out, ran.err) == (
        1,
        "",
        f"error: localcloud needs {name}; pip install 'millrace[localcloud]'\n",
    )
