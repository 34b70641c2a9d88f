"""What helps people help themselves works: hooks, the forge's CI, the editor's settings, the packages' picture."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import running
import yaml


def targets() -> set[str]:
    """The targets of the Makefile that are no files."""
    made = re.search(r"^\.PHONY: (.*)$", (running.ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert made
    return set(made[1].split())


def called(text: str) -> set[str]:
    """The targets of the Makefile that a text calls, in a block of code or between backquotes."""
    return set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))


def test_the_forge_s_ci_calls_what_ci_run_calls() -> None:
    """.github/workflows/ci.yml is YAML whose one job calls the targets of .ci/run, all of which the Makefile has."""
    run = (running.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    forge = yaml.safe_load((running.ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = forge["jobs"].values()
    wanted = {line.split()[-1] for line in run.splitlines() if re.search(r"\bmake [a-z-]+$", line)}
    assert set(job["strategy"]["matrix"]["target"]) == wanted
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make ${{ matrix.target }}"]
    assert wanted <= targets()


def test_without_a_program_a_test_is_skipped_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is named, and where it comes from."""
    assert Path(running.need("unshare")).name == "unshare"
    monkeypatch.setenv("PATH", "/nonexistent")
    for ci, outcome in (("false", pytest.skip.Exception), ("true", pytest.fail.Exception)):
        monkeypatch.setenv("CI", ci)
        with pytest.raises(outcome, match=r"^gcloud is not installed \(https://cloud.google.com/sdk/"):
            running.need("gcloud")
        with pytest.raises(outcome, match=r"^no emulator of datastore is here: it takes Java and the Cloud SDK's"):
            running.need_emulator("datastore")


def test_contributing_calls_targets_that_are_there() -> None:
    """CONTRIBUTING.md and the docs name no target that the Makefile lacks."""
    texts = [running.ROOT / "CONTRIBUTING.md", running.ROOT / "README.md", *(running.ROOT / "docs").glob("*.md")]
    named = {name for path in texts for name in called(path.read_text(encoding="utf-8"))}
    assert "lint" in named
    assert named <= targets()


def test_hooks_mend_and_refuse_a_commit(tmp_path: Path) -> None:
    """In a new repository with the project's hooks, a commit of a badly laid out file is refused, the file mended."""
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        (tmp_path / name).write_bytes((running.ROOT / name).read_bytes())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "bad.py").write_text('"""Text."""\n\nimport sys\nimport os\n\nprint( os, sys )\n', encoding="utf-8")
    slow = "mypy,import-linter"
    env = {**os.environ, "SKIP": slow, "PRE_COMMIT_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    for command in (["git", "init", "-q"], [".venv/bin/pre-commit", "install"], ["git", "add", "bad.py"]):
        subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    commit = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-qm", "Bad"]
    refused = subprocess.run(commit, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert refused.returncode == 1, refused
    assert (tmp_path / "bad.py").read_text(
        encoding="utf-8"
    ) == '"""Text."""\n\nimport os\nimport sys\n\nprint(os, sys)\n'
    subprocess.run(["git", "add", "bad.py"], cwd=tmp_path, env=env, check=True)
    assert subprocess.run(commit, cwd=tmp_path, env=env, capture_output=True).returncode == 0


def test_files_are_as_the_editor_s_settings_have_them() -> None:
    """No text of the project ends a line in white space, and each ends in one line end, as .editorconfig says."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=running.ROOT, capture_output=True, text=True, check=True)
    paths = [running.ROOT / name for name in filter(None, listed.stdout.split("\0"))]
    texts = [path for path in paths if path.suffix in (".py", ".md", ".toml", ".cfg", ".yml", ".sql", ".sh", ".css")]
    assert texts
    untidy = [path for path in texts if re.search(rb"[ \t]\n|[^\n]\Z|\n\n\Z", path.read_bytes())]
    assert untidy == []


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, running.ROOT / "docs" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_shows_the_imports_that_there_are() -> None:
    """Each arrow of docs/architecture.svg is an import of the code, and none is missing; else: make architecture."""
    draw = _script("draw")
    arrows = re.findall(r"<title>([\w.]+)&#45;&gt;([\w.]+)</title>", draw.PICTURE.read_text(encoding="utf-8"))
    there = {(package, each) for package, imported in draw.direct(draw.imports()).items() for each in imported}
    assert set(arrows) == there


def test_an_arrow_that_others_imply_is_left_out() -> None:
    """Of a → b → c and a → c the last is left out."""
    direct = _script("draw").direct
    assert direct({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}
