"""Text from elsewhere, made safe for people: for terminals, logs, error sentences, luigid and the page.

What a server, a post or a file says may hold control characters that move a terminal's cursor, line ends that forge a
line of a log, and characters that turn the reading direction round or can't be seen. `plain` shows each as U+FFFD (a
question mark in a diamond), so that a reader sees that something stood there. Markup is no business of this module:
what writes HTML, or a terminal's markup, escapes it.
"""

import datetime
import functools
import json
from collections.abc import Callable
from typing import Any

# Joiners spell emoji and words of some scripts; anywhere else they are only hidden.
_LETTER = r"[[\p{L}\p{M}\p{S}]--[\x00-\x7f]]"
_UNSAFE = (
    "(?V1)"
    # A flag that is spelled in invisible letters (England's) is the one use that is kept, as group 1.
    r"(\U0001f3f4[\U000e0061-\U000e007a]{1,6}\U000e007f)"
    rf"|(?<!{_LETTER})[\u200c\u200d]|[\u200c\u200d](?!{_LETTER})"
    # Control, unassigned and private characters, lone surrogates, ends of lines and paragraphs, bidi controls, what is
    # drawn as nothing (but variation selectors, which choose between sign and emoji), annotations, the Braille blank.
    r"|[[\p{Cc}\p{Cn}\p{Co}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}\ufff9-\ufffb\u2800]"
    r"--[\u200c\u200d\ufe00-\ufe0f]]"
)


def plain(text: str, longest: int | None = None, *, keep: str = "") -> str:
    r"""Return `text` in which nothing is left that acts on a terminal, forges a line or deceives the eye.

    Replaced by U+FFFD: control characters (C0, DEL, C1), ends of lines included, but those in `keep` (`"\n\t"` for a
    text of many lines); bidi controls, zero-width and other invisible characters; lone surrogates; unassigned and
    private characters. longest: how many characters to keep at most; what is longer ends in an ellipsis.
    """
    if longest is not None and len(text) > longest:
        text = text[: max(longest - 1, 0)] + "…"
    bare = text.translate(dict.fromkeys(map(ord, keep))) if keep else text
    if bare.isascii() and bare.isprintable():
        return text
    return _replaced(text, keep, lambda sign: "\ufffd")


def one_line(text: str, longest: int | None = None) -> str:
    """Return `text` as one line that is safe to show: white space as single spaces, the rest as `plain` has it."""
    if longest is not None:  # so that a text of a gigabyte is not split to show a line of it
        text = text[: 16 * longest]
    return plain(" ".join(text.split()), longest)


def escaped(document: str) -> str:
    r"""Return a JSON document that says the same, with \uXXXX for every character that `plain` would replace."""
    return _replaced(document, "\n", lambda sign: json.dumps(sign)[1:-1])


def _replaced(text: str, keep: str, instead: Callable[[str], str]) -> str:
    shown: str = _unsafe().sub(lambda found: found[0] if found[1] or found[0] in keep else instead(found[0]), text)
    return shown


@functools.cache
def _unsafe() -> Any:
    import regex  # here, because loading it takes 50 ms, and most of what is shown is plain ASCII

    return regex.compile(_UNSAFE)


def moment(time: str) -> str:
    """Return a time, ISO 8601, as people read it, in UTC: 2026-11-20 07:12:03Z."""
    try:
        utc = datetime.datetime.fromisoformat(time).astimezone(datetime.UTC)
    except ValueError:
        return "an unknown time"
    return f"{utc:%Y-%m-%d %H:%M:%S}Z"
