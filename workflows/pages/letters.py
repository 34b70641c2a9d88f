"""How wide text is, and text cut to its room, without the fonts of any machine: the same words, the same picture."""

import functools
import unicodedata

# Widths of letters in Helvetica, in thousandths of their size, and so in Arial and Liberation Sans, which are made to
# have the same. A letter with an accent is as wide as the letter alone.
_HELVETICA = {
    191: "'",
    222: "ijlłіјι‘’‚",
    260: "|¦",
    278: " !,./:;I[\\]ft·ŧІЇíìîïĩīĭıΙ",
    333: "()-`r“”„¡‑",
    334: "{}",
    355: '"',
    389: "*°тτ",
    445: "ґклзєэζεξ",
    469: "^",
    500: "Jcksvxyzĸсхѕγκλνς",
    520: "чьвГгχ",
    556: "#$0123456789?LŁ_abdeghnopquðþđħŋ«»§£€–нпяаеорΓδηθουρ",
    584: "+<=>~×±йидцαβμ",
    611: "FTZßøĦЗΖΣΤσ",
    667: "&ABEKPSVXYÞБЬжАВЕРХКУΑΒΔΕΚΛΞΡΥΧφπ",
    722: "CDHNRUwÐĐСНИПЯЛЭДъмΗΝΠΩψ",
    778: "GOQØОюΘΟΦω",
    833: "MmМФшфщыњΜΨ",
    889: "%æЮљ",
    944: "WœЖШЩЫЊЉ",
    1015: "@ÆŒ—…",
}
_WIDTHS = {letter: width / 1000 for width, letters in _HELVETICA.items() for letter in letters}


def width(text: str, size: float) -> float:
    """Estimate the pixels that `text` takes in letters of `size` pixels: too many sooner than too few."""
    return size * sum(map(_letter, text))


@functools.cache
def _letter(letter: str) -> float:
    """Return a letter's width as a part of its size."""
    if (known := _WIDTHS.get(letter)) is not None:
        return known
    kind = unicodedata.category(letter)
    if kind in ("Mn", "Me", "Cf"):  # drawn above, below or within others, or not at all
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.3 if kind == "So" else 1.0  # emoji, and the squares that Han and Kana stand in
    base = unicodedata.normalize("NFD", letter)[0]
    if base != letter:
        return _letter(base)
    return {"Lu": 0.75, "Ll": 0.6}.get(kind, 0.7 if kind[0] in "LMN" else 1.0)


def fit(text: str, room: float, size: float) -> str:
    """Cut `text` to `room` pixels, an ellipsis at its end, and shut it off from its neighbours' writing direction."""
    if width(text, size) > room:
        pieces = _pieces(text)
        room -= width("…", size)
        while pieces and width("".join(pieces), size) > room:
            pieces.pop()
        text = "".join(pieces) + "…"
    return f"\u2068{text}\u2069"


def fit_pair(pair: tuple[str, str], room: float, size: float) -> str:
    """Write `one + other` in `room` pixels: the longer word is cut first, and neither below half of the room."""
    room -= width(" + ", size)
    one, other = (width(word, size) for word in pair)
    if one + other > room:
        one, other = max(room - other, min(one, room / 2)), max(room - one, min(other, room / 2))
    return f"{fit(pair[0], one + 0.1, size)} + {fit(pair[1], other + 0.1, size)}"


def _pieces(text: str) -> list[str]:
    """Return what people see as single characters: a letter with its accents, an emoji of several parts."""
    if text.isascii():
        return list(text)
    import regex  # here, because loading it takes a while, and most long words are plain ASCII

    found: list[str] = regex.findall(r"\X", text)
    return found
