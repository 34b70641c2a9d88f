"""A real HTTP server in a thread that answers as a test tells it to, misbehaviour included."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """One answer. claimed: the Content-Length it names (None: the true one). hang: it never comes to an end."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    claimed: int | None = None
    hang: bool = False


class Server:
    """Answers `path` with the next of its replies, the last of them for ever; a path without replies is a 404."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.replies: dict[str, list[Reply]] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()

    def reply(self, path: str, *replies: Reply, head: Sequence[Reply] | None = None) -> str:
        """Sets the replies to GET, and to HEAD (by default the last one to GET); returns the URL."""
        self.replies[f"GET {path}"] = list(replies)
        self.replies[f"HEAD {path}"] = list(replies[-1:] if head is None else head)
        return f"{self.url}{path}"

    def count(self, request: str) -> int:
        return self.asked.count(request)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            request = f"{self.command} {self.path}"
            server.asked.append(request)
            replies = server.replies.get(request, [Reply(404)])
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
            if reply.hang:
                server.closing.wait(10)
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "Transfer-Encoding" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body) if reply.claimed is None else reply.claimed))
            self.end_headers()
            if self.command == "GET":
                with contextlib.suppress(ConnectionError):  # the client may have had enough
                    self.wfile.write(reply.body)

        do_GET = do_HEAD = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


__all__ = ["Reply", "Server", "serving"]
