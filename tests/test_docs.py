"""The docs teach what works: each of their blocks of code is run as it stands, in a checkout of its own.

A block says in its fence what it is. `sh` is run, `sh account` needs an account at Google and is read by a shell,
`ini` is read as luigi.cfg, `python` is what the named file holds or a file of its own, `python theirs` is for another
system and read as Python, `toml` is a graph of jobs, `mermaid` the picture of one that is shipped, `text` is no code.
"""

import ast
import gzip
import json
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gcloud_parsing
import https_proxy
import pytest
import running

DOCS = [running.ROOT / "README.md", running.ROOT / "CONTRIBUTING.md", *sorted((running.ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What runs in the place of a command line that can't run within the tests: the tests themselves, say, or linters.
_INSTEAD = {
    **{f"make {target}": f"make --dry-run {target}" for target in ("test", "lint", "docs", "stream-demo")},
    ".venv/bin/pre-commit install": ".venv/bin/pre-commit validate-config",
}


@dataclass(frozen=True)
class Block:
    """A block of code of a document. place: document and line; kind: what stands behind its fence."""

    place: str
    kind: str
    text: str


def blocks(*kinds: str) -> list[Block]:
    """The blocks of some kinds in all documents; of every kind unless one is named."""
    found = []
    for path in DOCS:
        text = path.read_text(encoding="utf-8")
        for fence in _FENCE.finditer(text):
            line = text.count("\n", 0, fence.start()) + 1
            found.append(Block(f"{path.relative_to(running.ROOT)}:{line}", fence[1], fence[2]))
    return [block for block in found if not kinds or block.kind in kinds]


def _named(blocks: list[Block]) -> list[object]:
    return [pytest.param(block, id=block.place) for block in blocks]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as `make` leaves it: the project's files and a .venv in which that checkout is installed."""
    root = tmp_path_factory.mktemp("checkout") / "millrace"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=running.ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (running.ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(running.ROOT / name, root / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    (packages,) = (root / ".venv" / "lib").glob("python3*/site-packages")
    (installed,) = site.getsitepackages()
    for each in Path(installed).iterdir():
        if not each.name.startswith("__editable__"):  # the checkout that the tests are of
            (packages / each.name).symlink_to(each)
    (packages / "millrace.pth").write_text(f"{root}\n", encoding="utf-8")
    for script in Path(sys.executable).parent.iterdir():
        there, shebang = root / ".venv" / "bin" / script.name, f"#!{sys.executable}\n".encode()
        if not there.exists() and script.is_file() and (data := script.read_bytes()).startswith(shebang):
            there.write_bytes(data.replace(shebang, f"#!{root}/.venv/bin/python\n".encode(), 1))
            there.chmod(0o755)
    for mark in ("python", "workflows", "digits", "localcloud", "test"):
        (root / ".venv" / mark).touch()
    return root


@pytest.fixture(scope="module")
def clean(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A newcomer's environment: a home, the checkout's programs, and example.org with three posts a day."""
    home = tmp_path_factory.mktemp("home")

    def page(path: str) -> bytes | None:
        day = re.fullmatch(r"/posts-(\d{4}-\d\d-\d\d)\.jsonl\.gz", path)
        posts = (
            [{"id": n, "created_at": f"{day[1]}T10:00:00Z", "text": f"lamp number {n}"} for n in range(3)]
            if day
            else []
        )
        return gzip.compress("".join(json.dumps(post) + "\n" for post in posts).encode()) if day else None

    with https_proxy.proxying(home, "example.org", page) as asked:
        path = os.pathsep.join([str(checkout / ".venv" / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
        yield {
            "HOME": str(home),
            "PATH": path,
            "TZ": os.environ.get("TZ", ""),
            "NO_PROXY": "localhost,127.0.0.1",
            **asked,
        }


def test_every_block_says_what_it_is() -> None:
    """No block of code is of an unknown kind, so that none escapes; indented ones are not used."""
    kinds = {"sh", "sh account", "ini", "python", "python theirs", "text", "toml", "mermaid"}
    walk = "docs/extending.md:"  # its blocks are walked through by tests/test_installed.py
    others = [block for block in blocks() if not (block.place.startswith(walk) and " walk" in block.kind)]
    assert {block.place: block.kind for block in others if block.kind not in kinds} == {}
    for path in DOCS:
        plain = _FENCE.sub("", path.read_text(encoding="utf-8"))
        assert re.findall(r"^\n    \S.*$", plain, re.MULTILINE) == [], path


@pytest.mark.parametrize("block", _named(blocks("sh")))
def test_commands_work_as_written(block: Block, checkout: Path, clean: dict[str, str]) -> None:
    """Each command, typed in a fresh checkout by somebody who has nothing else, ends with 0 and shows no traceback."""
    script = "".join(_INSTEAD.get(line.partition("#")[0].strip(), line) + "\n" for line in block.text.splitlines())
    ran = running.run(["bash", "-euo", "pipefail", "-c", script], checkout, clean)
    assert ran.code == 0, ran
    assert "Traceback" not in str(ran), ran


@pytest.mark.parametrize("block", _named(blocks("sh account")))
def test_commands_for_an_account_are_shell(block: Block) -> None:
    """What needs an account can't run here: a shell can read it, and it calls what the guide says it needs."""
    read = running.run(["bash", "-n", "-c", block.text], running.ROOT)
    assert (read.code, str(read.err)) == (0, ""), read
    lines = re.sub(r"\\\n", " ", block.text).splitlines()
    first = {shlex.split(line, comments=True)[0] for line in lines if line.strip() and "=" not in line.split()[0]}
    ours = {"luigi", "bin/build-template", "bin/doctor", "bin/stream-produce", "bin/stream-consume", ".venv/bin/python"}
    assert first <= {"curl", "gcloud", "bq", "docker", "echo", "for", "done", "gsutil", *ours}


def test_gcloud_takes_the_commands_for_an_account(tmp_path: Path) -> None:
    """Each call of gcloud in the guides, as a shell makes it, is one that gcloud's own parser takes; it runs none."""
    calls = []
    for number, block in enumerate(blocks("sh account")):
        (folder := tmp_path / str(number)).mkdir()
        calls += gcloud_parsing.called(block.text, folder)
    assert len(calls) > 50
    assert gcloud_parsing.refused(calls, tmp_path) == []


def test_what_gcloud_does_not_take_is_noticed(tmp_path: Path) -> None:
    """A flag, a group and a value that gcloud has not are each refused; what a command prints into another is there."""
    script = """
        gcloud run jobs create x --image=$IMAGE --region=$REGION --max-retires=0
        gcloud run job list
        gcloud run jobs create x --image=$IMAGE --region=$REGION --max-retries=none
        gcloud projects list --filter="$(gcloud config get account)"
    """
    calls = gcloud_parsing.called(script, tmp_path)
    assert [call[:3] for call in calls[3:]] == [["config", "get", "account"], ["projects", "list", calls[4][2]]]
    assert calls[4][2] == "--filter=somebody@example.org"
    refused = gcloud_parsing.refused(calls, tmp_path)
    assert len(refused) == 3, refused


@pytest.mark.parametrize("block", _named(blocks("ini")))
def test_settings_are_settings(block: Block, tmp_path: Path) -> None:
    """Each block of luigi.cfg is one that Millrace reads without a complaint, keys of Beam included."""
    (tmp_path / "luigi.cfg").write_text(block.text, encoding="utf-8")
    look = (
        "import workflows; from millrace.tasks import sections; from millrace.runners import beam_options\n"
        "from millrace.tasks.settings import Settings\n"
        "for section in Settings.__subclasses__(): section()\n"
        "for task in workflows.__all__: beam_options.arguments(sections.config(), task)\n"
    )
    env = {**os.environ, "LUIGI_CONFIG_PATH": str(tmp_path / "luigi.cfg"), "PYTHONPATH": str(running.ROOT)}
    ran = running.run([running.python(), "-c", look], tmp_path, env)
    assert ran.code == 0, ran


@pytest.mark.parametrize("block", _named(blocks("python")))
def test_python_stands_in_the_project_or_compiles(block: Block) -> None:
    """A class that the docs quote is the one in the code, comments aside; everything else is a whole module."""
    quoted = ast.parse(block.text)
    for node in quoted.body:
        if isinstance(node, ast.ClassDef) and (theirs := _defined(node.name)):
            assert ast.unparse(node) == ast.unparse(theirs)


@pytest.mark.parametrize("block", _named(blocks("toml")))
def test_graphs_are_graphs(block: Block, tmp_path: Path) -> None:
    """Each file of a graph that the docs show is one that can be drawn."""
    (tmp_path / "graph.toml").write_text(block.text, encoding="utf-8")
    drawn = running.run([*running.command("JobGraph", "--spec", "graph.toml", "--dry-run")], tmp_path)
    assert (drawn.code, drawn.err) == (0, "")


def test_drawings_are_those_of_the_graphs_that_are_shipped() -> None:
    """The tree and the flowchart of docs/graphs.md are what --dry-run prints of two of the graphs in graphs/."""
    page = [block for block in blocks("text", "mermaid") if block.place.startswith("docs/graphs.md:")]
    for name, how in (("nightly.toml", []), ("branches.yaml", ["mermaid"])):
        flags = ("--spec", f"graphs/{name}", "--date", "2026-11-19", "--dry-run", *how)
        assert running.run(running.command("JobGraph", *flags), running.ROOT).out in [block.text for block in page]


@pytest.mark.parametrize("block", _named(blocks("python theirs")))
def test_python_of_others_is_python(block: Block) -> None:
    """What the docs quote for comparison can be read as Python."""
    compile(block.text, block.place, "exec", ast.PyCF_ONLY_AST)


def _defined(name: str) -> ast.ClassDef | None:
    for path in (running.ROOT / "workflows").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return node
    return None


def test_ci_calls_the_readme_s_command() -> None:
    """What README says runs the tests is what .ci/run calls."""
    called = (running.ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "make test" in called
    assert any(re.match(r"make test\b", line) for block in blocks("sh") for line in block.text.splitlines())
