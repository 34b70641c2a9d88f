"""The library without this folder: installed from a wheel, in a folder with luigi.cfg and workflows of one's own."""

import json
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest
import running
from running import DAY, Ran


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python in which a wheel of the project is installed, and what it needs; nothing leads to this folder."""
    folder = tmp_path_factory.mktemp("installed")
    unwanted = shutil.ignore_patterns("*.egg-info", "__pycache__", "build")
    source = folder / "source"
    for package in ("bigquery_sql", "localcloud", "millrace"):
        shutil.copytree(running.ROOT / package, source / package, ignore=unwanted)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(running.ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (there,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    # The files that make this folder importable are read in site-packages itself, and not in what a .pth file names.
    (there / "needed.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q"]
    python = folder / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", *offline, source], check=True)
    shutil.rmtree(source)
    return python


def test_the_task_of_the_docs_runs_beside_luigi_cfg(installed: Path, undisturbed: Path, tmp_path: Path) -> None:
    """docs/engine.md's task, copied out, runs by the docs' command without a PYTHONPATH; query and clear know it."""
    docs = (running.ROOT / "docs/engine.md").read_text(encoding="utf-8")
    (task,) = [code for code in re.findall(r"```python\n(.*?)```", docs, re.DOTALL) if "class LongWords" in code]
    (tmp_path / "long_words.py").write_text(task, encoding="utf-8")
    settings = (running.ROOT / "luigi.cfg").read_text(encoding="utf-8")
    (tmp_path / "luigi.cfg").write_text(re.sub(r"\ndays = \d+\n", "\ndays = 1\n", settings), encoding="utf-8")
    shutil.copytree(undisturbed, tmp_path / "data")
    for package in ("pipelines", "workflows"):  # the wheel has none, so that these are the user's
        assert not list(installed.parent.parent.rglob(package))
        shutil.copytree(running.ROOT / package, tmp_path / package)
    env = running.environment(PATH=f"{installed.parent}:/usr/bin:/bin")
    del env["PYTHONPATH"], env["LUIGI_CONFIG_PATH"]

    def shell(command: str) -> Ran:
        return running.run(["sh", "-c", command], tmp_path, env)

    (command,) = re.findall(r"`(python -m luigi --module long_words .*?)`", docs)
    ran = shell(command.replace("2026-11-19", str(DAY)))
    assert ran.code == 0, ran
    ran = shell("millrace query 'SELECT COUNT(*) AS n FROM long_words' --format json")
    assert json.loads(ran.out)["n"] > 0, ran
    sql = f"SELECT word, percent FROM {{}} WHERE date = DATE '{DAY}' AND LENGTH(word) > 10 ORDER BY word"
    top = running.select(undisturbed, sql.format("word_counts"))
    assert running.select(tmp_path / "data", sql.format("long_words")) == top
    manifest = tmp_path / f"data/long_words/date={DAY}/_MANIFEST.json"
    manifest.write_text("{")
    (printed,) = set(
        re.findall(r"with (millrace clear .*)$", str(shell(command.replace("2026-11-19", str(DAY)))), re.M)
    )
    ran = shell(printed)
    assert (ran.code, manifest.exists()) == (0, False), ran
