"""Google's emulators beside the local cloud: Google's clients find them, they start when asked, and outlive nobody."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import running
from local_dataflow import alive

from localcloud import PROJECT, LocalCloud, emulators
from localcloud.emulators import Emulator

DATASTORE = """
from google.cloud import datastore
client = datastore.Client()
entity = datastore.Entity(client.key("Word", "king"))
entity["length"] = 4
client.put(entity)
print(client.get(client.key("Word", "king"))["length"])
"""
PUBSUB = f"""
from google.cloud import pubsub_v1
print(pubsub_v1.PublisherClient().create_topic(name="projects/{PROJECT}/topics/words").name)
"""


@pytest.fixture
def needed() -> None:
    """Both emulators are here."""
    for name in ("pubsub", "datastore"):
        running.need_emulator(name)


@pytest.mark.usefixtures("needed")
@running.long
def test_googles_clients_find_them_by_the_environment(tmp_path: Path) -> None:
    """Pub/Sub's and Datastore's, in one command; a job of the local Dataflow has the same variables."""
    (tmp_path / "client.py").write_text(DATASTORE + PUBSUB, encoding="utf-8")
    ran = running.run([sys.executable, "-m", "localcloud", "--", sys.executable, "client.py"], tmp_path)
    assert (ran.code, ran.out.split()) == (0, ["4", f"projects/{PROJECT}/topics/words"]), ran


@pytest.mark.usefixtures("needed")
@running.long
def test_what_datastore_holds_may_be_kept(tmp_path: Path) -> None:
    """In a folder; without one nothing is kept."""
    lines = DATASTORE.replace("client.put(entity)\n", "")
    for folder, found in ((tmp_path / "kept", True), (None, False)):
        for code in (DATASTORE, lines):
            with Emulator("datastore", folder) as emulator:
                env = running.environment(**emulator.environment(), GOOGLE_CLOUD_PROJECT=PROJECT)
                ran = running.run([sys.executable, "-c", code], tmp_path, env)
        assert ran.out == ("4\n" if found else ""), ran


@pytest.mark.usefixtures("needed")
def test_none_starts_before_it_is_needed_and_none_outlives_a_kill(tmp_path: Path) -> None:
    """After SIGKILL of whoever started it, which can tidy nothing up, its processes are gone."""
    code = """
import socket, sys
from localcloud.emulators import Emulator
emulator = Emulator("pubsub").__enter__()
print(emulator._process, flush=True)
host, port = emulator.host.split(":")
socket.create_connection((host, int(port))).sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
while not emulator._process: pass
print(emulator._process.pid, flush=True)
sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "None\n"
        pid = int(process.stdout.readline())
        assert alive(pid)
        os.kill(process.pid, signal.SIGKILL)
    running.wait_for(lambda: not alive(pid), 30)
    group = subprocess.run(["ps", "-o", "stat=", "-g", str(pid)], capture_output=True, text=True).stdout.split()
    assert [each for each in group if not each.startswith("Z")] == []


def test_gcloud_asks_nobody_where_there_is_none() -> None:
    """A Pub/Sub that is not there refuses the connection; the real one is never meant."""
    with LocalCloud(emulators=[]) as cloud:
        variables = cloud.environment()
    assert "PUBSUB_EMULATOR_HOST" not in variables
    assert variables["CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB"] == "http://localhost:1/"


def test_one_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert emulators.available() == []
    with pytest.raises(RuntimeError, match="no emulator of pubsub: it takes Java and the Cloud SDK's component"):
        Emulator("pubsub")
