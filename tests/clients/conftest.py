"""The measure of the local cloud: `make test-clients` runs other people's programs and clients against it.

These tests are not part of `make test`: they take minutes, gcloud, and the packages of .venv-clients. They write
docs/localcloud-clients.md.
"""

import json
import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import client_results
import pytest
import running
from client_running import Given, Program, Templates, on_dataflow, python

from localcloud import LocalCloud

MEASURED = os.environ.get("MILLRACE_TEST_CLIENTS") == "1"
collect_ignore_glob = [] if MEASURED else ["test_*.py"]
#: The Python that has the clients which are nothing of ours, as `make .venv-clients/made` makes it.
CLIENTS = running.ROOT / ".venv-clients" / "bin" / "python"


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    """The local cloud of the whole measure."""
    with LocalCloud() as started:
        yield started


@pytest.fixture
def given(cloud: LocalCloud, request: pytest.FixtureRequest, tmp_path: Path) -> Given:
    """What a program of the test's own finds: the cloud's environment, an empty folder, a prefix in the bucket."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower()).strip("-")
    return Given(cloud, tmp_path, name)


@pytest.fixture
def gcloud(given: Given) -> Program:
    """gcloud, which talks to nobody but the local cloud."""
    return _sdk("gcloud", given)


@pytest.fixture
def bq(given: Given) -> Program:
    """The command bq, which talks to nobody but the local cloud."""
    return _sdk("bq", given)


@pytest.fixture
def client(given: Given) -> Program:
    """Python with googleapiclient and Airflow."""
    if not CLIENTS.exists():
        running.absent("there is no .venv-clients; make test-clients makes it")
    return Program(given, str(CLIENTS))


@pytest.fixture(scope="session")
def templates(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """A classic template that Beam has staged, and a flex template of the same program."""
    given = Given(cloud, tmp_path_factory.mktemp("templates"), "templates")
    program, made = (
        Path(__file__).with_name("program_template.py"),
        Templates(given.gs("classic"), given.gs("flex.json")),
    )
    flags = [flag for flag in on_dataflow(given) if not flag.startswith("--job_name")]
    python(given).succeed(program, *flags, f"--template_location={made.classic}")
    image = "gcr.io/measure/upper:1"
    parameters = [{"name": name, "label": name, "helpText": name} for name in ("input", "output")]
    spec = {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": {"name": "Upper", "parameters": parameters},
        "defaultEnvironment": {},
    }
    given.put("flex.json", json.dumps(spec))
    cloud.dataflow.images[image] = str(program)
    return made


def _sdk(name: str, given: Given) -> Program:
    running.need(name)
    return Program(given, name)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    client_results.record(report)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    client_results.describe(item, report)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if MEASURED:
        kept = running.ROOT / "build" / "clients.json"
        client_results.write(running.ROOT / "docs" / "localcloud-clients.md", kept, _versions())


def _versions() -> str:
    """The versions of the Cloud SDK and of the clients, in words."""
    done = subprocess.run(["gcloud", "--version"], capture_output=True, text=True, check=False)
    pins = (Path(__file__).parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
    clients = [pin.replace("==", " ") for pin in pins if "==" in pin]
    return ", ".join([*done.stdout.splitlines()[:1], *clients])
