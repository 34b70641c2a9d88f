"""A page at which the token of a mail is answered: `app`, for any server of WSGI, with the settings of luigi.cfg.

Its link is …?token=SECRET. To follow a link is no answer, because scanners of mail and previews follow links too: a
GET shows what is asked, and only what the page's buttons send, a POST, answers. Who has the token may answer.
"""

import html
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from millrace.common.text import moment, one_line
from millrace.core import approvals
from millrace.errors import ConflictError, MillraceError, SettingError
from millrace.tasks import session

#: The bytes of a form that are read at the most.
_LONGEST = 20_000
_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),  # because the page's address holds the token
    ("X-Content-Type-Options", "nosniff"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
]
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Approval</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 3rem auto; padding: 0 1rem; color: #222 }}
label {{ display: block; margin: 1rem 0 0.2rem }}
input {{ font: inherit; width: 100%; box-sizing: border-box; padding: 0.4rem }}
button {{ font: inherit; margin: 1.5rem 0.5rem 0 0; padding: 0.4rem 1.2rem }}
</style>
<body>{}</body></html>
"""
_FORM = """<form method="post"><input type="hidden" name="token" value="{token}">
<label for="by">Your name</label><input id="by" name="by" required maxlength="200" autocomplete="name">
<label for="reason">Why (shown with your answer)</label><input id="reason" name="reason" maxlength="2000">
{buttons}</form>"""
_BUTTONS = {approvals.APPROVED: "Approve", approvals.REJECTED: "Reject"}

Start = Callable[[str, list[tuple[str, str]]], object]


def app(environ: Mapping[str, Any], start_response: Start) -> Iterable[bytes]:
    """Answer a request, as WSGI has it."""
    method = environ["REQUEST_METHOD"]
    try:
        if method in ("GET", "HEAD"):
            status, body = HTTPStatus.OK, _asked(_one(environ.get("QUERY_STRING", ""), "token"))
        elif method == "POST":
            status, body = HTTPStatus.OK, _answered(_form(environ))
        else:
            status, body = HTTPStatus.METHOD_NOT_ALLOWED, "<p>There is a page here, and its form.</p>"
    except ConflictError as error:
        status, body = HTTPStatus.CONFLICT, _said(error.what)
    except SettingError as error:  # without the commands that mend it, which are nothing for whoever has a link
        status, body = HTTPStatus.FORBIDDEN, _said(error.what)
    except MillraceError as error:
        status, body = HTTPStatus.SERVICE_UNAVAILABLE, "<p>That can't be told now; try again later.</p>"
        print(f"error: {one_line(str(error))}", file=environ["wsgi.errors"])
    page = _PAGE.format(body).encode()
    allow = [("Allow", "GET, HEAD, POST")] if status == HTTPStatus.METHOD_NOT_ALLOWED else []
    start_response(f"{status.value} {status.phrase}", [*_HEADERS, *allow, ("Content-Length", str(len(page)))])
    return [] if method == "HEAD" else [page]


def _asked(secret: str) -> str:
    """Return what a token's link shows: how its gate stands, and the buttons that answer."""
    state, token = approvals.look_up(session.current().storage, secret)
    if state.answer:
        return _said(str(state))
    approvals.check_token(state, token)
    buttons = "".join(
        f'<button name="answer" value="{html.escape(kind)}">{_BUTTONS[kind]}</button>'
        for kind in _BUTTONS
        if kind in token.allows
    )
    until = f"<p>This link answers until {html.escape(moment(token.expires))}.</p>"
    return _said(str(state)) + _FORM.format(token=html.escape(secret), buttons=buttons) + until


def _answered(form: Mapping[str, str]) -> str:
    """Answer as a form says; return what to show. Raises SettingError for a form that is not ours."""
    if (kind := form.get("answer", "")) not in _BUTTONS:
        raise SettingError("no answer was sent; go back and take one of the buttons")
    storage, secret = session.current().storage, form.get("token", "")
    by, reason = form.get("by", ""), form.get("reason", "")
    answer, _ = approvals.answer_with_token(storage, secret, kind, by, reason)
    return _said(f"{approvals.look_up(storage, secret)[0].gate}: {answer}")


def _form(environ: Mapping[str, Any]) -> dict[str, str]:
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isascii() or not length.isdigit() or int(length) > _LONGEST:
        raise SettingError("this form is too long")
    text = environ["wsgi.input"].read(int(length)).decode("utf-8", "replace")
    return {name: _one(text, name) for name in ("token", "answer", "by", "reason")}


def _one(query: str, name: str) -> str:
    """Return the value of a name in a query; "" where there is none. Raises SettingError for more than is sensible."""
    try:
        return parse_qs(query, max_num_fields=20).get(name, [""])[0].strip()
    except ValueError:
        raise SettingError("this form is too long") from None


def _said(text: str) -> str:
    return f"<p>{html.escape(one_line(text))}</p>"
