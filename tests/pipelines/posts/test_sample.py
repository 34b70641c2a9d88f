"""The built-in sample: any date gives a day of posts, always the same, with what real posts have in them."""

import collections
import datetime
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from pipelines.posts import parse, sample

DAY = datetime.timedelta(days=1)
DATE = datetime.date(2026, 11, 19)
DATES = [
    datetime.date(1970, 1, 1),
    datetime.date(1973, 3, 3),
    datetime.date(2000, 2, 29),
    datetime.date(2024, 2, 29),
    datetime.date(2100, 12, 31),
    *(datetime.date(2026, 1, 1) + 23 * n * DAY for n in range(16)),
]
#: A peak of the solar eclipse.
PEAK = datetime.date(2026, 8, 12)


def posts_and_rejects(date: datetime.date) -> tuple[list[parse.Post], collections.Counter[str]]:
    """What can be used of a date's lines, in order; and how many can't be, by reason."""
    posts = []
    reasons: collections.Counter[str] = collections.Counter()
    for line in sample.lines(date):
        try:
            posts.append(parse.parse(line))
        except parse.Rejected as rejected:
            reasons[str(rejected)] += 1
    return posts, reasons


def day_of(post: parse.Post) -> datetime.date:
    return datetime.date(1970, 1, 1) + post.created_at // parse.DAY * DAY


def test_a_date_always_gives_the_same_bytes() -> None:
    assert list(sample.lines(DATE)) == list(sample.lines(DATE))


def test_the_bytes_are_those_of_every_platform_and_version() -> None:
    """Whoever changes the sample's tables on purpose changes this digest too."""
    digest = hashlib.sha256(b"\n".join(sample.lines(DATE))).hexdigest()
    assert digest == "4da00209d49125db409772f607603d13226bf7251590c5841f07f9a972021d71"


def test_dates_differ() -> None:
    """Neighbouring days share neither texts (but for chance) nor ids."""
    one, other = posts_and_rejects(DATE)[0], posts_and_rejects(DATE + DAY)[0]
    assert not {post.id for post in one} & {post.id for post in other}
    assert len({post.text for post in one} & {post.text for post in other}) < 0.15 * len(one)


@pytest.mark.parametrize("date", DATES, ids=str)
def test_any_date_has_about_1500_posts_a_few_of_other_days_and_1_to_4_percent_malformed(date: datetime.date) -> None:
    lines = list(sample.lines(date))
    posts, reasons = posts_and_rejects(date)
    days = collections.Counter(day_of(post) for post in posts)
    assert 1300 <= len(lines) <= 1750
    assert not any(b"\n" in line or b"\r" in line or not line.strip() for line in lines)
    assert 0.01 <= reasons.total() / len(lines) <= 0.04
    assert set(days) == {date - DAY, date, date + DAY}
    assert days[date] >= len(posts) - 10


@pytest.mark.parametrize("date", [datetime.date.min, datetime.date.max], ids=str)
def test_the_calendars_ends_are_dates_too(date: datetime.date) -> None:
    assert len(list(sample.lines(date))) > 1200


def test_every_kind_of_malformed_line_is_there() -> None:
    reasons = sum((posts_and_rejects(date)[1] for date in DATES[:3]), collections.Counter[str]())
    assert set(reasons) == {parse.BAD_JSON, parse.BAD_UTF8, parse.NO_ID, parse.BAD_CREATED_AT, parse.NO_TEXT}


def test_about_1_percent_of_posts_come_twice_some_of_them_edited() -> None:
    posts, _ = posts_and_rejects(DATE)
    by_id = collections.defaultdict(list)
    for post in posts:
        by_id[post.id].append(post)
    again = [same for same in by_id.values() if len(same) > 1]
    assert 0.005 <= len(again) / len(posts) <= 0.02
    assert all(len(same) == 2 and same[0].created_at // 10**6 == same[1].created_at // 10**6 for same in again)
    assert any(first.text != second.text for first, second in again)


def test_posts_come_in_about_the_order_of_their_times_with_a_night_and_a_day() -> None:
    posts = [post for post in posts_and_rejects(DATE)[0] if day_of(post) == DATE]
    steps = [b.created_at - a.created_at for a, b in itertools.pairwise(posts)]
    assert 0 < sum(step < 0 for step in steps) < 0.3 * len(steps)
    hours = collections.Counter(post.created_at % parse.DAY // 3_600_000_000 for post in posts)
    assert len(hours) == 24
    assert hours[20] > 4 * hours[3]


def test_several_languages_most_of_all_english() -> None:
    langs = collections.Counter(post.lang for post in posts_and_rejects(DATE)[0])
    assert set(langs) == {"en", "es", "de", "fr", "pt", "tr", "ja"}
    assert 0.5 < langs["en"] / langs.total() < 0.75


def test_records_have_mixed_shapes() -> None:
    records = []
    for line in sample.lines(DATE):
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    times = [record.get("created_at") for record in records]
    assert any(isinstance(time, int) and time < 10**10 for time in times)
    assert any(isinstance(time, int) and time > 10**12 for time in times)
    assert any(isinstance(time, str) and time.endswith("+02:00") for time in times)
    assert any(isinstance(time, str) and time.startswith("Thu Nov 19 ") for time in times)
    assert any("expanded_url" in url for record in records for url in record.get("entities", {}).get("urls", []))
    assert any("urls" not in record and "https://" in record.get("text", "") for record in records)


def test_urls_lead_only_to_reserved_hosts_and_few_of_them_are_very_popular() -> None:
    urls = [urlsplit(url) for post in posts_and_rejects(DATE)[0] for url in post.urls]
    for url in urls:
        assert re.search(r"(^|\.)(example|example\.(com|org|net))$", url.hostname or "")
    assert any(url.fragment for url in urls)
    assert any("utm_source" in url.query for url in urls)
    assert any(url.netloc.isupper() for url in urls)
    popular = collections.Counter((url.hostname, url.path) for url in urls).most_common()
    assert len(popular) > 100
    assert popular[0][1] > 10 * popular[len(popular) // 2][1]


def test_texts_have_markup_hashtags_mentions_emoji_and_reposts() -> None:
    texts = [post.text for date in (DATE, DATE + DAY) for post in posts_and_rejects(date)[0]]
    for what in (r"<b>|&amp;|</td>", r"#\w", r"(?:^| )@\w", r"[\U0001F300-\U0001FAFF]", r"^RT @\w+: "):
        assert any(re.search(what, text) for text in texts), what


def test_words_are_many_and_few_of_them_are_frequent() -> None:
    words = collections.Counter(
        word for post in posts_and_rejects(DATE)[0] for word in set(re.findall(r"\w{3,}", post.text.casefold()))
    )
    counts = [count for _, count in words.most_common()]
    assert 700 < len(counts) < 5000
    assert counts[9] > 10 * counts[len(counts) // 2]


def windows(days: list[int]) -> Iterator[int]:
    """The sums of every seven days in a row."""
    return (sum(days[start : start + 7]) for start in range(len(days) - 6))


def test_a_pair_emerges_and_fades() -> None:
    """Posts with both words, by windows of 7 days: next to none, then many times as many, then next to none again."""
    days = []
    for distance in range(-20, 21):
        texts = [post.text.casefold() for post in posts_and_rejects(PEAK + distance * DAY)[0]]
        days.append(sum("solar" in text and "eclipse" in text for text in texts))
    counts = list(windows(days))
    before, at_peak, after = counts[0], max(counts), counts[-1]
    assert at_peak > 200
    assert before < at_peak / 10
    assert after < at_peak / 10
    assert abs(counts.index(at_peak) + 3 - 20) <= 2


def test_every_week_has_other_stories() -> None:
    """Of the ten most frequent hashtags some change from one week to the next."""
    tops = []
    for week in range(4):
        tags: collections.Counter[str] = collections.Counter()
        for day in range(0, 7, 3):
            for post in posts_and_rejects(DATE + (7 * week + day) * DAY)[0]:
                tags.update(re.findall(r"#\w+", post.text))
        tops.append({tag for tag, _ in tags.most_common(10)})
    assert all(len(one - other) >= 2 for one, other in itertools.pairwise(tops))
