"""Messages of several parts: batches and uploads."""

import email.parser
import email.policy
from typing import Any

from localcloud.serving import Request


def mime(request: Request) -> Any:
    """Return a request that is a message of several parts."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    return email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head + request.body)


def headers_and_body(text: str) -> tuple[Any, bytes]:
    """Return the headers and the body of a message."""
    message = email.parser.Parser(policy=email.policy.compat32).parsestr(text)
    return message, str(message.get_payload()).encode()
