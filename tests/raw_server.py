"""A server that says what a test tells it to, byte by byte: what no HTTP library would let it say."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

#: Says something through a connection; the server closes it afterwards.
Script = Callable[[socket.socket], None]


@dataclass
class RawServer:
    """Answers each request by the script; `asked` is what came, head by head."""

    url: str
    script: Script
    asked: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


def says(answer: bytes) -> Script:
    """A script that says so much, and no more."""
    return lambda connection: connection.sendall(answer)


@contextlib.contextmanager
def raw_server(script: Script, context: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """A server on a free port of loopback; with a context it speaks TLS."""
    listener = socket.create_server(("127.0.0.1", 0))
    scheme = "https" if context else "http"
    server = RawServer(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", script)

    def answer(connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            connection,
            context.wrap_socket(connection, server_side=True) if context else connection as secure,
        ):
            head = b""
            while b"\r\n\r\n" not in head and (more := secure.recv(65536)):
                head += more
            if head:
                server.asked.append(head.decode("latin-1"))
                server.script(secure)
                secure.shutdown(socket.SHUT_WR)
                while secure.recv(65536):
                    pass

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
