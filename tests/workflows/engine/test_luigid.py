"""luigid: where one is named, a run is seen in its page; where none is, no server is asked."""

import socket
from pathlib import Path

import pytest
import running
from luigid_asking import listed
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = ("--date", running.DAY, "--days", 1)


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
