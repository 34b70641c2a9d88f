"""luigid's API, as its own page asks it."""

import http.client
import json
import socket
import urllib.parse
import urllib.request
from typing import Any


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
