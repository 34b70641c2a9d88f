"""A day's counts are sums over its posts: however these are cut into blocks, days and shards, they add up."""

import datetime
import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import posts_cases as cases
import posts_stages as stages
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import running
from hypothesis import given, settings
from hypothesis import strategies as st
from posts_cases import DAY

from millrace.beam.batch import Block
from millrace.common.checksums import Input
from millrace.common.partitions import Partition
from millrace.errors import SourceError
from pipelines.posts import count, etl, pairs, rules
from pipelines.posts.tokens import tokenize

Counts = dict[str, Counter[Any]]

_words = st.sampled_from(
    [
        "one",
        "Two",
        "three",
        "THE",
        "#four",
        "@you",
        "don't",
        "Straße",
        "été",
        "e\u0301te\u0301",
        "नमस्ते",
        "今日",
        "&amp;",
        "a&lt;b",
        "http://x.example/a,b",
        "\u00a0",
        "\u2028",
        "\x1c",
        "😀",
    ]
)
_urls = st.sampled_from(
    ["http://x.example", "HTTP://X.example/#top", "http://x.example/?utm_source=a", "ß", "", "\x00"]
)
_posts = st.builds(
    lambda text, urls, lang, hour: oracle.Post(
        "", datetime.datetime(2017, 8, 27, hour, 59, 59, 999_999, datetime.UTC), None, text, urls, lang
    ),
    st.lists(_words, max_size=6).map(" ".join) | st.text(max_size=20),
    st.lists(_urls, max_size=3),
    st.sampled_from([None, "en", "de", "hi", "xx", "in"]),
    st.integers(0, 23),
)


def partial(posts: list[oracle.Post], rules: str, shards: int) -> dict[str, pa.Table]:
    """What a block of posts counts to, by table and shard."""
    rows = [vars(post) | {"id": str(number), "source": "s"} for number, post in enumerate(posts)]
    block = Block(0, Input(""), 0, pa.Table.from_pylist(rows, etl.POSTS))
    options = {"rules": rules, "languages": "en", "shards": shards}
    return dict(count.count_block(Partition("", "", options=options), block))  # type: ignore[arg-type]


def merged(parts: list[dict[str, pa.Table]]) -> Counts:
    """The sums of several partial counts; fails where a key stands twice."""
    sums: Counts = {name: Counter() for name in count.SCHEMAS}
    for key in parts[0]:
        name = key.split("/")[0]
        table = count.add([part[key] for part in parts])
        assert table.schema.equals(count.SCHEMAS[name])
        for *words, number in stages.counts(table):
            what = words[0] if len(words) == 1 else tuple(words)
            assert what not in sums[name]
            sums[name][what] = number
    return sums


def by_oracle(posts: list[oracle.Post], rules: str) -> Counts:
    rule_set = oracle.RULES[rules]
    words = [rule_set.words(post) for post in posts]
    return {
        "hours": Counter(post.created_at.replace(minute=0, second=0, microsecond=0) for post in posts),
        "words": Counter(word for of_post in words for word in of_post),
        "urls": Counter(rule_set.url(url) for post in posts for url in post.urls),
        "pairs": Counter(pair for of_post in words for pair in combinations(sorted(of_post), 2)),
    }


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(_posts, max_size=6), min_size=1, max_size=4),
    st.sampled_from([1, 2, 4, 64]),
    st.sampled_from(sorted(oracle.RULES)),
)
def test_the_merged_counts_of_parts_are_the_counts_of_the_whole(
    parts: list[list[oracle.Post]], shards: int, rules: str
) -> None:
    """And both are the oracle's."""
    whole = [post for part in parts for post in part]
    expected = by_oracle(whole, rules)
    assert merged([partial(part, rules, shards) for part in parts]) == expected
    assert merged([partial(whole, rules, 1)]) == expected


@pytest.mark.parametrize("rules", ["classic", pytest.param("standard", marks=running.long)])
def test_a_real_day_counts_as_the_oracle_counts(rules: str) -> None:
    """All words, URLs and pairs, not only the tops; in one block, and merged from blocks of 1,000 posts."""
    (path,) = cases.real("mayweather_2017.jsonl")
    posts = oracle.day(oracle.read_source(path), DAY).posts
    expected = by_oracle(posts, rules)
    assert merged([partial(posts, rules, 4)]) == expected
    assert merged([partial(posts[at : at + 1000], rules, 4) for at in range(0, len(posts), 1000)]) == expected


def test_a_key_lies_in_the_same_shard_whatever_day_or_block_it_comes_from() -> None:
    """Days merge shard by shard, so a key must not depend on what it was counted with."""
    posts = [
        oracle.Post("", datetime.datetime(2017, 8, 27, tzinfo=datetime.UTC), None, text, [url], None)
        for text, url in [("apple berry", "http://a.example"), ("berry cherry apple", "http://b.example")]
    ]
    alone, together = partial(posts[:1], "standard", 8), partial(posts, "standard", 8)
    for key, table in alone.items():
        there = {found[:-1] for found in stages.counts(together[key])}
        assert all(found[:-1] in there for found in stages.counts(table))


def test_the_files_of_a_day_tell_table_shard_and_number_of_shards(tmp_path: Path) -> None:
    """Each with its columns, a row group at least; the counter `posts` is the day's number of posts."""
    data = b"\n".join(cases.status(tid=n, text="apple berry cherry http://a.example") for n in range(5))
    posts = stages.etl(tmp_path, stages.raw(tmp_path, data), DAY)
    written = stages.count(tmp_path, posts, DAY, "standard", shards=8)
    names = [Path(file.path).name for file in written.files]
    of = {"hours": 1, "words": 4, "urls": 8, "pairs": 8}
    assert sorted(names) == sorted(f"{t}-{n:05}-of-{of[t]:05}.parquet" for t in of for n in range(of[t]))
    assert written.counters == {"posts": 5}
    for file in written.files:
        assert pq.read_schema(file.path).equals(count.SCHEMAS[file.table])
        assert pq.ParquetFile(file.path).num_row_groups == 1
    sums = {
        name: sum(found[-1] for path in stages.paths(written, name) for found in stages.counts(pq.read_table(path)))
        for name in of
    }
    assert sums == {"hours": 5, "words": 15, "urls": 5, "pairs": 15}


@given(st.lists(st.lists(st.sampled_from("ab cd ef gh ij kl".split()), max_size=6).map(" ".join), max_size=12))
@settings(max_examples=50, deadline=None)
def test_pairs_are_the_same_however_few_are_held_at_a_time(texts: list[str]) -> None:
    """What bounds the memory of a block changes nothing: neither the pairs nor their shards."""
    column, lang = (
        pa.chunked_array([pa.array(texts, pa.string())]),
        pa.chunked_array([pa.nulls(len(texts), pa.string())]),
    )
    tokens = tokenize(column, lang, rules.get("classic"))
    whole, few = (pairs.of_posts(tokens, at_once=at_once) for at_once in (1 << 25, 2))
    assert pairs.to_table(whole) == pairs.to_table(few)


def test_no_posts_count_to_empty_tables(tmp_path: Path) -> None:
    posts = stages.etl(tmp_path, stages.raw(tmp_path, b""), DAY)
    written = stages.count(tmp_path, posts, DAY, "standard", shards=2)
    assert {file.table for file in written.files} == set(count.SCHEMAS)
    assert not any(file.rows for file in written.files)
    assert written.counters.get("posts", 0) == 0


def test_a_run_without_any_file_says_which_pattern_matched_none(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="matches no file"):
        stages.run("count", tmp_path, "counts", input=f"{tmp_path}/none-*.parquet")


def test_languages_are_the_fallback_for_posts_that_say_none(tmp_path: Path) -> None:
    data = cases.status(tid=1, text="der the haus")
    posts = stages.etl(tmp_path, stages.raw(tmp_path, data), DAY)
    for languages, words in [("en", ["der", "haus"]), ("de", ["haus", "the"]), ("en,de", ["haus"])]:
        written = stages.run(
            "count",
            tmp_path,
            "counts",
            f"/{languages}",
            languages=languages,
            input=json.dumps(stages.paths(posts, "posts")),
        )
        assert [row["word"] for row in stages.rows(written, "words")] == words


def test_many_pairs_add_up_as_few_do() -> None:
    """So many that threads share them out; of other words each, and in two groups."""
    random = np.random.default_rng(7)
    expected: list[Counter[tuple[int, int]]] = [Counter(), Counter()]
    parts = []
    for group, (first, size) in enumerate([(0, 700), (300, 900), (0, 3), (5000, 400)]):
        words = [f"w{number:05}" for number in range(first, first + size)]
        w1, w2 = np.divmod(np.unique(random.integers(0, size * size, 500_000)), size)
        w1, w2 = w1[w1 < w2], w2[w1 < w2]
        posts = random.integers(1, 9, len(w1))
        columns = [pa.array(words), pa.array(w1, pa.int32()), pa.array(w2, pa.int32()), pa.array(posts, pa.int64())]
        rows = max(map(len, columns))
        padded = [pa.concat_arrays([each, pa.nulls(rows - len(each), each.type)]) for each in columns]
        table = pa.Table.from_arrays(padded, schema=pairs.SCHEMA)
        parts.append(pairs.of_table(table, group % 2, groups=2))
        expected[group % 2].update(dict(zip(zip(w1 + first, w2 + first, strict=True), posts.tolist(), strict=True)))
    summed = pairs.add(parts)
    assert sum(map(len, parts)) > 1 << 18
    words = summed.vocabulary.to_pylist()
    assert words == sorted(words)
    assert (np.diff(summed.number.astype(np.int64)) > 0).all()
    w1, w2 = (np.array([int(word[1:]) for word in words])[each] for each in summed.words())
    for group in (0, 1):
        found = dict(zip(zip(w1.tolist(), w2.tolist(), strict=True), summed.posts[group].tolist(), strict=True))
        assert {pair: posts for pair, posts in found.items() if posts} == dict(expected[group])
