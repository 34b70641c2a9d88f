"""Serve luigi's page: http://localhost:8082. Runs use it with --scheduler-host, or scheduler_host in luigi.cfg.

It answers to its own names only, so that a page of the web, in a browser that can reach it, can do nothing to it:
neither under a name that leads here, nor by requests that such a page sends.
"""

import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import click
import luigi.server
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.routing import AnyMatches, Matcher, Rule, RuleRouter

from millrace.tasks import console, tasks

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_REFUSED = b"error: luigid answers to its own names only; bin/luigid --name adds one\n"


@click.command("luigid", context_settings={"ignore_unknown_options": True}, help=__doc__)
@click.option("--address", default="127.0.0.1", help="where it listens; 0.0.0.0 for other machines as well")
@click.option("--port", type=int, default=8082, show_default=True)
@click.option("--name", "more", multiple=True, help="a further name that it answers to; may be repeated")
@click.option("--logdir", default="logs/luigid", show_default=True)
@click.option("--state-path", help="what it remembers; state.pickle in the logdir unless given")
@click.argument("others", nargs=-1, type=click.UNPROCESSED, metavar="[--background] [--pidfile F] [--unix-socket S]")
def command(
    address: str, port: int, more: Sequence[str], logdir: str, state_path: str | None, others: Sequence[str]
) -> int:
    """Run the server until it is stopped; return the exit code if it can't be run."""
    state = state_path or os.path.join(logdir, "state.pickle")
    if not any(flag.startswith("--unix") for flag in others):  # browsers can't reach a socket in a folder
        guarded(names(address, more), more)
    flags = ["--address", address, "--port", str(port), "--logdir", logdir, "--state-path", state]
    from luigi.cmdline import luigid  # not before, because a process that has it counts as the luigi command

    try:
        os.makedirs(logdir, exist_ok=True)
        luigid([*flags, *others])
    except (OSError, OverflowError) as error:
        print(f"error: luigid can't run at {address}:{port}, {logdir}: {error}", file=sys.stderr)
        return 1
    except ValueError as error:  # what a section of luigi.cfg says
        return console.print_error(tasks.for_people(error))
    return 0


def names(address: str, more: Sequence[str]) -> Callable[[str], bool]:
    """Return what tells whether a host's name, or address, is that of a server that listens at an address."""
    known = _LOOPBACK | {address.lower()} | {name.lower() for name in more}
    listens_everywhere = address in ("", "0.0.0.0", "::")
    if address not in _LOOPBACK:
        known |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def ours(host: str) -> bool:
        host = host.lower().removesuffix(".")
        return host in known or (listens_everywhere and _is_address(host))  # no other name leads to an address

    return ours


def guarded(ours: Callable[[str], bool], more: Sequence[str]) -> None:
    """Have luigi's server refuse what was not meant for it, or comes from a page of elsewhere."""
    plain: Callable[[Any], Any] = luigi.server.app

    def app(scheduler: Any) -> RuleRouter:
        return RuleRouter([Rule(_Meant(ours, more), plain(scheduler)), Rule(AnyMatches(), _refuse)])

    luigi.server.app = app


class _Meant(Matcher):
    """Requests to one of the server's names that no page of elsewhere sends."""

    def __init__(self, ours: Callable[[str], bool], more: Sequence[str]) -> None:
        self.ours, self.more = ours, [name.lower() for name in more]

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """Return {} for a request that is meant, None for any other."""
        host = request.headers.get("Host", "")
        if not self.ours(_name(host)):
            return None
        # A browser says so of what another page asks for, even an image; a link to the page itself may be followed.
        if request.path.startswith("/api/") and request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            return None
        origin = request.headers.get("Origin")
        return {} if origin is None or self._may(origin, host) else None

    def _may(self, origin: str, host: str) -> bool:
        cors = luigi.server.cors()
        if cors.enabled and (cors.allow_any_origin or origin in cors.allowed_origins):
            return True
        return urlsplit(origin).netloc.lower() == host.lower() or _name(urlsplit(origin).netloc) in self.more


def _refuse(request: HTTPServerRequest) -> None:
    headers = HTTPHeaders({"Content-Type": "text/plain", "Content-Length": str(len(_REFUSED))})
    assert request.connection is not None
    request.connection.write_headers(ResponseStartLine("HTTP/1.1", 403, "Forbidden"), headers, _REFUSED)
    request.connection.finish()


def _name(host: str) -> str:
    """Return the name or address in a Host header."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
