"""luigid: where one is named, a run is seen in its page; where none is, no server is asked."""

import socket
from pathlib import Path

import pytest
import running
from luigid_asking import ask, listed, status
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from millrace.ops import luigid
from millrace.tasks import scheduler

FLAGS = ("--date", running.DAY, "--posts-days", 1)


def test_run_is_seen_in_the_servers_page(server: int, chromium: webdriver.Chrome, tmp_path: Path) -> None:
    """A run with a scheduler's host asks that luigid, whose API and page then show all its tasks as done."""
    storage = tmp_path / "data"
    running.succeed("Report", *FLAGS, "--scheduler-host", "127.0.0.1", "--scheduler-port", server, storage=storage)
    done = listed(server, "DONE")
    assert sorted(task["name"] for task in done.values()) == sorted(
        ["Aggregate", "Count", "Count", "Etl", "Etl", "Fetch", "Fetch", "Report"]
    )
    assert listed(server, "FAILED") == {}
    assert listed(server, "PENDING") == {}
    chromium.get(f"http://127.0.0.1:{server}/")

    def rows(page: webdriver.Chrome) -> list[str]:
        return [row.text for row in page.find_elements(By.CSS_SELECTOR, "#taskTable tbody tr")]

    WebDriverWait(chromium, 30).until(lambda page: len(rows(page)) == 8)
    shown = rows(chromium)
    for stage in ("Fetch", "Etl", "Count", "Aggregate", "Report"):
        assert [row for row in shown if stage in row and "DONE" in row], shown


def test_server_answers_to_its_own_names_only(server: int) -> None:
    """A page of the web reaches it neither under a name that leads here, nor by requests that it sends itself."""
    here, call = f"localhost:{server}", "/api/task_list"
    for name in (here, f"127.0.0.1:{server}", f"[::1]:{server}", f"LOCALHOST:{server}", f"localhost.:{server}"):
        assert status(server, call, Host=name) == 200, name
    for name in ("evil.example", f"evil.example:{server}", "localhost.evil.example", "10.0.0.1", "[::1", "", "0.0.0.0"):
        for path in (call, "/", "/static/visualiser/index.html"):
            assert status(server, path, Host=name) == 403, (name, path)
    for origin in ("http://evil.example", "null", f"http://localhost:{server + 1}", f"http://evil.example:{server}"):
        assert status(server, call, "POST", Host=here, Origin=origin) == 403, origin
    assert status(server, call, "POST", Host=here, Origin=f"http://{here}") == 200
    # An image of another page, or a form, has no Origin, but browsers say where it stands.
    assert status(server, "/api/pause", Host=here, Sec_Fetch_Site="cross-site") == 403
    assert status(server, call, Host=here, Sec_Fetch_Site="same-origin") == 200
    assert status(server, "/static/visualiser/index.html", Host=here, Sec_Fetch_Site="cross-site") == 200  # a link
    assert ask(server, "is_paused") == {"paused": False}


@pytest.mark.parametrize(
    ("address", "more", "known", "unknown"),
    [
        ("127.0.0.1", [], ["localhost", "::1"], ["10.0.0.1", "luigid.example.org", socket.gethostname() + ".evil"]),
        ("127.0.0.1", ["luigid.example.org"], ["luigid.example.org", "LUIGID.example.org."], ["example.org"]),
        ("10.0.0.1", [], ["10.0.0.1", "localhost", socket.gethostname()], ["10.0.0.2", "evil.example"]),
        ("0.0.0.0", [], ["10.0.0.1", "fe80::1", socket.gethostname()], ["evil.example", "10.0.0.1.evil.example", ""]),
    ],
)
def test_names_of_a_server(address: str, more: list[str], known: list[str], unknown: list[str]) -> None:
    """Its address, this machine's name where it listens for others, and those that --name gives; no other's."""
    ours = luigid.names(address, more)
    assert [name for name in known if not ours(name)] == []
    assert [name for name in unknown if ours(name)] == []


def test_messages_and_answers_are_no_markup(server: int) -> None:
    """What a run shows luigid, its page takes for HTML: it has none, nor what acts on a terminal or the eye."""
    told = scheduler.Luigid(f"http://localhost:{server}")
    task = {"task_id": "T", "worker": "W", "family": "T"}
    for state in ("PENDING", "RUNNING"):
        ask(server, "add_task", **task, status=state)
    told.set_task_status_message("T", "<b onclick=x>&lt;RUNNING</b>\x1b[31m\u202e\n\t1 < 2")
    message = "‹b onclick=x›&lt;RUNNING‹/b›\ufffd[31m\ufffd\n\t1 ‹ 2"
    assert ask(server, "get_task_status_message", task_id="T")["statusMessage"] == message
    told.add_scheduler_message_response("T", "1", "<script>'x' is no command")
    found = ask(server, "get_scheduler_message_response", task_id="T", message_id="1")
    assert found["response"] == "‹script›'x' is no command"


def test_port_that_is_taken_is_one_sentence(project: Path) -> None:
    """bin/luigid where another server is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ran = running.run([project / "bin/luigid", "--port", listener.getsockname()[1]], project)
    assert ran.code == 1
    assert ran.out == ""
    [line] = ran.err.splitlines()
    assert "Address already in use" in line


def test_server_that_the_settings_name_is_asked(server: int, tmp_path: Path) -> None:
    """scheduler_host in luigi.cfg does what the flag does."""
    text = (running.ROOT / "luigi.cfg").read_text(encoding="utf-8")
    named = text.replace("[core]\n", f"[core]\nscheduler_host = 127.0.0.1\nscheduler_port = {server}\n")
    (tmp_path / "own.cfg").write_text(named, encoding="utf-8")
    env = running.environment(LUIGI_CONFIG_PATH=str(tmp_path / "own.cfg"))
    ran = running.luigi("Fetch", "--source", "sample://", "--date", running.DAY, storage=tmp_path / "data", env=env)
    assert ran.code == 0, ran
    assert [task["name"] for task in listed(server, "DONE").values()] == ["Fetch"]


def test_no_server_is_asked_unless_one_is_named(tmp_path: Path) -> None:
    """With no server named a run tries no connection, not even to the port where a luigid would be."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        text = (running.ROOT / "luigi.cfg").read_text(encoding="utf-8")
        port = listener.getsockname()[1]
        (tmp_path / "own.cfg").write_text(
            text.replace("[core]\n", f"[core]\nscheduler_port = {port}\n"), encoding="utf-8"
        )
        env = running.environment(LUIGI_CONFIG_PATH=str(tmp_path / "own.cfg"))
        ran = running.luigi("Fetch", "--source", "sample://", "--date", running.DAY, storage=tmp_path / "data", env=env)
        assert ran.code == 0, ran
        with pytest.raises(BlockingIOError):
            listener.accept()
