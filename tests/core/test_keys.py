"""What partitions and tables are called by their keys, and what can be read back from their names."""

import datetime

import pytest

from millrace.common import folders
from millrace.core import keys, warehouse
from millrace.core.keys import NONE, Key, Said

DAY = datetime.date(2026, 11, 1)


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        (keys.day(DAY), "hits/date=2026-11-01"),
        (keys.hour(datetime.datetime(2026, 11, 1, 5)), "hits/date=2026-11-01/hour=05"),
        (keys.window(DAY, 7, 7), "hits/date=2026-11-01"),
        (keys.window(DAY, 30, 7), "hits_30d/date=2026-11-01"),
        (keys.window(DAY, 3, 7), "hits_3d/date=2026-11-01"),
        (keys.window(DAY, int("400"), int("400")), "hits/date=2026-11-01"),
        (keys.name("source=a/version=b"), "hits/source=a/version=b"),
        (NONE, "hits"),
    ],
)
def test_a_partition_is_called_by_its_key(key: Key, partition: str) -> None:
    """Each kind of key has a folder of its own, from which the day and the hour can be read back."""
    assert key.partition("hits") == partition
    for path in (partition, f"Task_{partition.replace('/', '.')}", f"/data/date=2020-01-01/{partition}/x/y.parquet"):
        if key.date:
            assert (folders.date_of(path), folders.hour_of(path)) == (key.date, key.hour)
    assert keys.suffix_of(partition.split("/")[0], ["hits", "other"]) == key.suffix


@pytest.mark.parametrize(
    ("said", "key"),
    [
        (keys.window(DAY, 30, 7), keys.window(DAY, 30, 7)),
        (datetime.datetime(2026, 11, 1, 5), keys.hour(datetime.datetime(2026, 11, 1, 5))),
        (DAY, keys.day(DAY)),
        ("date=2026-11-01/hour=05", keys.hour(datetime.datetime(2026, 11, 1, 5))),
        ("/source=a/", keys.name("source=a")),
        ("", NONE),
        (None, NONE),
    ],
)
def test_a_key_is_said_by_what_it_is_of(said: Said, key: Key) -> None:
    """A day, the start of an hour and a name say their keys, and what says the same partition is one key."""
    assert keys.of(said) == key
    assert (keys.of(said).date, keys.of(said).hour) == (key.date, key.hour)
    assert len({keys.of(said), key, Key(key.suffix, key.folder)}) == 1


def test_a_key_is_told_without_its_dataset() -> None:
    """Its folder, and the length of a window that is not the usual one."""
    assert [str(keys.day(DAY)), str(keys.window(DAY, 30, 7)), str(NONE)] == [
        "date=2026-11-01",
        "date=2026-11-01 30d",
        "",
    ]


def test_what_has_no_day_is_said_to_have_none() -> None:
    """Neither the folder of another key nor the name of a file is taken for a day."""
    for path in ("hits", "hits/update=2026-11-01", "hits/date=today", "hits/source=a.jsonl-12ab34cd"):
        assert folders.date_of(path) is None
    assert folders.date_of_file("hits/date=2026-11-01/a/x.date=2020-01-01.parquet") == DAY
    assert keys.suffix_of("hits_30", ["hits"]) is None
    assert keys.suffix_of("hits_0d", ["hits"]) is None
    assert keys.suffix_of("other_30d", ["hits"]) is None
    assert keys.suffix_of("hits_30d", ["hits", "hits_30d"]) == ""


def test_keys_are_in_order_of_time() -> None:
    """Two hosts that claim the partitions of a batch in the order of their keys claim them in the same order."""
    hours = [keys.hour(datetime.datetime(2026, 11, day, hour)) for day in (2, 10) for hour in (3, 11)]
    assert sorted([hours[3], hours[1], hours[2], hours[0]]) == hours


def test_a_query_reads_the_tables_of_a_key() -> None:
    """Tables are read by another name wherever they stand, and nothing else of the text changes: no column, no CTE."""
    sql = "WITH words AS (SELECT url FROM urls) SELECT urls.url, w.word FROM words, urls, `word_counts` AS w -- urls"
    assert warehouse.renamed(sql, {"urls": "urls_30d", "word_counts": "word_counts_30d", "words": "x"}) == (
        "WITH words AS (SELECT url FROM `urls_30d` AS `urls`) SELECT urls.url, w.word "
        "FROM words, `urls_30d` AS `urls`, `word_counts_30d` AS w -- urls"
    )


def test_times_without_a_gap_are_one_span() -> None:
    """Days, and hours, that follow each other are one span, in whatever order they come, and each but once."""
    day = [DAY + datetime.timedelta(days=n) for n in range(9)]
    assert keys.spans([day[4], day[1], day[0], day[1]]) == [(day[0], day[1]), (day[4], day[4])]
    assert keys.spans([*day[7:], *day[:2], *day[3:6]]) == [(day[0], day[1]), (day[3], day[5]), (day[7], day[8])]
    hour = [datetime.datetime(2026, 10, 31, 22) + datetime.timedelta(hours=n) for n in range(5)]
    assert keys.spans([*hour[:3], hour[4]]) == [(hour[0], hour[2]), (hour[4], hour[4])]
    assert keys.spans([]) == []
