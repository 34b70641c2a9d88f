"""Text from elsewhere, made safe for people."""

import json
import time
import unicodedata

import pytest

from millrace.common.text import escaped, one_line, plain

# By Unicode's charts: C0, DEL, C1, bidi controls, what has no width, lone surrogates, noncharacters, private use.
DECEIVE = [
    *map(chr, [*range(0x20), *range(0x7F, 0xA0)]),
    *map(chr, [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    *"\u00ad\u034f\u115f\u1160\u17b4\u180e\u200b\u2028\u2029\u2060\u2064\u2800\u3164\ufeff\uffa0\ufff9\ufffb",
    *"\ud800\udfff\ufffe\uffff\U0001fffe\u0378\ue000\U000e0001\U000e0041\U000e0100\U0010ffff",
]


@pytest.mark.parametrize("sign", DECEIVE, ids=lambda sign: f"U+{ord(sign):04X}")
def test_what_acts_or_deceives_is_replaced(sign: str) -> None:
    """No control, bidi, invisible, surrogate or unassigned character is left, wherever it stands."""
    assert plain(f"{sign}a{sign}é{sign}") == "\ufffda\ufffdé\ufffd"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "https://example.org/a?b=c#d",
            "Grüße, l’été",
            "東京 タワー",
            "שלום",
            "مرحبا",
            "हिन्दी",
            "a\u00a0b\u3000c",
        ),
        *(
            "می\u200cخواهم",
            "क्\u200dष",
            "👩\u200d👩\u200d👧",
            "❤\ufe0f\u200d🔥",
            "🏴\U000e0067\U000e0062\U000e007f",
            "e\u0301",
        ),
        "<b>&amp;</b> [bold]x[/]",  # markup is escaped where it would be markup
    ],
)
def test_writing_stays(text: str) -> None:
    """Every script's letters, marks, emoji and spaces stay as they are, joiners between letters included."""
    assert plain(text) == text


def test_joiners_stay_only_between_letters() -> None:
    """A joiner that joins nothing is hidden text, and is replaced."""
    assert plain("pay\u200dpal \u200cx é\u200d") == "pay\ufffdpal \ufffdx é\ufffd"
    assert plain("👩\u200d\u200d👧") == "👩\ufffd\ufffd👧"


def test_terminals_get_no_orders() -> None:
    """Colours, window titles and a line that looks like one of the log's own are shown, not obeyed."""
    assert plain("\x1b[31mred\x1b]0;title\x07") == "\ufffd[31mred\ufffd]0;title\ufffd"
    assert plain("a\r\nERROR: b\x9b2J") == "a\ufffd\ufffdERROR: b\ufffd2J"


def test_lines_and_tabs_stay_where_they_are_asked_for() -> None:
    """The caller says which control characters mean something; the others go all the same."""
    assert plain("a\tb\nc\rd", keep="\n\t") == "a\tb\nc\ufffdd"


@pytest.mark.parametrize(("longest", "shown"), [(None, "éabcd"), (5, "éabcd"), (4, "éab…"), (1, "…")])
def test_length_is_bounded(longest: int | None, shown: str) -> None:
    """What is longer than asked for ends in an ellipsis, and is no longer than asked for."""
    assert plain("éabcd", longest) == shown


def test_one_line_is_one_line() -> None:
    """White space of any kind becomes single spaces; the rest is as plain has it."""
    assert one_line("\n a \r\n\t b\u2028c\x1b[0m ") == "a b c\ufffd[0m"
    assert one_line("word " * 100, 9) == "word wor…"


def test_json_says_the_same_with_nothing_hidden_in_it() -> None:
    """Escapes stand for what would be replaced; the document's own lines stay, and what it says does."""
    said = {"a\u202e": ["\x1b\x9b", "\U000e0041", "é", "می\u200cخواهم"]}
    document = json.dumps(said, ensure_ascii=False, indent=2)
    assert json.loads(escaped(document)) == said
    assert plain(escaped(document), keep="\n") == escaped(document) != document
    assert "می\u200cخواهم" in escaped(document)


def test_every_character_is_fit_for_xml_and_for_utf8() -> None:
    """Of all characters of Unicode, what comes out can be written as UTF-8 and stand in XML 1.0 (an SVG)."""
    shown = plain("".join(map(chr, range(0x110000))))
    shown.encode()
    assert {unicodedata.category(sign) for sign in shown} <= {
        *("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Zs", "Cf"),
        *("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So"),
        "Cn",  # assigned since this Python was made
    }


def test_a_hostile_text_costs_no_more_than_its_length() -> None:
    """A quarter of a megabyte of what is replaced takes less than a second."""
    began = time.process_time()
    for sign in ("\u200d", "\x1b", "\U000e0061", "\U0001f3f4"):
        plain("é" + sign * (1 << 18))
    assert time.process_time() - began < 4
