"""The form under which the rules `standard` count a URL: one form for all ways to write it (RFC 3986, section 6.2)."""

import re
from urllib.parse import quote, urlsplit, urlunsplit

import idna

_TRACKING = frozenset(
    "fbclid gclid dclid gbraid wbraid msclkid mc_cid mc_eid igshid yclid twclid ttclid _ga ref_src".split()
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ORDINARY = re.compile(r"https?://\S", re.IGNORECASE)
#: URLs that are in their one form already, as most are: no port, query or fragment, no code, no segment of dots.
_PLAIN = re.compile(r"https?://[a-z0-9-]++(?:\.[a-z0-9-]++)*+(?:/(?!\.)[\w\-.~:@!$&'()*+,;=]*+)++", re.ASCII)
#: A longer URL is counted as it stands.
_MAX_URL = 8000
#: A longer host is no host.
_MAX_HOST = 253
#: What may stand in a URL as it is, beside letters and digits: unreserved and reserved characters.
_SAFE = "-._~:/?#[]@!$&'()*+,;=%"
_CLEAN = re.compile(r"[\w\-.~:/?#\[\]@!$&'()*+,;=]*", re.ASCII)
_ENCODED = re.compile("%([0-9A-Fa-f]{2})?")
_UNRESERVED = re.compile(r"[\w\-.~]", re.ASCII)


def standard(url: str) -> str:
    """Return the one form of all the ways to write a URL; what is no URL stays as it is.

    Scheme and host are in lower case, hosts in Punycode; what need not be encoded is decoded, the other codes are in
    capitals; dot segments, default port, tracking parameters and fragment are left out.
    """
    if _PLAIN.fullmatch(url):
        return url
    url = url.strip()
    if not _ORDINARY.match(url) or len(url) > _MAX_URL:
        return url
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname:
        return url
    user, at, host = parts.netloc.rpartition("@")
    name, digits = host, ""
    if port is not None or host.endswith(":"):
        name, _, digits = host.rpartition(":")
        digits = "" if port is None or port == _DEFAULT_PORTS[scheme] else ":" + digits
    query = "&".join(p for p in _encoded(parts.query).split("&") if not _is_tracking(p.split("=", 1)[0].lower()))
    netloc = _encoded(user) + at + _host(name) + digits
    return urlunsplit((scheme, netloc, _without_dots(_encoded(parts.path)), query, ""))


def _encoded(part: str) -> str:
    """Return a part of a URL with each character either plain or percent-encoded, always in the same way."""
    if _CLEAN.fullmatch(part):
        return part
    return _ENCODED.sub(_one, quote(part, safe=_SAFE))


def _one(encoded: re.Match[str]) -> str:
    if encoded[1] is None:  # a per cent sign that encodes nothing
        return "%25"
    character = chr(int(encoded[1], 16))
    return character if _UNRESERVED.fullmatch(character) else encoded[0].upper()


def _host(name: str) -> str:
    """Return a host's name in lower case, in Punycode where it is not ASCII (IDNA 2008 with UTS #46)."""
    if "%" in name and not name.startswith("["):
        name = _decoded(name)
    if name.isascii() or len(name) > _MAX_HOST:
        return name.lower()
    try:
        return idna.encode(name, uts46=True).decode().lower()
    except UnicodeError:  # what idna raises, too
        return name.lower()


def _decoded(name: str) -> str:
    from urllib.parse import unquote

    try:
        plain = unquote(name, errors="strict")
    except UnicodeDecodeError:
        return name
    return plain if re.fullmatch(r"[\w.~-]+", plain) else name


def _without_dots(path: str) -> str:
    """Return a path without the segments `.` and `..`, as RFC 3986 resolves them; / for an empty path."""
    if "/." not in path:
        return path or "/"
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _is_tracking(name: str) -> bool:
    return name.startswith("utm_") or name in _TRACKING
