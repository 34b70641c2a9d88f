"""Images as pictures that stand in the page itself."""

import base64
import struct
import zlib
from typing import Any

_SIDE = 28


def picture(image: Any) -> str | None:
    """Return an image, as a table has it, as the address of a picture of 28 × 28: dark ink on white paper.

    None for what is no image, as where another has taken its place in the table meanwhile.
    """
    from pipelines.digits.images import NotAnImageError, pixels_of

    try:
        pixels = pixels_of(image)
    except NotAnImageError:
        return None
    levels = [255 - round(float(pixel) * 255) for pixel in pixels]
    return "data:image/png;base64," + base64.b64encode(_png(levels)).decode()


def _png(levels: list[int]) -> bytes:
    """Return levels of grey as a PNG."""
    # Each line begins with the number of its filter; 0 is none.
    lines = b"".join(b"\0" + bytes(levels[at : at + _SIDE]) for at in range(0, len(levels), _SIDE))
    head = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
