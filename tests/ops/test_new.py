"""new-workflow and new-stage refuse what can't be written, in one sentence each; what they write is walked through in
tests/test_installed.py.
"""

from pathlib import Path

import click
import pytest

from millrace.ops import arguments, new


@pytest.mark.parametrize(
    ("command", "name", "said"),
    [
        (new.workflow, "2x", "'2x' is no name: write small letters"),
        (new.workflow, "class", "'class' is no name"),
        (new.workflow, "../x", "'../x' is no name"),
        (new.workflow, "millrace", "there is a task or section millrace already"),
        (new.workflow, "logs", "is no project: it has notes.txt, but no luigi.cfg"),
        (new.stage, "Errors", "'Errors' is no name"),
        (new.stage, "errors", "is no project: there is no luigi.cfg"),
    ],
)
def test_what_can_t_be_written_is_one_sentence(
    command: click.Command,
    name: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No name, a name that is taken, a folder with somebody's work that is no project: nothing is written."""
    if "section" not in said:
        (tmp_path / "notes.txt").write_text("work")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert arguments.run(command, [name]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_section_gets_its_line_where_its_keys_end(tmp_path: Path) -> None:
    """A comment above the next section stays there."""
    path = tmp_path / "luigi.cfg"
    path.write_text("[one]\na = 1\n\n# About two.\n[two]\nb = 2\n")
    new._set(path, "one", "c = 3\n")
    assert path.read_text() == "[one]\na = 1\nc = 3\n\n# About two.\n[two]\nb = 2\n"


def test_imports_stand_where_isort_has_them() -> None:
    """A name joins the import of its module; too many for a line stand on a line each."""
    text = '"""Tasks."""\n\nfrom a import B\nfrom c import d\n'
    assert new._importing(text, "a", ["A", "C"]) == '"""Tasks."""\n\nfrom a import A, B, C\nfrom c import d\n'
    assert new._importing(text, "b", ["X"]) == '"""Tasks."""\n\nfrom a import B\nfrom b import X\nfrom c import d\n'
    names = [f"N{n:030d}" for n in range(4)]
    assert "from c import (\n    N0" in new._importing(text, "c", names)
