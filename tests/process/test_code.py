"""Which code made a result: what it does counts, and that of what it imports; how it is written down does not."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import running

from millrace import BeamTask
from millrace.core import code
from workflows import Aggregate, Count, Etl, Fetch, Report

MADE = '''
"""Counts."""
import json
from typing import TYPE_CHECKING

from . import helping
from .parts.deep import depth as how_deep

if TYPE_CHECKING:
    from . import typing_only


def count(rows):
    """Returns how many there are."""
    import beside_it

    return len(rows) + helping.MORE + how_deep() + beside_it.ONE
'''
FILES = {
    "made/__init__.py": "raise ImportError('nothing is imported')",
    "made/counting.py": MADE,
    "made/helping.py": "from millrace.beam.shards import shard_of\nMORE = 1\n",
    "made/typing_only.py": "A = 1\n",
    "made/unused.py": "A = 1\n",
    "made/parts/deep.py": "def depth():\n    return 2\n",
    "made/words.txt": "one\n",
    "beside_it.py": "ONE = 1\n",
}
_numbers = itertools.count()


class Made:
    """A small project, of other names each time: modules are looked for once a process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, next(_numbers)
        for name, text in FILES.items():
            self.write(name, text)

    def named(self, text: str) -> str:
        """A text with this project's names."""
        return text.replace("made", f"made{self.number}").replace("beside_it", f"beside_it{self.number}")

    def write(self, name: str, text: str) -> None:
        path = self.folder / self.named(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.named(text), encoding="utf-8")

    def stage(self, made_by: str = "made.counting", version: str = "") -> type[BeamTask]:
        """A stage of it."""
        return type("Stage", (BeamTask,), {"pipeline": self.named(made_by), "version": version})


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.syspath_prepend(str(tmp_path))
    code._own_paths.cache_clear()
    return Made(tmp_path)


def said(project: Made, changed: str = "", text: str = "", **how: str) -> tuple[str, bool]:
    """What is said of the code after a change, and whether what was made before it was made by that."""
    stage = project.stage(**how)
    before = code.of(stage)
    if changed:
        project.write(changed, text)
    for each in (code._parsed, code._bytes, code._read, code._found, code._names, code._needed, code._own_paths):
        each.cache_clear()
    return code.of(stage), code.is_of(before, stage)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ("made/counting.py", MADE.replace("len(rows)", "len(rows) + 1")),
        ("made/counting.py", MADE.replace("helping.MORE", "helping.more")),
        ("made/helping.py", "from millrace.beam.shards import shard_of\nMORE = 2\n"),
        ("made/parts/deep.py", "def depth():\n    return 3\n"),
        ("made/parts/deep.py", "def depth(:\n"),
        ("beside_it.py", "ONE = 1.0\n"),
    ],
)
def test_code_that_does_something_else_is_other_code(made: Made, changed: str, text: str) -> None:
    """A change of the module, or of one that it imports, wherever it lies, is another code."""
    _, same = said(made, changed, text)
    assert not same


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ("made/counting.py", MADE.replace("Counts.", "Counts well.").replace("Returns how many", "Returns all that")),
        ("made/counting.py", MADE.replace("def count(rows):", "# A comment.\n\n\ndef count(\n    rows,\n):")),
        ("made/counting.py", MADE.replace('    """Returns how many there are."""\n', "")),
        ("made/counting.py", MADE.replace("\n", "\r\n")),
        ("made/helping.py", "from millrace.beam.shards import shard_of\n\nMORE = 0x1  # more\n"),
        ("made/typing_only.py", "A = 2\n"),
        ("made/unused.py", "A = 2\n"),
        ("made/words.txt", "two\n"),
    ],
)
def test_what_changes_nothing_is_the_same_code(made: Made, changed: str, text: str) -> None:
    """Comments, docstrings and layout don't count, nor files that the module does not use or only for its types."""
    _, same = said(made, changed, text)
    assert same


def test_a_package_that_is_named_counts_as_a_whole(made: Made) -> None:
    """Of a package all modules count, and all files: texts and templates that its code reads."""
    assert not said(made, "made/unused.py", "A = 2\n", made_by="made")[1]
    assert not said(made, "made/words.txt", "two\n", made_by="made")[1]
    assert said(made, "beside_it.py", "# one\nONE = 1\n", made_by="made")[1]


def test_texts_of_a_package_that_is_imported_count(made: Made) -> None:
    """What a package reads of its own files counts for whatever imports something of the package itself, and for no
    other.
    """
    for name, text in {
        "frame/__init__.py": "TITLE = 1\n",
        "frame/page.txt": "one\n",
        "frame/unused.py": "A = 1\n",
    }.items():
        made.write(f"made/{name}", text)
    made.write("made/framed.py", "from made.frame import TITLE\n")
    assert not said(made, "made/frame/page.txt", "two\n", made_by="made.framed")[1]
    assert said(made, "made/frame/unused.py", "A = 2\n", made_by="made.framed")[1]
    assert said(made, "made/frame/page.txt", "three\n")[1]


@pytest.mark.parametrize(
    "left",
    ["made/parts/__pycache__/deep.cpython-311.pyc", "made/.words.txt.swp", "made/.cache/a.txt", "made/new/.keep"],
)
def test_what_tools_leave_in_a_package_is_no_code(made: Made, left: str) -> None:
    """What Python or an editor keeps in a package for itself, and a folder with nothing in it, change no result."""
    assert said(made, left, "x", made_by="made")[1]


def test_a_module_called_like_something_of_the_library_is_our_own(made: Made) -> None:
    """What is imported from a package of ours is that package's, wherever in the alphabet the package stands."""
    own = f"own{made.number}"
    for name in ("made/Table.py", f"{own}/Table.py"):
        made.write(name, "A = 1\n")
    made.write("made/counting.py", f"from . import Table\nfrom {own} import Table as other\n")
    names = {made.named("made.counting"), made.named("made.Table"), f"{own}.Table"}
    assert code._files(made.named("made.counting"), False, code._imports).keys() == names


def test_tasks_that_a_module_builds_on_are_not_its_code(made: Made) -> None:
    """Where a module of another package imports workflows' tasks, they are stages with code of their own; and of the
    library only what ships to workers makes results.
    """
    made.write(
        "made/counting.py",
        "import workflows.report.page\nfrom workflows import Count\nfrom millrace.beam import shards\n"
        "import millrace.core.keys\nfrom millrace.core import ledger\nfrom millrace import Stage\n",
    )
    assert set(code._files(made.named("made.counting"), False, code._imports)) == {
        made.named("made.counting"),
        "millrace.beam.shards",
    }


def test_a_declared_version_is_all_that_counts(made: Made) -> None:
    """Whoever declares a version says when results change; a task's parameter of that name declares nothing."""
    text, same = said(made, "made/counting.py", MADE.replace("len(rows)", "0"), version="2")
    assert (text, same) == ("version 2", True)
    assert not code.is_of("version 1", made.stage(version="2"))
    assert not code.is_of("3f2c3f2c3f2c/9a119a119a11", made.stage(version="2"))
    assert not code.is_of("version 2", made.stage())


def test_two_manifests_say_the_same_code() -> None:
    """What files mean counts, and a declared version as a whole; people are told of four characters, or the version."""
    assert code.same("3f2c3f2c3f2c/9a119a119a11", "3f2c3f2c3f2c/000000000000")
    assert not code.same("3f2c3f2c3f2c/9a119a119a11", "4f2c3f2c3f2c/9a119a119a11")
    assert code.same("version 1/2", "version 1/2")
    assert not code.same("version 1/2", "version 1/3")
    assert [code.short(said) for said in ("3f2c3f2c3f2c/9a119a119a11", "version 12", "")] == ["3f2c", "version 12", ""]


def test_code_that_can_t_be_read_is_not_called_another(made: Made) -> None:
    """Where there are no files, as of what was typed in, nothing is known and nothing is said."""
    stage = made.stage("typed.in")
    assert code.of(stage) == ""
    assert code.is_of("3f2c3f2c3f2c/9a119a119a11", stage)


def test_the_quick_look_sees_every_import(tmp_path: Path) -> None:
    """What is looked for without parsing has all that parsing finds, in all files of the project and in odd ones."""
    odd = (
        "import a.b as c, d; from e import f\nfrom g import (h, # i)\n  j,\n)\nfrom k import l, \\\n  m\n"
        "if True: import n\nfrom . import o\nfrom .p import q\nfrom .. import r\nfrom s import *\n"
        "class A:\n\tdef b(self): from t.u import v; import größe\n"
    )
    files = {path: path.read_bytes() for name in ("pipelines", "workflows", "tests") for path in _python(name)}
    for path, data in {**files, tmp_path: odd.encode()}.items():
        found = set(code._imports("x.y", data))
        assert found <= set(code._likely_imports("x.y", data)), path
    assert {"a.b", "d", "e.f", "g.j", "k.m", "n", "x.y.o", "x.y.p.q", "x.r", "s.*", "t.u.v", "größe"} <= found


def _python(folder: str) -> Iterator[Path]:
    return (running.ROOT / folder).rglob("*.py")


def test_the_posts_stages_are_made_by_their_pipelines() -> None:
    """What counts of Millrace's own: a pipeline with what it imports; not the rest of the library, nor the tasks."""
    for stage in (Fetch, Etl, Count, Aggregate):
        files = code._files(*stage.maker(), code._imports)
        assert {stage.pipeline, "millrace.beam.files"} <= files.keys()
        assert not [
            name
            for name in files
            if not name.startswith(("pipelines.", "millrace.beam.", "millrace.common.", "millrace.errors"))
        ]
    page = code._files(*Report.maker(), code._imports)
    assert {
        "workflows.report.charts",
        "workflows.pages.svg",
        "workflows.pages/templates/style.css",
        "page.sql",
        "templates/day.html.j2",
        "millrace.common.text",
    } <= page.keys()
    assert not [
        name
        for name in page
        if name.startswith(("millrace.tasks", "millrace.core", "workflows.posts", "pipelines.posts"))
    ]


def test_nothing_is_imported_to_look_at_code() -> None:
    """The digest of a pipeline is had without Beam, Arrow or the pipeline itself."""
    known = "import sys; from workflows import Count; from millrace.core import code; print(code.of(Count));"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{known} print({{'apache_beam', 'pyarrow', 'pipelines.posts.count'}} & {{*sys.modules}})",
        ],
        env=running.environment(),
        cwd=running.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{code.of(Count)}\nset()\n"
