"""What docs/serverless.md rests on: launcher.Dockerfile, step by step without Docker, and the arithmetic of its costs."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import running
from cloud_running import QUICK, Place

#: The user of the image, who owns nothing and has no home.
NOBODY = 65534


@dataclass
class Image:
    """What a Dockerfile says, with its arguments put in.

    copies: what is copied, and where to. runs: commands. user, folder, entry: as who, where and what a container runs.
    """

    copies: list[tuple[list[str], str]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    steps: list[tuple[str, str]] = field(default_factory=list)
    base: str = ""
    user: str = ""
    folder: str = "/"
    entry: list[str] = field(default_factory=list)


def read(path: Path) -> Image:
    """Reads a Dockerfile of the instructions that ours has; any other is an error."""
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    image, given = Image(), dict[str, str]()
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "ARG":
            name, _, value = rest.partition("=")
            given[name] = value
            continue
        for name, value in given.items():
            rest = rest.replace("${" + name + "}", value)
        match word:
            case "":
                pass
            case "FROM":
                image.base = rest
            case "COPY":
                *sources, target = rest.split()
                image.copies.append((sources, target))
                image.steps.append(("COPY", rest))
            case "RUN":
                image.runs.append(rest)
                image.steps.append(("RUN", rest))
            case "WORKDIR":
                image.folder = rest
                image.steps.append(("WORKDIR", rest))
            case "USER":
                image.user = rest
            case "ENTRYPOINT":
                image.entry = json.loads(rest)
            case "CMD":
                image.entry = [*image.entry, *json.loads(rest)]
            case _:
                raise AssertionError(f"{word} is no instruction that this test can follow")
    return image


IMAGE = read(running.ROOT / "launcher.Dockerfile")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder for the image's files, into which every user may go, as into no folder of pytest's."""
    with tempfile.TemporaryDirectory(prefix="millrace-image-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def build(root: Path, pip: Callable[[str], str]) -> dict[str, str]:
    """Does what the Dockerfile says below a folder; returns the environment of a container.

    pip: what is run in the place of a command with pip install.
    """
    subprocess.run([sys.executable, "-m", "venv", root / "python"], check=True)
    env = {"PATH": f"{root}/python/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    folder = root

    def placed(text: str) -> str:
        return re.sub(r"(?<![\w./])/(tmp|srv)/millrace", rf"{root}/\1/millrace", text)

    for kind, said in IMAGE.steps:
        if kind == "WORKDIR":
            folder = Path(placed(said))
        elif kind == "COPY":
            *sources, target = said.split()
            for source in sources:
                _copy(running.ROOT / source, Path(placed(target)), target.endswith("/"))
        else:
            command = placed(pip(said) if "pip install" in said else said)
            ran = running.run(["sh", "-euc", command], folder, env)
            assert ran.code == 0, ran
    return env


def _copy(source: Path, target: Path, into: bool) -> None:
    """Copies as a Dockerfile does: a folder's contents, or a file to a name or into a folder."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"), dirs_exist_ok=True)
        return
    target.mkdir(parents=True, exist_ok=True) if into else target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target / source.name if into else target)


def offline(root: Path) -> Callable[[str], str]:
    """What installs the wheel without the net: its dependencies are those of the tests."""

    def instead(command: str) -> str:
        (packages,) = (root / "python/lib").glob("python3*/site-packages")
        (packages / "needed.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))
        flags = "--no-deps --no-build-isolation --no-index --disable-pip-version-check -q"
        return command.replace("pip install", f"pip install {flags}")

    return instead


def contained(root: Path, env: dict[str, str], arguments: list[str]) -> running.Ran:
    """Runs what the image's container runs: its entry, as its user, in its folder, with no home."""
    user = int(IMAGE.user.partition(":")[0])
    done = subprocess.run(
        [shutil.which(IMAGE.entry[0], path=env["PATH"]) or IMAGE.entry[0], *IMAGE.entry[1:-1], *arguments],
        cwd=f"{root}{IMAGE.folder}",
        env=env,
        user=user if os.geteuid() == 0 else None,
        group=user if os.geteuid() == 0 else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return running.Ran(done.returncode, done.stdout, done.stderr)


def test_the_dockerfile_names_what_is_there() -> None:
    """Every file that is copied is in the project, the base has a Python that the project takes, and the user is none."""
    listed = subprocess.run(["git", "ls-files"], cwd=running.ROOT, capture_output=True, text=True, check=True).stdout
    for sources, _ in IMAGE.copies:
        for source in sources:
            assert any(name == source or name.startswith(f"{source}/") for name in listed.splitlines()), source
    assert re.fullmatch(r"python:3\.1[1-3]-slim", IMAGE.base)
    workers = (running.ROOT / "worker.Dockerfile").read_text(encoding="utf-8")
    assert f"ARG PYTHON={IMAGE.base.removeprefix('python:').removesuffix('-slim')}\n" in workers
    assert IMAGE.user == f"{NOBODY}:{NOBODY}"
    assert IMAGE.entry == ["millrace", "fire", "Report"]
