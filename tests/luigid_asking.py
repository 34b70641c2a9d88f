"""A luigid of a test's own, and its API, as its own page asks it."""

import http.client
import json
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import running


def answers(port: int) -> bool:
    """Whether a server takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, call: str, **arguments: object) -> Any:
    """What luigid answers to a call."""
    data = urllib.parse.quote(json.dumps(arguments))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{call}?data={data}", timeout=30) as answer:
        return json.load(answer)["response"]


def listed(port: int, status: str) -> dict[str, Any]:
    """The tasks of a status, by id."""
    tasks: dict[str, Any] = ask(port, "task_list", status=status, upstream_status="", search="")
    return tasks


def status(port: int, path: str, method: str = "GET", **headers: str) -> int:
    """The status of a server's answer to a request with such headers: Sec_Fetch_Site is Sec-Fetch-Site."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse().status
    finally:
        connection.close()


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_luigid(folder: Path, port: int, settings: str = "") -> "subprocess.Popen[bytes]":
    """luigi's own luigid, started by hand in a folder with these settings."""
    folder.mkdir(exist_ok=True)
    (folder / "luigid.cfg").write_text(settings)
    luigid = str(Path(running.python()).with_name("luigid"))
    command = [luigid, "--port", str(port), "--state-path", str(folder / "state")]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=running.environment(LUIGI_CONFIG_PATH=str(folder / "luigid.cfg")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running.wait_for(lambda: process.poll() is not None or answers(port), 30)
    assert process.poll() is None
    return process
