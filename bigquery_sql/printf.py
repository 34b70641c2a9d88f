"""FORMAT of GoogleSQL."""

import datetime
import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from bigquery_sql.scalars import float_text

_SPECIFIER = re.compile(r"%([-+ #0']*)(\*|\d+)?(?:\.(\*|\d+))?([diouxXfFeEgGstTpP%])")


def text_format(form: str | None, *values: Any) -> str | None:
    """Return FORMAT: values in place of specifiers; NULL if one of them is NULL, but for %t and %T."""
    if form is None:
        return None
    found: list[str] = []
    at, rest = 0, list(values)
    for match in _SPECIFIER.finditer(form):
        found.append(_plain(form[at : match.start()]))
        at = match.end()
        if match[4] == "%":
            found.append("%")
            continue
        flags = match[1]
        width, precision = (_size(given, rest) for given in (match[2], match[3]))
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        if not rest:
            raise ValueError("Too few arguments to FORMAT")
        value = rest.pop(0)
        if value is None and match[4] not in "tT":
            return None
        found.append(_padded(_one(match[4], flags, precision, value), match[4], flags, width))
    if rest:
        raise ValueError("Too many arguments to FORMAT")
    return "".join([*found, _plain(form[at:])])


def _grouped(digits: str, kind: str) -> str:
    """Return digits with what stands between groups of them: 12,345 and 15,4403 (octal) and bc:614e (hexadecimal)."""
    size, between = (4, "," if kind == "o" else ":") if kind in "oxX" else (3, ",")
    first = len(digits) % size
    return between.join(
        filter(None, [digits[:first], *(digits[at : at + size] for at in range(first, len(digits), size))])
    )


def _plain(text: str) -> str:
    if "%" in text:
        raise ValueError(f"FORMAT does not know the specifier {text[text.index('%') :][:4]}")
    return text


def _size(given: str | None, rest: list[Any]) -> int | None:
    if given != "*":
        return None if given is None else int(given)
    if not rest or not isinstance(rest[0], int):
        raise ValueError("FORMAT needs an INT64 for *")
    return int(rest.pop(0))


def _one(kind: str, flags: str, precision: int | None, value: Any) -> str:
    if kind in "diouxX":
        if kind == "u" or isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"FORMAT takes an INT64 for %{kind}")
        if kind not in "di" and value < 0 and kind != "x":
            raise ValueError(f"FORMAT of a negative number by %{kind} is not supported on one machine")
        digits = "" if precision == 0 and value == 0 else format(abs(value), kind.replace("i", "d"))
        digits = digits.rjust(precision or 0, "0")
        if "'" in flags:
            digits = _grouped(digits, kind)
        if "#" in flags and kind in "oxX" and value:
            digits = {"o": "0", "x": "0x", "X": "0X"}[kind] + digits
        return _signed(digits, value < 0, flags)
    if kind in "fFeEgG":
        if isinstance(value, bool) or not isinstance(value, float | Decimal):
            raise ValueError(f"FORMAT takes a FLOAT64 or NUMERIC for %{kind}")
        if isinstance(value, float) and value in (float("inf"), float("-inf")) or value != value:
            text = "nan" if value != value else "inf"
            return _signed(text.upper() if kind.isupper() else text, value < 0, flags)
        if isinstance(value, Decimal) and kind in "fF":
            # Half goes away from zero there, as in all of NUMERIC's rounding.
            number = abs(value).quantize(Decimal(1).scaleb(-(6 if precision is None else precision)), "ROUND_HALF_UP")
            return _signed(f"{number:,f}" if "'" in flags else f"{number:f}", value < 0, flags)
        grouped = "," if "'" in flags and kind in "fF" else ""
        point = "#" if "#" in flags else ""
        text = f"{abs(float(value)):{point}{grouped}.{6 if precision is None else precision}{kind}}"
        return _signed(text, str(value).startswith("-"), flags)
    if kind == "s":
        if not isinstance(value, str):
            raise ValueError("FORMAT takes a STRING for %s")
        text = value
    elif kind in "tT":
        text = shown(value, kind == "T")
    else:
        raise ValueError(f"FORMAT's %{kind} is not supported on one machine")
    return text if precision is None else text[:precision]


def _signed(digits: str, negative: bool, flags: str) -> str:
    return ("-" if negative else "+" if "+" in flags else " " if " " in flags else "") + digits


def _padded(text: str, kind: str, flags: str, width: int | None) -> str:
    missing = (width or 0) - len(text)
    if missing <= 0:
        return text
    if "-" in flags:
        return text + " " * missing
    if "0" in flags and kind not in "stT" and text.lstrip("+- ")[:1].isdigit():
        sign = text[: len(text) - len(text.lstrip("+- "))]
        return sign + "0" * missing + text[len(sign) :]
    return " " * missing + text


def shown(value: Any, literal: bool) -> str:
    """Return a value as %t writes it, or as a literal, as %T does."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value) if literal else value
    if isinstance(value, float):
        text = float_text(value)
        if text.lstrip("-") in ("inf", "nan"):
            return f'CAST("{text}" AS FLOAT64)' if literal else text
        return text if re.search(r"[.e]", text) else f"{text}.0"
    if isinstance(value, Decimal):
        text = f"{value.quantize(Decimal('1e-9'), ROUND_HALF_EVEN):f}".rstrip("0").rstrip(".")
        return f'NUMERIC "{text}"' if literal else text
    if isinstance(value, datetime.datetime):
        plain = value.replace(tzinfo=None)
        kind, zone = ("TIMESTAMP", "+00") if value.tzinfo else ("DATETIME", "")
        text = _cut(plain.isoformat(" ", "microseconds")) + zone
        return f'{kind} "{text}"' if literal else text
    if isinstance(value, datetime.date):
        return f'DATE "{value}"' if literal else str(value)
    if isinstance(value, datetime.time):
        text = _cut(value.isoformat("microseconds"))
        return f'TIME "{text}"' if literal else text
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(each, literal) for each in value) + "]"
    if isinstance(value, dict):
        inner = ", ".join(shown(each, literal) for each in value.values())
        return f"({inner})"
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        text = "".join(chr(b) if 32 <= b < 127 and b != 92 else "\\\\" if b == 92 else f"\\x{b:02x}" for b in data)
        return f'b"{text}"' if literal else text
    return str(value)


def _cut(text: str) -> str:
    return text[:-7] if text.endswith(".000000") else text[:-3] if text.endswith("000") else text


def _quoted(text: str) -> str:
    quote = "'" if '"' in text and "'" not in text else '"'
    escapes = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", quote: "\\" + quote}
    return quote + "".join(escapes.get(letter, letter) for letter in text) + quote
