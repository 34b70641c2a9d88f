"""The library without this folder: installed from a wheel, in a folder with luigi.cfg and workflows of one's own."""

import ast
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

#: What the installed library replaces in the walk of docs/extending.md: it is there already, and nothing is downloaded.
_THERE = ("python3 -m venv ", ". .venv/", "pip install ")


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


def edited(text: str, block: str) -> str:
    """A module as a block of the docs has it: a name's new meaning in the place of the old one, the rest on top."""
    there = {name: node for node in ast.parse(text).body for name in _names(node)}
    changes, new = [], []
    for node in ast.parse(block).body:
        said = ast.get_source_segment(block, node) or ""
        old = next((there[name] for name in _names(node) if name in there), None)
        if old is None:
            new.append(said)
        else:
            changes.append((old, said))
    lines = text.split("\n")
    for old, said in sorted(changes, key=lambda change: -change[0].lineno):
        lines[old.lineno - 1 : old.end_lineno] = said.split("\n")
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    for said in sorted(new, key=lambda said: said.startswith("import ")):  # imports last, since they stand above
        above = imports[0].lineno - 1 if said.startswith("import ") else max(node.end_lineno or 0 for node in imports)
        lines[above:above] = [said] if said.startswith("import ") else ["", said]
    return "\n".join(lines)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []


def walked() -> list[tuple[str, str, str]]:
    """The blocks of docs/extending.md that are walked through: `sh` or `python`, the file that one is of, the text."""
    docs = (running.ROOT / "docs/extending.md").read_text(encoding="utf-8")
    return re.findall(r"^```(sh|python) walk ?(\S*)\n(.*?)^```$", docs, re.MULTILINE | re.DOTALL)


def test_the_walk_through_a_workflow_of_one_s_own(installed: Path, tmp_path: Path) -> None:
    """docs/extending.md as written, in an empty folder with the library installed: every command ends with 0, tables
    and page are those of the lines that it shows, and the linters have nothing to say.
    """
    folder = tmp_path / "my logs"
    folder.mkdir()
    env = running.environment(PATH=f"{installed.parent}:/usr/bin:/bin", HOME=str(tmp_path))
    env = {name: value for name, value in env.items() if not name.startswith(("PYTEST", "PYTHONPATH", "LUIGI"))}
    said = ""
    for kind, file, text in walked():
        if kind == "sh":
            script = "\n".join(line for line in text.splitlines() if not line.startswith(_THERE))
            ran = running.run(["bash", "-euo", "pipefail", "-c", script], folder, env)
            assert ran.code == 0, (script, ran)
            assert "Traceback" not in str(ran)
            said += ran.out
        else:
            (folder / file).write_text(edited((folder / file).read_text(encoding="utf-8"), text), encoding="utf-8")
    assert '{"requests": 4, "errors": 1}' in said
    assert re.search(r"^ *200 +2\n *404 +1\n *500 +1\n", said, re.MULTILINE), said
    page = (folder / "data/logs_pages/date=2026-11-19/index.html").read_text(encoding="utf-8")
    assert re.findall(r"<td>(\d\d:00)<td class=\"n\">(\d+)<td class=\"n\">(\d+)", page) == [
        ("09:00", "200", "2"),
        ("09:00", "404", "1"),
        ("10:00", "500", "1"),
    ]
    assert "date=2026-11-19/index.html" in (folder / "data/logs_pages/index.html").read_text(encoding="utf-8")
    ruff = running.run([running.python(), "-m", "ruff", "check", "--no-cache", "--ignore", "I001", "."], folder)
    assert ruff.code == 0, ruff
    if running.WHOLE:
        mypy = running.run([running.python(), "-m", "mypy"], folder, env)
        assert mypy.code == 0, mypy


def test_the_walk_is_as_short_as_it_says() -> None:
    """A workflow of one's own takes at most 100 lines, one more stage with its table and test at most 40."""
    docs = (running.ROOT / "docs/extending.md").read_text(encoding="utf-8")
    stage = docs.index("## One more stage")
    lengths = {True: 0, False: 0}
    for found in re.finditer(r"^```python walk \S*\n(.*?)^```$", docs, re.MULTILINE | re.DOTALL):
        lengths[found.start() > stage] += sum(bool(line.strip()) for line in found[1].splitlines())
    assert 0 < lengths[False] <= 100
    assert 0 < lengths[True] <= 40
