"""What counts as a word and as the same URL, for both sets of rules."""

import itertools

import oracle
import oracle_words
import posts_cases as cases
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from running import SHARE

from pipelines.posts import rules
from pipelines.posts.tokens import tokenize

FALLBACKS = [("en",), ("de", "fr")]
LANGS = [None, "", "en", "de", "EN-us", "pt_BR", "in", "iw", "und", "xx", "ja", "hi", "ar", "el", "tr", "en-", "-", "é"]


def words(text: str, lang: str | None, fallback: tuple[str, ...] = ("en",), name: str = "standard") -> set[str]:
    """A text's words as the rules alone have them, chunk by chunk."""
    rule_set = rules.get(name, fallback)
    language = rule_set.language(lang)
    found = {rule_set.elided(language, word) for chunk in text.split() for word in rule_set.words(chunk)}
    return found - rule_set.stop_words(language) - {""}


def check(text: str, lang: str | None, fallback: tuple[str, ...] = ("en",)) -> None:
    """Rules and oracle agree, and so do the words that are found by the column."""
    for name, expected in [
        ("standard", oracle_words.standard_words(text, lang, fallback)),
        ("classic", oracle_words.classic_words(text)),
    ]:
        assert words(text, lang, fallback, name) == expected
        tokens = tokenize(
            pa.chunked_array([["other", text]]),
            pa.chunked_array([pa.array([None, lang], pa.string())]),
            rules.get(name, fallback),
        )
        found = [tokens.vocabulary[number].as_py() for number in tokens.word[tokens.post == 1].tolist()]
        assert set(found) == expected
        assert found == sorted(expected)


_characters = st.one_of(
    st.characters(min_codepoint=32, max_codepoint=126),
    st.characters(min_codepoint=0xC0, max_codepoint=0x24F),  # Latin
    st.characters(min_codepoint=0x300, max_codepoint=0x36F),  # combining marks
    st.characters(min_codepoint=0x370, max_codepoint=0x3FF),  # Greek
    st.characters(min_codepoint=0x400, max_codepoint=0x4FF),  # Cyrillic
    st.characters(min_codepoint=0x590, max_codepoint=0x6FF),  # Hebrew, Arabic
    st.characters(min_codepoint=0x900, max_codepoint=0x97F),  # Devanagari
    st.characters(min_codepoint=0xE00, max_codepoint=0xE7F),  # Thai
    st.characters(min_codepoint=0x1100, max_codepoint=0x11FF),  # Hangul, in parts
    st.characters(min_codepoint=0x3040, max_codepoint=0x30FF),  # kana
    st.characters(min_codepoint=0x4E00, max_codepoint=0x4EFF),  # Han
    st.characters(min_codepoint=0xFB00, max_codepoint=0xFB4F),  # ligatures
    st.sampled_from("'’‘ʼ´`_-.·\u00ad\u200b\u200c\u200d\ufe0f😀🇩🇪👩‍🚀#@&;:/İıſßẞΣςŉǰΐ"),
    st.characters(exclude_categories=["Cs"]),
)
_pieces = st.sampled_from(
    [
        "http://",
        "https://x.example/",
        "HTTPS://",
        "@",
        "@me",
        "#",
        "&amp;",
        "&lt;",
        "&#39;",
        "&#64;you",
        "&eacute;",
        "&quot",
        "&#x27;",
        "&nbsp;",
        "&#32;",
        "&amp;amp;",
        "'s",
        "’t",
        " ",
        "\u3000",
        "rt",
        "RT",
        "via",
        "amp",
        "the",
        "der",
        "don't",
        "1st",
    ]
)
texts = st.lists(_characters | _pieces | st.text(_characters, max_size=5), max_size=12).map("".join)


@settings(max_examples=1500 // SHARE, deadline=None)
@given(texts, st.sampled_from(LANGS), st.sampled_from(FALLBACKS))
@example("a&nbsp;b @c&nbsp;d", None, ("en",))
@example("x@y&#32;z http://a&#32;b", None, ("en",))
@example("Ͱ\u06000", None, ("en",))
def test_any_text_has_the_oracles_words(text: str, lang: str | None, fallback: tuple[str, ...]) -> None:
    check(text, lang, fallback)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Straße STRASSE", {"strasse"}),
        ("İstanbul", {"i̇stanbul"}),
        ("ΟΔΟΣ οδος", {"οδοσ"}),
        ("été e\u0301te\u0301 ÉTÉ", {"été"}),
        ("नमस्ते दुनिया", {"नमस्ते", "दुनिया"}),
        ("مَرحَبًا", {"مَرحَبًا"}),
        ("今日は 東京", {"今日は", "東京"}),
        ("한국어", {"한국어"}),
        ("\u1112\u1161\u11ab", {"한"}),
        ("😀 👩‍🚀 🇩🇪", set()),
        ("don't don’t DON'T", set()),
        ("rock'n'roll o’clock", {"rock'n'roll", "o'clock"}),
        ("'quoted' ’so’", {"quoted"}),
        ("#MayMac #may_mac ##x2", {"maymac", "may_mac", "x2"}),
        ("@someone mail@here @a_b.c x@http://À @yhttp://z.example", {"mail"}),
        ("@ann.bsky.social @cyd@masto.example, (@bo) .@dot @ann's @x-y.example", set()),
        ("dan@masto.example, ann.b+c@mail.example.org; boats", {"boats"}),
        ("http://a.example/words https://b.example HTTP://C.example/x", set()),
        ("see(http://a.example/words)or", set()),
        ("AT&amp;T &lt;b&gt;bold&lt;/b&gt; caf&eacute;", {"bold", "café"}),
        ("&#64;nobody", set()),
        ("2017 4th 1 2,000 ½ x² ⅷ", {"4th", "x²"}),
        ("a é 我 물 м m̄ ㅋ ㅋㅋ", {"我", "물", "ㅋㅋ"}),
        ("rt RT via amp", set()),
        ("work-of-the-art x.y. U.S.A. boats.", {"art", "x.y", "u.s.a", "boats"}),
        ("ﬁne ﬂow", {"fine", "flow"}),
        ("_boats_ __lantern__ v1.2 3,14km 10:30 a:b", {"boats", "lantern", "v1.2", "3,14km", "a:b"}),
        ("cut https://t.co… https:… http… htt… https:// (https://x.example/a)boats", {"cut", "boats"}),
        ("[lanterns](https://x.example/a_(b)) <https://x.example>boats", {"lanterns", "boats"}),
        ("сім'я сім’я сімʼя", {"сім'я"}),
        ('צה"ל צה״ל ג׳ורג׳ "שלום"', {'צה"ל', "ג'ורג'", "שלום"}),
        ("a&#" + "1" * 4301 + "; &#" + "0" * 5000 + "233;t", {"ét"}),
        ("co\u00adoperate שלום\u200f", {"cooperate", "שלום"}),
    ],
)
def test_standard_words(text: str, expected: set[str]) -> None:
    """Case and form of letters don't matter; mentions, URLs, numbers and stop words don't count."""
    assert words(text, "en") == expected
    check(text, "en")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Fight of the Century", {"fight", "century"}),
        ("don't 'tis it's I'm", {"don't", "'tis", "it's", "i'm"}),
        ("naïve Straße", {"na", "ve", "stra"}),
        ("' '' x", {"'", "''"}),
        ("https://t.co/AbC @You #Tag rt", {"abc", "tag"}),
        ("AT&amp;T", {"at"} - {"at"}),
        ("K \u212a ſ", set()),
    ],
)
def test_classic_words(text: str, expected: set[str]) -> None:
    """Runs of A to Z and apostrophes, in lower case, without the stop list and single letters."""
    assert words(text, None, name="classic") == expected
    check(text, None)


@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("fr", "l'eau L’Eau d'accord qu'il c'est j'ai n'y aujourd'hui lorsqu'on", {"eau", "accord"}),
        ("it", "l'acqua dell'Arno c'è un'altra po' sull’isola", {"acqua", "arno", "altra", "isola"}),
        ("ca", "l'hi l'aigua col·legi d'un", {"aigua", "col·legi"}),
        ("ga", "d'inis b'fhearr", {"inis", "fhearr"}),
        ("en", "don't don’t c'mon m'lady l'eau", {"m'lady", "l'eau"}),
        ("fa", "می‌شود نمی‌دانم", {"نمی‌دانم"}),
    ],
)
def test_elided_articles_go_and_stop_words_meet_what_is_left(lang: str, text: str, expected: set[str]) -> None:
    """In the languages that elide (Lucene's lists); stop words have the form of words, whatever the apostrophe."""
    assert words(text, lang) == expected
    assert words(text, None, (lang,)) == expected
    check(text, lang)


def test_the_stop_words_are_those_of_the_posts_language() -> None:
    """A code's region and case don't matter; old codes still work; an unknown language is the fallback."""
    assert words("der the und and", "de") == {"the", "and"}
    assert words("der the und and", "de-AT") == words("der the und and", "DE_at") == {"the", "and"}
    assert words("der the", "en") == {"der"}
    for unknown in (None, "", "und", "xx"):
        assert words("der the", unknown) == {"der"}
        assert words("der the", unknown, ("de",)) == {"the"}
        assert words("der the", unknown, ("de", "en")) == set()
    assert words("yang the", "in") == words("yang the", "id") == {"the"}


@pytest.mark.parametrize("pattern", [*cases.ARCHIVES, "twitter_api_v1/*.json"])
def test_real_texts_have_the_oracles_words_and_urls(pattern: str) -> None:
    standard, classic = rules.get("standard"), rules.get("classic")
    for path in cases.real(pattern):
        for record in itertools.islice(oracle.read_source(path), 0, None, SHARE):
            post = oracle.parse(record)
            if isinstance(post, str):
                continue
            assert words(post.text, post.lang) == oracle_words.standard_words(post.text, post.lang)
            assert words(post.text, post.lang, name="classic") == oracle_words.classic_words(post.text)
            for url in post.urls:
                assert standard.url(url) == oracle_words.standard_url(url)
                assert classic.url(url) == oracle_words.classic_url(url)


# ------------------------------------------------------------------------------------------------------------ URLs

_parts = st.sampled_from(
    [
        "http://",
        "https://",
        "HTTP://",
        "ftp://",
        "//",
        "a.example",
        "B.Example",
        "ü.example",
        "[::1]",
        "[::1",
        "[FE80::1%25Eth0]",
        "::1]",
        ":80",
        ":443",
        ":8080",
        ":",
        ":x",
        ":99999",
        ":0080",
        "user:Pass@",
        "@",
        "/Path",
        "/",
        "//",
        "/../",
        "?",
        "&",
        "&&",
        "utm_source=x",
        "UTM_Medium",
        "gclid=1",
        "fbclid",
        "q=Q",
        "a=b=c",
        "ref_src=twsrc",
        "_ga=1",
        "utm",
        "#Frag",
        "#",
        ";p",
        "%20",
        "%41",
        " ",
        "\t",
        "\n",
        "\x00",
        "\u3000",
        "…",
        "javascript:alert(1)",
        "mailto:a@b.example",
        "HTTPS:",
        "℀",
        "．",
    ]
)
urls = st.lists(_parts | st.text(max_size=3), max_size=8).map("".join) | st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from(["http://", "https://", "HtTp://", " https://"]),
    st.sampled_from(["", "me@", "Me:Pw@", "a@b@"]),
    st.sampled_from(["A.example", "[::1]", "[2001:DB8::1]", "1.2.3.4", "ß.example", ""]),
    st.sampled_from(["", ":80", ":443", ":", ":080", ":8080", ":65536", ":a", ":-1", ":٣"]),
    st.lists(_parts, max_size=5).map("".join),
)


@settings(max_examples=2000 // SHARE, deadline=None)
@given(urls)
def test_any_url_is_counted_under_the_oracles_form(url: str) -> None:
    assert rules.get("standard").url(url) == oracle_words.standard_url(url)
    assert rules.get("classic").url(url) == oracle_words.classic_url(url)


@settings(max_examples=1000 // SHARE, deadline=None)
@given(urls)
def test_a_urls_form_is_its_own_form(url: str) -> None:
    once = rules.get("standard").url(url)
    assert rules.get("standard").url(once) == once


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://WWW.Example.COM/Path?Q=A#top", "http://www.example.com/Path?Q=A"),
        ("http://a.example:80/", "http://a.example/"),
        ("https://a.example:443", "https://a.example/"),
        ("https://a.example:80", "https://a.example:80/"),
        ("http://a.example:/x", "http://a.example/x"),
        ("http://a.example:0080/x", "http://a.example/x"),
        ("http://Me:Secret@A.example:80/x", "http://Me:Secret@a.example/x"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("http://[2001:DB8::1]/X", "http://[2001:db8::1]/X"),
        ("http://[::1]:8080", "http://[::1]:8080/"),
        ("http://a.example/caf%c3%a9?q=%e2%82%ac", "http://a.example/caf%C3%A9?q=%E2%82%AC"),
        ("http://a.example/café?q=€", "http://a.example/caf%C3%A9?q=%E2%82%AC"),
        ("http://a.example/%7Eann%2Fb/%41", "http://a.example/~ann%2Fb/A"),
        ("http://a.example/./x/../y/.", "http://a.example/y/"),
        ("http://a.example/%2e%2e/x", "http://a.example/x"),
        ("http://a.example?q=1", "http://a.example/?q=1"),
        ("http://Bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://b%C3%BCcher.example", "http://xn--bcher-kva.example/"),
        ("http://a.example/100%/%zz", "http://a.example/100%25/%25zz"),
        ("http://a.example/a b", "http://a.example/a%20b"),
        ("http://a.example/?utm%5Fsource=x", "http://a.example/"),
        ("http://a.example/?utm_source=x&b=1&utm_medium=y", "http://a.example/?b=1"),
        ("http://a.example/?UTM_Source=x", "http://a.example/"),
        ("http://a.example/?fbclid=1&gclid=2&ref_src=3&q=", "http://a.example/?q="),
        ("http://a.example/?b=2&a=1", "http://a.example/?b=2&a=1"),
        ("http://a.example/?utm", "http://a.example/?utm"),
        ("http://a.example:99999/#x", "http://a.example:99999/#x"),
        ("http://a.example:port/#x", "http://a.example:port/#x"),
        ("http://[::1/#x", "http://[::1/#x"),
        (" http://a.example/ ", "http://a.example/"),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("ftp://A.example/#x", "ftp://A.example/#x"),
        ("A.example/x#y", "A.example/x#y"),
        ("", ""),
    ],
)
def test_standard_urls(url: str, expected: str) -> None:
    """Case of scheme and host, fragments, default ports and tracking don't matter; what is no URL stays."""
    assert rules.get("standard").url(url) == expected


def test_classic_urls_are_lower_case() -> None:
    assert rules.get("classic").url("HTTP://A.example/PATH#Top") == "http://a.example/path#top"


def test_other_rules_are_unknown() -> None:
    with pytest.raises(KeyError):
        rules.get("modern")
