"""What docs/serverless.md rests on: launcher.Dockerfile, step by step without Docker, and the arithmetic of costs."""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import running
from cloud_running import FLAGS, Place, state_of

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
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "python"], check=True)
    env = {"PATH": f"{root}/python/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    folder = root

    def placed(text: str) -> str:
        return re.sub(r"(?<![\w./-])/(tmp|srv)/millrace(?![\w-])", rf"{root}/\1/millrace", text)

    for kind, said in IMAGE.steps:
        if kind == "WORKDIR":
            folder = Path(placed(said))
        elif kind == "COPY":
            *sources, target = said.split()
            for source in sources:
                _copy(running.ROOT / source, Path(placed(target)), target.endswith("/"))
        else:
            ran = running.run(["sh", "-euc", pip(placed(said))], folder, env)
            assert ran.code == 0, ran
    for path in (root / "srv", *(root / "srv").rglob("*")):  # root's own, and its powers are not the container's
        path.chmod(0o555 if path.is_dir() else 0o444)
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
        pip = f"{sys.executable} -m pip --python {root}/python/bin/python"
        return command.replace("pip install", f"{pip} install {flags}")

    return instead


def contained(root: Path, env: dict[str, str], arguments: list[str]) -> running.Ran:
    """Runs what the image's container runs: its entry, as its user, in its folder, with no home."""
    entry = [shutil.which(IMAGE.entry[0], path=env["PATH"]) or IMAGE.entry[0], *IMAGE.entry[1:-1], *arguments]
    user = None
    if os.geteuid() == 0 and _may_enter(Path(sys.base_prefix)) and _may_enter(running.ROOT):
        user = NOBODY
    elif os.geteuid() == 0:  # this Python lies where root alone may go: as a root whose word is nobody's
        entry = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *entry]
    done = subprocess.run(
        entry,
        cwd=f"{root}{IMAGE.folder}",
        env=env,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return running.Ran(done.returncode, done.stdout, done.stderr)


def _may_enter(folder: Path) -> bool:
    """Whether everybody may go into a folder."""
    return all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents))


def test_the_costs_of_the_guide_are_those_that_its_arithmetic_gives() -> None:
    """The table in docs/serverless.md is what docs/serverless_costs.py prints; the sums are done here once more."""
    printed = running.run([running.python(), running.ROOT / "docs/serverless_costs.py"], running.ROOT)
    assert printed.code == 0, printed
    assert printed.out in (running.ROOT / "docs/serverless.md").read_text(encoding="utf-8")
    table = {what: (paid, free) for what, paid, free in re.findall(r"^\| (.*) \| (.*) \| (.*) \|$", printed.out, re.M)}
    firings = 365 * 24 * 60 / 12 / 5
    assert firings == 8760
    cpu, memory = firings * 60 * 18e-6, firings * 60 * 2e-6
    free = (firings * 60 - 240_000) * 18e-6 + (firings * 60 - 450_000) * 2e-6
    assert table["Cloud Run, 8,760 × 60 s, 1 vCPU, 1 GiB"] == (f"{cpu + memory:.2f}", f"{free:.2f}")
    asked = firings * 6 * (0.05 + 0.004) / 10_000
    scanned = firings * 10e6 / 2**40 * 6.25
    assert table["**fired every 5 minutes**"] == (
        f"{cpu + memory + 0.10 + 0.035 + asked + scanned:.2f}",
        f"{free + asked:.2f}",
    )
    assert table["e2-small, 10 GB of disk, an address"] == (f"{12.23 + 0.4 + 730 * 0.005:.2f}",) * 2
    longer = running.run(
        [running.python(), running.ROOT / "docs/serverless_costs.py", "--every", 30, "--seconds", 90, "--gib", 0.5],
        running.ROOT,
    )
    # Within the free tier: 1,460 × 90 s are 131,400 vCPU-seconds and half as many GiB-seconds.
    assert f"| Cloud Run, 1,460 × 90 s, 1 vCPU, 0.5 GiB | {131_400 * (18e-6 + 1e-6):.2f} | 0.00 |" in longer.out


def test_the_dockerfile_names_what_is_there() -> None:
    """Every file that is copied is in the project, the base has a Python that the project takes, the user is nobody."""
    listed = subprocess.run(["git", "ls-files"], cwd=running.ROOT, capture_output=True, text=True, check=True).stdout
    for sources, _ in IMAGE.copies:
        for source in sources:
            assert any(name == source or name.startswith(f"{source}/") for name in listed.splitlines()), source
    assert re.fullmatch(r"python:3\.1[1-3]-slim", IMAGE.base)
    workers = (running.ROOT / "worker.Dockerfile").read_text(encoding="utf-8")
    assert f"ARG PYTHON={IMAGE.base.removeprefix('python:').removesuffix('-slim')}\n" in workers
    assert IMAGE.user == f"{NOBODY}:{NOBODY}"
    assert IMAGE.entry == ["millrace", "fire", "Report"]


@pytest.fixture(scope="module")
def env(root: Path) -> dict[str, str]:
    """The image, built without the net, and what a container of it has for an environment."""
    return build(root, offline(root))


def settings(place: Place, root: Path) -> dict[str, str]:
    """A place's settings, mounted as Cloud Run mounts a secret, and the credentials, which everybody may read."""
    mounted = root / "etc" / place.dataset
    mounted.mkdir(parents=True, exist_ok=True)
    shutil.copy(place.config, mounted / "luigi.cfg")
    given = dict(place.cloud.environment())
    for name, value in given.items():
        if os.path.isfile(value):
            shutil.copy(value, mounted / name)
            given[name] = str(mounted / name)
    for path in mounted.iterdir():
        path.chmod(0o444)
    return {**given, "LUIGI_CONFIG_PATH": str(mounted / "luigi.cfg")}


def over(place: Place) -> bool:
    """Whether all jobs have come to their end."""
    return all(state_of(job) in ("DONE", "FAILED", "CANCELLED") for job in place.jobs)


def test_firings_of_the_container_make_a_report(
    root: Path, env: dict[str, str], place: Place, undisturbed: Path
) -> None:
    """What the image's steps make runs a Report in firings, each of which ends with 0 while jobs are at work.

    Each is the image's own entry, run as its user, with no home, in a folder that it can't write. The tables are those
    of a run on one machine; nothing is left in the project's folder.
    """
    assert [path.name for path in (root / "srv/millrace").iterdir()] != []
    before = {*running.files(root / "srv")}
    given = {**env, **settings(place, root)}
    place.cloud.dataflow.hold("*")
    with ThreadPoolExecutor(2) as pool:  # two firings at once: still one job
        twice = list(pool.map(lambda _: contained(root, given, ["Report", *map(str, FLAGS)]), range(2)))
    assert [ran.code for ran in twice] == [0, 0], twice
    assert place.stages() == {"fetch": 1}
    place.cloud.dataflow.release()
    place.wait_for(lambda: over(place))
    said = twice[:1]
    while "at work" in str(said[-1]):
        said.append(contained(root, given, ["Report", *map(str, FLAGS)]))
        assert said[-1].code == 0, said[-1]
        place.wait_for(lambda: over(place))
        assert len(said) < 10, said[-1]
    assert len(said) == 5
    assert place.wrong(running.tables(undisturbed)) == []
    assert {*running.files(root / "srv")} == before


def test_a_container_that_fails_says_so(root: Path, env: dict[str, str], place: Place) -> None:
    """A day that is not there is exit code 30 and one sentence on the output, which is what an execution fails by."""
    source = "gs://millrace-test/none/posts-{date:%Y-%m-%d}.jsonl"
    ran = contained(root, {**env, **settings(place, root)}, ["Report", *map(str, FLAGS), "--posts-source", source])
    assert ran.code == 30, ran
    assert "has nothing for" in ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err


def test_settings_that_were_not_mounted_end_the_container(root: Path, env: dict[str, str]) -> None:
    """Without the mounted file nothing runs: the defaults would make a report on the container's own disk."""
    ran = contained(root, {**env, "LUIGI_CONFIG_PATH": "/etc/millrace/luigi.cfg"}, ["Report"])
    assert ran.code == 1
    assert "'/etc/millrace/luigi.cfg' in the environment names no file" in ran.err


@running.long
def test_the_image_s_own_pip_install_brings_all_that_a_firing_needs(tmp_path: Path) -> None:
    """The command as written, over the net, into an empty Python: then the entry and the function's server work."""
    with tempfile.TemporaryDirectory(prefix="millrace-image-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        source = tmp_path / "tmp" / "millrace"
        for sources, target in IMAGE.copies:
            for each in sources:
                placed = Path(target.replace("/tmp/millrace", str(source)).replace("/srv", str(tmp_path / "srv")))
                _copy(running.ROOT / each, placed, target.endswith("/"))
        (install,) = [each for each in IMAGE.runs if "pip install" in each]
        env = {"PATH": f"{folder}/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        for extras in ("[workflows]", "[workflows,events]"):
            written = install.partition(" && ")[0].replace("[workflows]", extras)
            ran = running.run(["sh", "-euc", written.replace("/tmp/millrace", str(source))], tmp_path, env)
            assert ran.code == 0, ran
        told = running.run(["millrace", "fire", "Report", "--help"], tmp_path / "srv/millrace", env)
        assert told.code == 0, told
        assert "--days DAYS" in told.out
        assert running.run(["functions-framework", "--help"], tmp_path, env).code == 0
