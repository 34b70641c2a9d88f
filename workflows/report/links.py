"""URLs of posts on the page: what is shown of one, and whether it may be a link."""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import idna

from millrace import plain

#: Characters of a URL that the page shows, that a title tells, and that a link may have.
SHOWN, TOLD, LINKED = 200, 2000, 2000

# The characters of a host's name that is then written in ASCII; browsers read other characters in ways of their own.
_HOST = re.compile(r"[\w.-]+|\[[0-9a-f:.]+\]", re.IGNORECASE)
_BEGIN = re.compile(r"^https://(?:www\.)?", re.IGNORECASE)


@dataclass(frozen=True)
class Link:
    """What the page shows of a URL, its whole text as a title, and its address where it may be a link, else None."""

    shown: str
    title: str
    href: str | None


def link(url: str) -> Link:
    """Return what the page makes of a URL, which may be any text.

    The name of a host is shown in ASCII (punycode), because letters of other scripts can look like those of a known
    name; the title also tells the name as its owner writes it. A link is made of http and https only. None is made
    where the address holds a user's name or a password (which are left out of what is shown, too), what can't be seen,
    or more than anybody types, nor where a browser might read another host in it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:  # Python refuses the host, for characters that turn into others or brackets that don't match
        return _text(url)
    if parts.scheme.lower() not in ("http", "https") or not host or url != url.strip():
        return _text(url)
    name, known = _ascii(host)
    where = f"[{name}]" if ":" in name else name
    where += f":{port}" if port is not None else ""
    has_user = "@" in parts.netloc
    address = parts._replace(netloc=where).geturl()
    title = plain(parts._replace(netloc=f"…@{where}").geturl() if has_user else address, TOLD)
    if (spoken := _spoken(name)) != name:
        title += f" ({plain(spoken, 253)})"
    linked = known and not has_user and address == plain(address) and len(address) <= LINKED and _sound(parts)
    short = title if has_user else _BEGIN.sub("", address)
    return Link(plain(short, SHOWN), title, address if linked else None)


def _text(url: str) -> Link:
    """Return a URL as text alone; a password that stands in it is not shown."""
    text = re.sub(r"//[^/?#\s]*@", "//…@", url)
    return Link(plain(text, SHOWN), plain(text, TOLD), None)


def _sound(parts: SplitResult) -> bool:
    """Return whether every browser finds the same host in a URL: a backslash, say, ends the host for some and not for
    others.
    """
    host = parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc.rstrip(":")
    return bool(_HOST.fullmatch(host))


def _ascii(host: str) -> tuple[str, bool]:
    """Return a host's name as the DNS is asked for it, and whether the standard (IDNA 2008, UTS 46) allows the name."""
    if host.isascii():
        return host, True
    try:
        return idna.encode(host, uts46=True).decode(), True
    except idna.IDNAError:
        labels = host.split(".")
        return ".".join(n if n.isascii() else f"xn--{n.encode('punycode').decode()}" for n in labels), False


def _spoken(name: str) -> str:
    """Return a name of the DNS as its owner writes it."""
    if "xn--" not in name:
        return name
    try:
        return idna.decode(name)
    except idna.IDNAError:
        return name
