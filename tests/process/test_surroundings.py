"""Settings that can't be read or are nearly right, variables that nobody set, no home: one sentence, or it works."""

import os
from pathlib import Path

import pytest
import requests
import running

from millrace.tasks import surroundings

GOOD = "[millrace]\nstorage = données\n"
FETCH = ("Fetch", "--source", "sample://", "--date", running.DAY)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (GOOD.encode(), ""),
        (GOOD.encode("utf-8-sig"), "it is UTF-8 with a byte order mark; save it as plain UTF-8"),
        (GOOD.encode("utf-16"), "it is UTF-16; save it as plain UTF-8"),
        (GOOD.encode("latin-1"), "line 2 is not UTF-8; save it as UTF-8"),
        (b"[core]\nworkers = 2\nworkers = 3\n", "[line 3]: option 'workers' in section 'core' already exists"),
        (b"[core]\n\n[core]\n", "[line 3]: section 'core' already exists"),
        (b"storage = data\n", "File contains no section headers."),
        (b"[core\nworkers = 2\n", "File contains no section headers."),
        (b"[core]\nworkers\n", "Source contains parsing errors"),
    ],
)
def test_file_that_can_t_be_read(data: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that names the file, and what to do."""
    path = tmp_path / "own.cfg"
    path.write_bytes(data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUIGI_CONFIG_PATH", str(path))
    found = surroundings.unreadable()
    assert (found == "") == (said == "")
    if said:
        assert found.startswith(f"{path} can't be read: ")
        assert said in found
        assert "\n" not in found


def project_env(project: Path) -> dict[str, str]:
    """The environment of a project whose luigi.cfg is its own."""
    env = running.environment(PYTHONPATH=str(project))
    del env["LUIGI_CONFIG_PATH"]
    return env


def test_every_command_says_it(project: Path) -> None:
    """bin/run with the exit code of a wrong setting, bin/luigid, bin/query and make report: the same sentence."""
    settings = project / "luigi.cfg"
    settings.write_bytes("# é\n".encode("latin-1") + settings.read_bytes())
    said = "error: luigi.cfg can't be read: line 1 is not UTF-8; save it as UTF-8\n"
    (project / "Makefile").symlink_to(running.ROOT / "Makefile")
    (project / ".venv").unlink()
    (project / ".venv/bin").mkdir(parents=True)
    for name in ("python", "luigi"):
        (project / ".venv/bin" / name).symlink_to(Path(running.python()).with_name(name))
    for name in ("run Report", "luigid", "query"):
        ran = running.run([project / "bin" / name.split()[0], *name.split()[1:]], Path("/"), project_env(project))
        assert (ran.code, ran.out, ran.err) == (40 if name == "run Report" else 1, "", said)
    ran = running.run(["make", "-o", ".venv/workflows", "report"], project, project_env(project))
    assert ran.code == 2
    assert ran.err.startswith(said)
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Millrace]\nstorage = x", "[Millrace], read in {}, is no section; did you mean [millrace]?"),
        ("[Dataflow.Etl]\nmachine_type = x", "[Dataflow.Etl], read in {}, is no section; did you mean [dataflow.Etl]?"),
        ("[posts.Etl]\nrules = classic", "[posts.Etl], read in {}, is no section; did you mean [posts]?"),
        ("[core]\nworkers = ${NOBODY}", "core.workers, read in {}: the environment has no variable NOBODY; set it, "),
        ("[millrace]\nstorage = ${NOBODY}", "millrace.storage, read in {}: the environment has no variable NOBODY; "),
    ],
)
def test_wrong_settings_are_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    """luigi itself says it, with the exit code of a wrong setting, and does nothing."""
    (tmp_path / "luigi.cfg").write_text(text)
    env = running.environment(PYTHONPATH=str(running.ROOT))
    del env["LUIGI_CONFIG_PATH"]
    ran = running.run(running.command(*FETCH), tmp_path, env)
    assert ran.code == 40, ran
    assert ran.out == ""
    [line] = ran.err.splitlines()
    assert said.format(tmp_path / "luigi.cfg") in line
    assert [path.name for path in tmp_path.iterdir()] == ["luigi.cfg"]


@pytest.mark.parametrize("already", ["", "example.org", "localhost,example.org"])
def test_this_machine_is_asked_without_a_proxy(already: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the environment excepts from its proxy stays excepted, and this machine is, once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", already)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    for _ in range(2):
        surroundings.settle()
    names = os.environ["no_proxy"].split(",")
    assert sorted(names) == sorted({"localhost", "127.0.0.1", "::1", *filter(None, already.split(","))})
    assert requests.utils.get_environ_proxies("http://localhost:8082/") == {}
    assert requests.utils.get_environ_proxies("http://[::1]:8082/") == {}
    assert requests.utils.get_environ_proxies("http://elsewhere.example/") != {}


def test_user_without_a_home() -> None:
    """Neither HOME nor an entry in /etc/passwd, as in a container: the report's picture is drawn all the same."""
    if os.geteuid() != 0:
        running.absent("only root can become a user that has no entry")
    env = running.environment()
    env.pop("HOME", None)
    nobody = ["--reuid", "54321", "--regid", "54321", "--clear-groups"]
    command = [running.need("setpriv"), *nobody, running.python(), "-c"]
    draw = "from workflows.report import charts; charts.png(charts.hours([Hour(datetime.now(UTC), 1)] * 24, 600, 100))"
    needs = "from datetime import UTC, datetime; from workflows.report.data import Hour; "
    ran = running.run([*command, needs + draw], Path("/"), env)
    assert ran.code == 0, ran
