"""A window's tables are those of the independent oracle, row by row."""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oracle
import posts_cases as cases
import posts_stages as stages
import pyarrow.parquet as pq
import pytest
import running
from posts_cases import DAY, status
from posts_stages import Chain

from millrace.common import results
from millrace.errors import DamagedError, SettingsDifferError
from pipelines.posts import aggregate

DAYS = 7
RULES = ("classic", "standard")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def archives(folder: Path) -> dict[str, list[str]]:
    """The raw files of each day of the three archives."""
    days: dict[str, list[str]] = {}
    for number, name in enumerate(cases.ARCHIVES):
        (path,) = cases.real(name)
        for day, paths in stages.split(folder, str(path), f"archive-{number}").items():
            days.setdefault(day, []).extend(paths)
    return days


@pytest.fixture(scope="module")
def posts(folder: Path, archives: dict[str, list[str]]) -> list[results.Written]:
    return Chain().posts(folder, archives, list(stages.window(DAY, DAYS)))


def records_of_archives() -> Iterator[bytes]:
    for name in cases.ARCHIVES:
        (path,) = cases.real(name)
        yield from oracle.read_source(path)


@pytest.fixture(scope="module", params=["classic", pytest.param("standard", marks=running.long)])
def rules(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(rules: str) -> oracle.Tables:
    return oracle.chain(records_of_archives(), DAY, DAYS, rules)


@pytest.fixture(scope="module")
def found(folder: Path, posts: list[results.Written], rules: str) -> results.Written:
    return Chain().tables(folder / rules, posts, DAY, DAYS, rules)


@pytest.mark.parametrize("name", stages.TABLES)
def test_the_real_archives_give_the_oracles_tables(name: str, found: results.Written, expected: oracle.Tables) -> None:
    """Each row in its place; floats to 1e-12. The window before has posts too, so that pairs can emerge."""
    rows = stages.tables(found)[name]
    assert len(rows) == len(expected[name]) > 0  # type: ignore[literal-required]
    assert rows == cases.near(expected[name])  # type: ignore[literal-required]


@running.long
def test_a_crowd_spread_over_two_windows_gives_the_oracles_tables(tmp_path: Path) -> None:
    """12,118 real posts of 70 minutes, as if each 12 minutes had been a day: every emerging pair has a past."""
    (path,) = cases.real("mayweather_2017.jsonl")
    first = DAY - datetime.timedelta(days=5)
    data = []
    for line in oracle.read_source(path):
        fields = json.loads(line)
        moment = datetime.datetime.fromisoformat(fields["created_at"])
        part = (moment.hour - 4) * 60 + moment.minute
        data.append(
            json.dumps(fields | {"created_at": f"{moment + (part // 12 - 5) * datetime.timedelta(days=1)}"}).encode()
        )
    (tmp_path / "archive").write_bytes(b"\n".join(data))
    raw = stages.split(tmp_path, str(tmp_path / "archive"), "raw")
    assert list(raw) == [str(first + datetime.timedelta(days=n)) for n in range(7)]
    chain = Chain(shards=4)
    posts = chain.posts(tmp_path, raw, list(stages.window(DAY, 3)))
    found = chain.tables(tmp_path, posts, DAY, 3, "standard")
    stages.assert_tables(found, oracle.chain(data, DAY, 3, "standard"))
    emerging = stages.rows(found, "emerging_pairs")
    assert len(emerging) == 100
    assert sum(row["previous_count"] > 0 for row in emerging) > 20


@pytest.mark.parametrize(
    "how",
    [Chain(shards=1), pytest.param(Chain(pack=1, block=500), marks=running.long)],
    ids=["one shard", "many blocks"],
)
def test_shards_and_blocks_do_not_show(
    how: Chain, folder: Path, posts: list[results.Written], archives: dict[str, list[str]], tmp_path: Path
) -> None:
    """Neither the number of shards nor the cut into blocks changes a row or its place."""
    whole = Chain().tables(folder / "whole", posts, DAY, DAYS, "standard")
    if how.block:
        posts = how.posts(tmp_path, archives, list(stages.window(DAY, DAYS)))
    parts = how.tables(tmp_path, posts, DAY, DAYS, "standard")
    assert stages.tables(parts) == stages.tables(whole)


@pytest.mark.parametrize("rules_", RULES)
@pytest.mark.parametrize(("date", "days"), [(datetime.date(2006, 3, 30), 5), (datetime.date(2016, 1, 29), 7)])
def test_api_responses_give_the_oracles_tables(date: datetime.date, days: int, rules_: str, tmp_path: Path) -> None:
    """Responses of Twitter's API, in the windows of days in which most of their posts are."""
    paths = cases.real("twitter_api_v1/*.json")
    records = [record for path in paths for record in oracle.read_source(path)]
    raw = stages.split(tmp_path, str(cases.DATA / "twitter_api_v1" / "*.json"), "responses")
    chain = Chain()
    posts = chain.posts(tmp_path, raw, list(stages.window(date, days)))
    expected = oracle.chain(records, date, days, rules_)
    assert sum(count for _, count in expected["posts_by_hour"]) > 60
    stages.assert_tables(chain.tables(tmp_path, posts, date, days, rules_), expected)


def lines(date: datetime.date, *texts: str, number: int) -> list[bytes]:
    return [
        status(tid=f"{date}-{number}-{n}", created_at=f"{date}T{n % 24:02}:30:00Z", text=text)
        for n, text in enumerate(texts)
    ]


def test_pairs_emerge_against_a_window_that_is_full(tmp_path: Path) -> None:
    """Old pairs that go on, rise, fade and vanish, new ones, and one that is too rare; over two windows of 2 days."""
    texts = {
        0: ["steady pair"] * 10 + ["fading pair"] * 9 + ["vanished thing"] * 8,
        1: ["steady pair"] * 10 + ["rising moon"] * 2 + ["other words here"],
        2: ["steady pair"] * 9 + ["rising moon"] * 7 + ["fresh idea"] * 3 + ["rare bird"] * 4 + ["fading pair"],
        3: ["steady pair"] * 11 + ["rising moon"] * 8 + ["fresh idea"] * 3 + ["fading pair"] * 4,
    }
    first = DAY - datetime.timedelta(days=3)
    of_day = {n: lines(first + datetime.timedelta(days=n), *words, number=n) for n, words in texts.items()}
    (tmp_path / "archive").write_bytes(b"\n".join(line for day in of_day.values() for line in day))
    raw = stages.split(tmp_path, str(tmp_path / "archive"), "raw")
    chain = Chain(shards=4, block=7)
    posts = chain.posts(tmp_path, raw, list(stages.window(DAY, 2)))
    found = chain.tables(tmp_path, posts, DAY, 2, "standard")
    stages.assert_tables(found, oracle.chain([line for day in of_day.values() for line in day], DAY, 2, "standard"))
    emerging = [(row["w1"], row["w2"]) for row in stages.rows(found, "emerging_pairs")]
    assert emerging == [("moon", "rising"), ("fresh", "idea"), ("pair", "steady"), ("fading", "pair")]


def test_ties_are_broken_by_key_and_tops_are_cut(tmp_path: Path) -> None:
    """700 words, 400 URLs and 400 pairs, all as frequent: the first by key, by code point, are there."""
    texts = [f"w{n:03} v{n:03} http://x.example/{n:03}" for n in range(395)] + ["ß ñandú"] * 1
    data = lines(DAY, *texts, *[f"z{n:03} http://y.example" for n in range(5)], number=0)
    (tmp_path / "archive").write_bytes(b"\n".join(data))
    raw = stages.split(tmp_path, str(tmp_path / "archive"), "raw")
    chain = Chain()
    found = chain.tables(tmp_path, chain.posts(tmp_path, raw, [DAY]), DAY, 1, "standard")
    stages.assert_tables(found, oracle.chain(data, DAY, 1, "standard"))
    rows = stages.tables(found)
    assert [len(rows[name]) for name in ("word_counts", "urls", "word_cooccur")] == [500, 300, 300]


def check_types(written: results.Written) -> None:
    end = datetime.datetime.combine(DAY + datetime.timedelta(days=1), datetime.time(), datetime.UTC)
    for name in stages.TABLES:
        (path,) = stages.paths(written, name)
        assert pq.read_schema(path).equals(aggregate.TABLES[name])
        assert written.schemas[name] == {field.name: str(field.type) for field in aggregate.TABLES[name]}
        for row in stages.rows(written, name):
            assert (row["ts"], row["date"]) == (end, DAY)


def test_every_table_has_its_columns_and_the_windows_end(found: results.Written) -> None:
    check_types(found)


#: Columns of the tables that DESIGN.md fixes.
FIXED: dict[str, list[tuple[str, Any]]] = {
    "word_counts": [("word", "string"), ("percent", "double"), ("ts", "timestamp[us, tz=UTC]")],
    "urls": [("url", "string"), ("count", "int64"), ("ts", "timestamp[us, tz=UTC]")],
    "word_cooccur": [
        ("w1", "string"),
        ("w2", "string"),
        ("count", "int64"),
        ("log_weight", "double"),
        ("ts", "timestamp[us, tz=UTC]"),
    ],
    "emerging_pairs": [
        ("w1", "string"),
        ("w2", "string"),
        ("count", "int64"),
        ("previous_count", "int64"),
        ("z", "double"),
        ("ts", "timestamp[us, tz=UTC]"),
    ],
}


@pytest.mark.parametrize("name", FIXED)
def test_names_and_types_of_columns_are_fixed(name: str) -> None:
    assert [(f.name, str(f.type)) for f in aggregate.TABLES[name]] == [*FIXED[name], ("date", "date32[day]")]


def test_nothing_counted_gives_empty_tables_with_their_schemas(tmp_path: Path) -> None:
    written = stages.aggregate(tmp_path, [], DAY, DAYS)
    assert not any(file.rows for file in written.files)
    check_types(written)


@pytest.mark.parametrize("rules_", RULES)
def test_days_without_posts_or_words_give_empty_tables(rules_: str, tmp_path: Path) -> None:
    """A day whose file holds no post of it; then one whose only post has no word."""
    for number, (line, posts_) in enumerate([(status(created_at="2017-08-28"), 0), (status(text="🎉 1 2"), 1)]):
        folder = tmp_path / str(number)
        posts = stages.etl(folder, stages.raw(folder, line), DAY)
        written = stages.aggregate(folder, [stages.count(folder, posts, DAY, rules_)], DAY, 1)
        found = stages.tables(written)
        assert sum(count for _, count in found.pop("posts_by_hour")) == posts_
        assert not any(found.values())
        check_types(written)


@running.long
def test_days_of_different_shards_add_up(tmp_path: Path) -> None:
    """Whichever day has more of them; and so do the windows of such days that are ranked together."""
    data = {}
    for back in range(6):
        day = DAY - datetime.timedelta(days=back)
        texts = [
            f"common rising w{(n * 7 + back) % 40} v{(n * 3 + back) % 23} http://x.example/{n % 9}" for n in range(60)
        ]
        data[day] = lines(day, *texts, number=back)
    (tmp_path / "archive").write_bytes(b"\n".join(line for of_day in data.values() for line in of_day))
    raw = stages.split(tmp_path, str(tmp_path / "archive"), "raw")
    chain = Chain(pack=1, block=13)
    posts = chain.posts(tmp_path, raw, [datetime.date.fromisoformat(day) for day in raw])
    for number, of_days in enumerate([(1, 2, 4, 8, 16, 32), (32, 16, 8, 4, 2, 1), (1, 64, 1, 4, 256, 2)]):
        folder = tmp_path / str(number)
        counts = [
            stages.count(folder, day, datetime.date.fromisoformat(name), "standard", shards)
            for day, name, shards in zip(posts, raw, of_days, strict=True)
        ]
        expected = oracle.chain([line for of_day in data.values() for line in of_day], DAY, 3, "standard")
        stages.assert_tables(stages.aggregate(folder, counts, DAY, 3), expected)


def test_days_of_a_number_of_shards_that_is_no_power_of_two_are_refused(tmp_path: Path) -> None:
    """As an older version counted them: their shards hold other keys, so that sums over them would be wrong."""
    posts = stages.etl(tmp_path, stages.raw(tmp_path, status(text="apple berry")), DAY)
    counts = stages.count(tmp_path, posts, DAY, "standard", 2)
    (path, _) = stages.paths(counts, "pairs")
    old = path.replace("of-00002", "of-00003")
    Path(path).rename(old)
    with pytest.raises(SettingsDifferError, match="is one of 3 shards"):
        stages.run("aggregate", tmp_path, "word_counts", input=old, date=DAY, days=1)


def test_counts_with_other_columns_are_refused(tmp_path: Path) -> None:
    """As an older version wrote them."""
    posts = stages.etl(tmp_path, stages.raw(tmp_path, status(text="apple berry")), DAY)
    counts = stages.count(tmp_path, posts, DAY, "standard", 1)
    (path,) = stages.paths(counts, "pairs")
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["word"]), path)
    with pytest.raises(DamagedError, match=f"^{path} was counted by an older version"):
        stages.aggregate(tmp_path, [counts], DAY, 1)


def test_days_outside_both_windows_are_left_out(tmp_path: Path) -> None:
    """A pattern may name more days than the windows have."""
    data = [
        line for back in range(-1, 6) for line in lines(DAY - datetime.timedelta(days=back), *["one two"] * 6, number=0)
    ]
    (tmp_path / "archive").write_bytes(b"\n".join(data))
    raw = stages.split(tmp_path, str(tmp_path / "archive"), "raw")
    chain = Chain(shards=2)
    posts = chain.posts(tmp_path, raw, [datetime.date.fromisoformat(day) for day in raw])
    stages.assert_tables(chain.tables(tmp_path, posts, DAY, 2, "standard"), oracle.chain(data, DAY, 2, "standard"))
