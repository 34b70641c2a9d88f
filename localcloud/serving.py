"""The floor that the local services stand on: HTTP/1.1 over real, kept-alive connections, a log, and faults.

A service is a subclass of `Service` that says what a request is called and what its answer is:

    class Hello(Service):
        name = "hello"
        def call_of(self, request: Request) -> str:
            return "greetings.get"
        def handle(self, request: Request) -> Response:
            return json_response({"greeting": "hello"})

    with Hello() as hello:
        requests.get(f"{hello.url}/greetings")
"""

import abc
import json
import socket
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from localcloud import discovery, parameters
from localcloud.faults import Fault, FaultPlan

#: What Google's APIs call an error besides its HTTP status: the canonical code, and the reason where none is given.
_CODES = {
    400: ("INVALID_ARGUMENT", "invalid"),
    401: ("UNAUTHENTICATED", "authError"),
    403: ("PERMISSION_DENIED", "forbidden"),
    404: ("NOT_FOUND", "notFound"),
    408: ("DEADLINE_EXCEEDED", "requestTimeout"),
    409: ("ALREADY_EXISTS", "conflict"),
    412: ("FAILED_PRECONDITION", "conditionNotMet"),
    416: ("OUT_OF_RANGE", "requestedRangeNotSatisfiable"),
    429: ("RESOURCE_EXHAUSTED", "rateLimitExceeded"),
    500: ("INTERNAL", "internalError"),
    501: ("UNIMPLEMENTED", "notImplemented"),
    502: ("UNAVAILABLE", "badGateway"),
    503: ("UNAVAILABLE", "backendError"),
    504: ("DEADLINE_EXCEEDED", "gatewayTimeout"),
}
JSON = "application/json; charset=UTF-8"
#: What a service's host is called.
_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass
class Request:
    """A request, whole. path: decoded, without the query; target: path and query as they were sent.

    query: without the system parameters (localcloud.parameters), which are in `system`.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: bytes = b""
    target: str = ""
    #: The short name of the API call, as in "objects.insert".
    call: str = ""
    system: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, method: str, target: str, headers: Message, body: bytes) -> Self:
        """Return the request that was sent as this."""
        url = urlsplit(target)
        query, system = parameters.split(dict(parse_qsl(url.query, keep_blank_values=True)))
        return cls(method, unquote(url.path), query, headers, body, target, system=system)

    def json(self) -> Any:
        """Return the body, read as JSON; nothing is an empty object."""
        return json.loads(self.body or b"{}")


@dataclass
class Response:
    """An answer. Content-Length is added to the headers."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """A request in a service's log. status: 0 where no answer was sent. effect: whether it was one to change things."""

    service: str
    call: str
    method: str
    path: str
    query: Mapping[str, str]
    status: int
    effect: bool
    fault: Fault | None


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer that is JSON."""
    return Response(status, json.dumps(value).encode(), {"Content-Type": JSON, **(headers or {})})


def error_response(status: int, message: str, reason: str = "") -> Response:
    """Return an error in the shape of Google's APIs; without a reason, the status' usual one."""
    code, usual = _CODES.get(status, ("UNKNOWN", "unknown"))
    errors = [{"message": message, "domain": "global", "reason": reason or usual}]
    return json_response({"error": {"code": status, "message": message, "errors": errors, "status": code}}, status)


class Service(abc.ABC):
    """A service on two free ports of this machine: its own, and one for workers, which the fault plan and the log skip.

    Subclasses give `name`, `handle` and `call_of`. `handle` is called by many threads at once.

    A call's name is its method's in Google's discovery document, without the API and the collection of projects, as in
    "objects.insert"; `call_of` answers "" or "unknown" for what there is not. docs/localcloud-api.md is made of what
    `call_of` says of every method that Google documents, and of `partly` and `refused`.
    """

    name = ""
    #: The API's name and version, as its discovery document has them.
    api = "", ""
    #: Calls of which a part is refused or differs, each with a sentence that says which.
    partly: Mapping[str, str] = {}
    #: Calls that are refused by name, each, or what its name begins with, with what it is that the service lacks.
    refused: Mapping[str, str] = {}

    def __init__(self, faults: FaultPlan | None = None) -> None:
        self.faults = faults or FaultPlan()
        #: What was answered on the service's own port, in the order of the answers.
        self.requests: list[Answered] = []
        #: Is called after each call that may have changed things, before it is answered; localcloud.keeping sets it.
        self.changed: Callable[[], None] = lambda: None
        self._stopping = threading.Event()
        self._servers = (_Server(self, for_workers=False), _Server(self, for_workers=True))

    @property
    def port(self) -> int:
        """The service's own port."""
        return self._servers[0].server_port

    @property
    def url(self) -> str:
        """Where the service is: http://localhost:PORT."""
        return f"http://localhost:{self.port}"

    @property
    def worker_url(self) -> str:
        """Where the same service is for workers: no faults, not in the log."""
        return f"http://localhost:{self._servers[1].server_port}"

    def start(self) -> None:
        """Begin to answer; connections made before wait for it."""
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Close every connection and wait for what is being answered; the service must have been started."""
        self._stopping.set()
        for server in self._servers:
            server.shutdown()
            server.hang_up()
            server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()

    @abc.abstractmethod
    def handle(self, request: Request) -> Response:
        """Return the answer to a request."""

    @abc.abstractmethod
    def call_of(self, request: Request) -> str:
        """Return the short name of the API call that a request is."""

    def has_effect(self, request: Request) -> bool:
        """Return whether a request may change things."""
        return request.method not in ("GET", "HEAD")

    def dispatch(self, request: Request, *, for_workers: bool) -> Response | None:
        """Answer a request as the fault plan says and log the answer; return None for no answer."""
        request.call = self.call_of(request)
        if for_workers:
            return self._handled(request)
        effect = self.has_effect(request)
        fault = self.faults.decide(self.name, request.call, effect)
        response = self._faulty(request, fault) if fault else self._handled(request)
        status = response.status if response else 0
        self.requests.append(
            Answered(self.name, request.call, request.method, request.path, request.query, status, effect, fault)
        )
        if fault and fault.kind == "kill":
            fault.kill()
        return response

    def _faulty(self, request: Request, fault: Fault) -> Response | None:
        if fault.kind == "cut":
            return None
        if fault.kind == "status":
            return error_response(fault.status, "the fault plan says so")
        if fault.kind == "delay":
            self._stopping.wait(fault.seconds)
            return self._handled(request)
        self._handled(request)
        return None

    def respond(self, request: Request) -> Response:
        """Return the answer to a request in the form, and with the fields, that its system parameters ask for."""
        try:
            parameters.check(request.system)
        except parameters.ParameterError as problem:
            return error_response(400, str(problem), "invalidParameter")
        response = self._described(request) or self.handle(request)
        fields = parameters.mask(request.system.get("fields", ""))
        if fields and response.body and response.status < 300 and response.headers.get("Content-Type") == JSON:
            response.body = json.dumps(parameters.partial(json.loads(response.body), fields)).encode()
        return response

    def _described(self, request: Request) -> Response | None:
        """Return the discovery document of the service's API if that is what a request is for."""
        try:
            if request.method != "GET" or not discovery.asked(request.path, request.query, *self.api):
                return None
            return json_response(discovery.document(*self.api, root=f"http://{request.headers['Host']}/"))
        except LookupError as unknown:
            return error_response(404, str(unknown), "notFound")

    def _handled(self, request: Request) -> Response:
        try:
            response = self.respond(request)
            if request.method not in ("GET", "HEAD"):
                self.changed()
            return response
        except Exception as problem:
            # A bug of the service: the caller is told, with a status that nobody retries. The error comes first,
            # because callers cut long messages short.
            kind = type(problem).__name__
            return error_response(501, f"local {self.name} failed: {kind}: {problem}\n{traceback.format_exc()}")


class _Server(ThreadingHTTPServer):
    """One port of a service."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, service: Service, *, for_workers: bool) -> None:
        self.service = service
        self.for_workers = for_workers
        #: The open connections, and the threads that serve them.
        self.connections: dict[socket.socket, threading.Thread] = {}
        super().__init__(("127.0.0.1", 0), _Connection)

    def hang_up(self) -> None:
        """Close every connection and wait for their threads."""
        for connection, thread in list(self.connections.items()):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(10)


class _Connection(BaseHTTPRequestHandler):
    """One connection to a service."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def setup(self) -> None:
        super().setup()
        cast(_Server, self.server).connections[self.connection] = threading.current_thread()

    def finish(self) -> None:
        cast(_Server, self.server).connections.pop(self.connection)
        with suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with suppress(ConnectionError):  # the caller is gone
            super().handle()

    def answer(self) -> None:
        server = cast(_Server, self.server)
        request = Request.of(self.command, self.path, self.headers, self._body())
        response: Response | None
        if self._meant_for_us():
            response = server.service.dispatch(request, for_workers=server.for_workers)
        else:
            response = error_response(403, "this service answers to localhost only, and to no page of elsewhere")
        if response is None:
            self.close_connection = True
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status not in (204, 304):
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def _meant_for_us(self) -> bool:
        """Return whether the request names the service itself, and not a page of the web whose name leads here."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        try:
            named = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return named in _NAMES and (origin is None or urlsplit(origin).netloc == host)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def log_message(self, format: str, *args: Any) -> None:
        pass
