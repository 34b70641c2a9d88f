"""The page that a token's link leads to, asked over a real connection: as a browser, a scanner or a mischief asks."""

import datetime
import http.client
import re
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import pytest
from dataflow_running import Set

from millrace.common.text import moment
from millrace.core import approvals
from millrace.core.approvals import APPROVED, REJECTED, Gate
from millrace.core.storage import LocalStorage
from millrace.ops import approve_page
from millrace.tasks import session
from millrace.tasks.session import Session

GATE = Gate("publish", datetime.date(2026, 11, 19))
HOURS = datetime.timedelta(hours=48)


@dataclass(frozen=True)
class Answer:
    """What the server says."""

    status: int
    headers: dict[str, str]
    body: str


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def storage(tmp_path: Path, setting: Set) -> Iterator[LocalStorage]:
    """A storage in which a gate waits, and which the settings name."""
    setting("millrace", "storage", str(tmp_path / "data"))
    found = LocalStorage(str(tmp_path / "data"))
    approvals.ask(found, GATE, "Report <b>2026-11-19</b>")
    with session.use(Session()):
        yield found


@pytest.fixture
def port(storage: LocalStorage) -> Iterator[int]:
    """The port of a server with that page, which holds both sides to WSGI."""
    with make_server("127.0.0.1", 0, validator(approve_page.app), handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(port: int, method: str, query: str = "", body: str | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        form = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        connection.request(method, f"/approve{query and '?' + query}", body, {**form, **headers})
        found = connection.getresponse()
        return Answer(found.status, dict(found.getheaders()), found.read().decode())
    finally:
        connection.close()


def post(port: int, **fields: str) -> Answer:
    return ask(port, "POST", body=urllib.parse.urlencode(fields))


def test_following_the_link_is_no_answer(port: int, storage: LocalStorage) -> None:
    """GET and HEAD show what is asked, however often and with whatever in the link, and nothing is answered."""
    secret, event = approvals.make_token(storage, GATE, "cron", HOURS)
    for method in ("GET", "HEAD", "GET"):
        for more in ("", "&answer=approved&by=scanner", "&_method=POST"):
            found = ask(port, method, f"token={secret}{more}")
            assert found.status == 200
            if method == "GET":
                assert "publish of 2026-11-19: waiting since " in found.body
                assert f"answers until {moment(event.expires)}" in found.body
                assert "<b>" not in found.body
            else:
                assert found.body == ""
    assert approvals.read(storage, GATE).waits
    head = {"REQUEST_METHOD": "HEAD", "QUERY_STRING": f"token={secret}"}
    assert list(approve_page.app(head, lambda status, headers: None)) == []


def test_the_buttons_answer(port: int, storage: LocalStorage) -> None:
    """What the page's form sends answers, once; the page says then who, when and why, and to a second one who was
    first.
    """
    secret, _ = approvals.make_token(storage, GATE, "cron", HOURS)
    page = ask(port, "GET", f"token={secret}").body
    assert re.findall(r'name="(\w+)"', page) == ["viewport", "token", "by", "reason", "answer", "answer"]
    sent = {"token": secret, "answer": "rejected", "by": "Ånn <i>", "reason": "half & more"}
    found = post(port, **sent)
    assert found.status == 200
    assert "publish of 2026-11-19: rejected by Ånn &lt;i&gt; with a token at " in found.body
    assert found.body.count("half &amp; more") == 1
    answer = approvals.read(storage, GATE).answer
    assert answer is not None
    assert (answer.kind, answer.by, answer.reason) == ("rejected", "Ånn <i>", "half & more")
    assert post(port, **sent).status == 200  # sent twice by an impatient hand
    late = post(port, **{**sent, "by": "bob", "answer": "approved"})
    assert late.status == 409
    assert "was rejected by Ånn &lt;i&gt; with a token at " in late.body
    assert "--reopen" not in late.body
    assert "<form" not in ask(port, "GET", f"token={secret}").body
    assert len(approvals.read(storage, GATE).events) == 3


def test_what_is_no_answer_is_refused(port: int, storage: LocalStorage) -> None:
    """A token that is wrong, late or for something else, a form without a name or an answer, a body that is too long,
    another method: each is a sentence, and nothing is answered; no command, path or storage is told.
    """
    good, _ = approvals.make_token(storage, GATE, "cron", HOURS)
    late, _ = approvals.make_token(storage, GATE, "cron", datetime.timedelta())
    only, _ = approvals.make_token(storage, GATE, "cron", HOURS, [APPROVED])
    refused = [
        (post(port, token=good[:-1] + "!", answer=APPROVED, by="eve"), "this token opens nothing"),
        (post(port, token=late, answer=APPROVED, by="ann"), "has expired at"),
        (post(port, token=only, answer=REJECTED, by="ann"), "was made to approve gate"),
        (post(port, token=good, answer=APPROVED, by=" "), "nobody is named for gate"),
        (post(port, token=good, by="ann"), "no answer was sent"),
        (post(port, token=good, answer="reopened", by="ann"), "no answer was sent"),
        (ask(port, "POST", f"token={good}&answer=approved&by=eve", ""), "no answer was sent"),
        (post(port, token=good, answer=APPROVED, by="x" * 30_000), "this form is too long"),
        (ask(port, "POST", body="&".join(f"a{n}=1" for n in range(50))), "this form is too long"),
        (ask(port, "GET", f"token={late}"), "has expired at"),
        (ask(port, "GET"), "this token opens nothing"),
    ]
    for found, words in refused:
        assert found.status == 403, found
        assert words in found.body
        assert "bin/" not in found.body
        assert storage.uri("") not in found.body
    for method in ("PUT", "DELETE", "OPTIONS"):
        found = ask(port, method, f"token={good}")
        assert (found.status, found.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert approvals.read(storage, GATE).waits


def test_a_token_for_one_answer_has_one_button(port: int, storage: LocalStorage) -> None:
    """A page offers what its token may do."""
    only, _ = approvals.make_token(storage, GATE, "cron", HOURS, [REJECTED])
    assert re.findall(r"<button[^>]*>(\w+)<", ask(port, "GET", f"token={only}").body) == ["Reject"]


def test_the_secret_in_the_link_stays_there(port: int, storage: LocalStorage) -> None:
    """No cache keeps the page, no other site is told its address or may frame it, and no script runs in it."""
    secret, _ = approvals.make_token(storage, GATE, "cron", HOURS)
    found = ask(port, "GET", f"token={secret}")
    assert found.headers["Cache-Control"] == "no-store"
    assert found.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in found.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in found.headers["Content-Security-Policy"]
    assert not re.search(r"https?://|<script|<img|<a ", found.body)


def test_a_storage_that_can_t_be_read_tells_a_stranger_nothing(
    port: int, storage: LocalStorage, capfd: pytest.CaptureFixture[str]
) -> None:
    """The page says that it can't be told now; the server's log says why."""
    secret, _ = approvals.make_token(storage, GATE, "cron", HOURS)
    Path(storage.uri(f"{GATE.folder}/0001.json")).write_text("{")
    found = ask(port, "GET", f"token={secret}")
    assert found.status == 503
    assert "That can't be told now" in found.body
    assert storage.uri("") not in found.body
    assert "0001.json is damaged" in capfd.readouterr().err
