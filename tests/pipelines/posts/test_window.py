"""The window template, run by itself, gives what plain Python computes of the same posts."""

import datetime
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import oracle
import posts_cases as cases
import pyarrow.parquet as pq
import pytest
import running
from apache_beam.options.value_provider import StaticValueProvider
from posts_cases import status
from window_oracle import NAMES, expected

from millrace.beam.options import run
from millrace.beam.sources import ranges
from millrace.errors import MillraceError, SettingError
from millrace.runners.dataflow import building
from pipelines.posts import window

MICROSECOND = datetime.timedelta(microseconds=1)


def made(folder: Path, **parameters: object) -> dict[str, list[tuple[Any, ...]]]:
    """The three tables that the pipeline writes, without ts and date, which are checked."""
    given = {"output": folder, **parameters}
    run(window.build, [f"--{name}={value}" for name, value in given.items()])
    return tables(folder, str(parameters["timestamp"]))


def tables(folder: Path, timestamp: str) -> dict[str, list[tuple[Any, ...]]]:
    end = datetime.datetime.fromisoformat(timestamp).replace(tzinfo=datetime.UTC)
    found = {}
    for name in NAMES:
        where = Path(str(folder).replace("{dataset}", name))
        rows = pq.ParquetFile(where / f"{name}.parquet").read().to_pylist()
        lines = [json.loads(line) for line in (where / f"{name}.jsonl").read_text().splitlines()]
        for row, line in zip(rows, lines, strict=True):
            assert row["ts"] == end
            assert row["date"] == (end - MICROSECOND).date()
            assert line["ts"].endswith("Z")
            assert datetime.datetime.fromisoformat(line.pop("ts")) == end
            assert line.pop("date") == str(row["date"])
            assert line == {key: value for key, value in row.items() if key not in ("ts", "date")}
        found[name] = [tuple(row[key] for key in row if key not in ("ts", "date")) for row in rows]
    return found


def assert_equal(found: Mapping[str, list[tuple[Any, ...]]], wanted: Mapping[str, list[tuple[Any, ...]]]) -> None:
    for name in NAMES:
        assert found[name] == [
            tuple(pytest.approx(x, rel=1e-12) if isinstance(x, float) else x for x in row) for row in wanted[name]
        ], name


@pytest.fixture(scope="module")
def crowd() -> list[bytes]:
    """12,118 real posts of 70 minutes."""
    (path,) = cases.real("mayweather_2017.jsonl")
    return list(oracle.read_source(path))


#: How a window of one day lies to a post.
MOMENTS = ["at", "just before", "a day after", "a microsecond less than a day after", "long before"]
SAMPLE = [
    pytest.param(each, marks=() if each in ("at", "a day after", "long before") else running.long) for each in MOMENTS
]


@pytest.mark.parametrize("where", SAMPLE)
def test_real_posts_give_the_tables_of_plain_python(where: str, crowd: list[bytes], tmp_path: Path) -> None:
    (path,) = cases.real("mayweather_2017.jsonl")
    times = sorted(post.created_at for post in map(oracle.parse, crowd) if isinstance(post, oracle.Post))
    middle, day = times[len(times) // 3], datetime.timedelta(days=1)
    moment = {
        "at": middle,
        "just before": middle - MICROSECOND,
        "a day after": middle + day,
        "a microsecond less than a day after": middle + day - MICROSECOND,
        "long before": middle - 100 * day,
    }[where]
    timestamp = moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    found = made(tmp_path, input=path, timestamp=timestamp, days=1, rules="classic", shards=4)
    wanted = expected(crowd, timestamp, 1, "classic")
    assert_equal(found, wanted)
    assert bool(wanted["word_counts"]) == (where != "long before")


TIMES = ["2026-11-18T05:00:00Z", "2026-11-18T05:00:00.000001Z", "2026-11-19T00:00:00Z", "2026-11-19T05:00:00Z"]


def texts(times: Iterable[str]) -> dict[str, bytes]:
    """Posts of these times by day, the number of each in a word and a link of its own."""
    days: dict[str, bytes] = {}
    for number, time in enumerate(times):
        post = status(
            tid=str(number), text=f"alpha post{'abcdefgh'[number]}", urls=[f"https://a.org/{number}"], created_at=time
        )
        days[time[:10]] = days.get(time[:10], b"") + post + b"\n"
    return days


def test_the_days_of_a_dated_source_are_read_and_one_that_is_missing_is_counted(tmp_path: Path) -> None:
    """The first day's post of exactly timestamp − days is out, a microsecond later is in; the last one's is in."""
    for day, lines in texts(TIMES).items():
        (tmp_path / f"{day}.jsonl").write_bytes(lines)
    source = tmp_path / "{date:%Y-%m-%d}.jsonl"
    found = made(tmp_path / "{dataset}=x", input=source, timestamp="2026-11-19 05:00:00", days=1)
    assert {url for url, _ in found["urls"]} == {"https://a.org/1", "https://a.org/2", "https://a.org/3"}
    assert dict(found["word_counts"])["alpha"] == 1
    told = json.loads((tmp_path / "window=x" / "window.json").read_text())
    assert {key: told["counters"][key] for key in ("read", "posts", "outside", "missing_days", "files")} == {
        "read": 4, "posts": 3, "outside": 1, "missing_days": 0, "files": 2
    }  # fmt: skip
    found = made(tmp_path / "long" / "{dataset}", input=source, timestamp="2026-11-19 05:00:00", days=4)
    assert len(found["urls"]) == 4
    told = json.loads((tmp_path / "long" / "window" / "window.json").read_text())
    assert told["counters"]["missing_days"] == 3


def test_a_window_to_midnight_needs_no_file_of_the_day_that_begins(tmp_path: Path) -> None:
    """But reads it where it is there, for the post of that very moment."""
    days = texts(TIMES)
    (tmp_path / "2026-11-18.jsonl").write_bytes(days["2026-11-18"])
    source = tmp_path / "{date:%Y-%m-%d}.jsonl"
    midnight = {"input": source, "timestamp": "2026-11-19 00:00:00", "days": 1}
    assert len(made(tmp_path / "out", **midnight)["urls"]) == 2
    assert json.loads((tmp_path / "out" / "window.json").read_text())["counters"]["missing_days"] == 0
    (tmp_path / "2026-11-19.jsonl").write_bytes(days["2026-11-19"])
    assert len(made(tmp_path / "out", **midnight)["urls"]) == 3, "and what an earlier run wrote is replaced"


def test_a_window_of_a_whole_day_to_its_last_microsecond_needs_that_day_s_file_alone(tmp_path: Path) -> None:
    (tmp_path / "2026-11-18.jsonl").write_bytes(texts(TIMES)["2026-11-18"])
    found, units = plan(
        tmp_path, input=tmp_path / "{date:%Y-%m-%d}.jsonl", timestamp="2026-11-18 23:59:59.999999", days=1
    )
    assert [unit.file.uri for unit in units] == [str(tmp_path / "2026-11-18.jsonl")]
    assert found.end - found.start == 86_400_000_000


def test_a_post_counts_once_a_day_and_what_is_none_is_told(tmp_path: Path) -> None:
    again = status(tid="0", text="alpha kangaroo", urls=[], created_at="2026-11-18T06:00:00Z")
    (tmp_path / "a.jsonl").write_bytes(texts(TIMES)["2026-11-18"] + b"nonsense\n{}\n")
    (tmp_path / "b.jsonl").write_bytes(again + b"\n" + b'{"limit": {"track": 1}}\n')
    found = made(tmp_path / "out", input=tmp_path / "*.jsonl", timestamp="2026-11-18 06:00:00", days=2, shards=8)
    assert dict(found["word_counts"]) == {"alpha": 1.0, "kangaroo": 0.5, "postb": 0.5}
    counters = json.loads((tmp_path / "out" / "window.json").read_text())["counters"]
    assert (counters["read"], counters["posts"], counters["duplicates"]) == (6, 2, 1)
    assert (counters["rejected"], counters["notices"]) == (2, 1)
    assert counters["rejected, bad JSON"] == counters["rejected, no id"] == 1


def plan(folder: Path, elsewhere: bool = False, **given: object) -> tuple[window.Plan, list[Any]]:
    """What a job is to do and to read."""
    values = {"timestamp": "2026-11-19 05:00:00", "output": folder / "out", **given}
    of = {
        each.name: StaticValueProvider(str, str(values.get(each.name, ""))) for each in window.WindowOptions.parameters
    }
    ((found, units, _),) = window.find(None, of, elsewhere)
    return found, list(units)


def test_an_empty_parameter_is_one_that_is_not_given(tmp_path: Path) -> None:
    """As Beam has it of classic templates, where consoles and schedulers send empty texts."""
    found, _ = plan(tmp_path, input="sample://", days="", rules="", shards="")
    assert found.values["rules"] == "standard"
    assert found.end - found.start == 4 * 86_400_000_000


def test_a_file_of_a_month_is_read_once_however_many_days_it_has(tmp_path: Path) -> None:
    (tmp_path / "2026-11.jsonl").write_bytes(b"".join(texts(TIMES).values()))
    found = made(tmp_path / "out", input=tmp_path / "{date:%Y-%m}.jsonl", timestamp="2026-11-19 05:00:00", days=4)
    assert len(found["urls"]) == 4
    counters = json.loads((tmp_path / "out" / "window.json").read_text())["counters"]
    assert (counters["files"], counters["read"], counters["duplicates"]) == (1, 4, 0)


def test_posts_are_cut_as_their_bytes_need(tmp_path: Path) -> None:
    """Each part has all the shards of pairs once more, so that neither empty files nor many shards make many parts."""
    for number in range(20):
        (tmp_path / f"{number}.jsonl").write_bytes(b"")
    found, units = plan(tmp_path, input=tmp_path / "*.jsonl")
    assert (found.parts, found.shards, len(units)) == (1, 1, 20)
    found, _ = plan(tmp_path, input=tmp_path / "*.jsonl", shards=65536)
    assert (found.parts, found.shards) == (4, 65536)
    found, _ = plan(tmp_path, input="sample://", days=300)
    assert (found.parts, found.shards) == (4, 4)
    found, _ = plan(tmp_path, input=tmp_path / "*.jsonl", shards=2)
    assert (found.parts, found.shards) == (2, 2)


def test_lines_may_be_of_any_size(tmp_path: Path) -> None:
    """A file of lines is read in ranges of 256 MiB, also one of 11 GiB, of which no byte is on the disk here."""
    with (tmp_path / "large.jsonl").open("wb") as file:
        file.truncate(11 << 30)
    found, units = plan(tmp_path, input=tmp_path / "large.jsonl")
    assert len(units) == 44
    assert found.parts == found.shards == 512


def test_ranges_of_a_file_have_each_of_its_posts_once(tmp_path: Path, crowd: list[bytes]) -> None:
    (path,) = cases.real("mayweather_2017.jsonl")
    found, (whole,) = plan(tmp_path, input=path, timestamp="2017-08-28 00:00:00", shards=1)
    units = ranges.units(0, whole.file, whole.file.size // 3, whole.file.size)
    assert len(units) in (3, 4)
    posts = [table for each in enumerate(units) for name, table in window.posts_of(each, found) if name != "told"]
    ids = [id for table in posts for id in table["id"].to_pylist()]
    assert ids == [post.id for post in map(oracle.parse, crowd) if isinstance(post, oracle.Post)]


def test_posts_of_a_file_of_several_blocks_have_places_in_its_order(tmp_path: Path) -> None:
    """40 MB of blank lines lie between the two posts, and a block is of 32 MB."""
    posts = texts(TIMES[:1] * 2)["2026-11-18"].splitlines(keepends=True)
    (tmp_path / "large.jsonl").write_bytes((b" " * (1 << 20) + b"\n").join([posts[0], *[b""] * 39, posts[1]]))
    found, units = plan(tmp_path, input=tmp_path / "large.jsonl", shards=1)
    read = [table for each in enumerate(units) for name, table in window.posts_of(each, found) if name != "told"]
    assert [(table["id"].to_pylist(), table["place"].to_pylist()) for table in read] == [(["0"], [0]), (["1"], [1])]


def test_paths_of_tables_are_the_folder_s(tmp_path: Path) -> None:
    """A / at the end makes no folder without a name in Cloud Storage, and ~ is whose home it is."""
    for output, path in {
        "gs://bucket/o/": "gs://bucket/o/urls",
        "gs://bucket": "gs://bucket/urls",
        "gs://bucket/{dataset}/x=1/": "gs://bucket/urls/x=1/urls",
        "~/o": f"{Path.home()}/o/urls",
        f"{tmp_path}/a {{}} b={{dataset}}": f"{tmp_path}/a {{}} b=urls/urls",
    }.items():
        found, _ = plan(tmp_path, input="sample://", output=output)
        assert found.path("urls") == path


def test_workers_elsewhere_neither_read_nor_write_here(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--output out would be on the disks of workers, which go; write gs://"):
        plan(tmp_path, True, input="gs://bucket/x.jsonl", output="out")
    with pytest.raises(SettingError, match="--input x.jsonl is not on the disks of workers; write gs://"):
        plan(tmp_path, True, input="x.jsonl", output="gs://bucket/out")


def test_what_can_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    ran = command(
        tmp_path, "--input", "sample://", "--timestamp", "2026-11-19 05:00:00", "--days", "1", "--output", "out"
    )
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert re.fullmatch(r"error: out/\w+\.parquet can't be written: File exists\n", ran.err)
    assert (tmp_path / "out").read_bytes() == b""


def test_the_last_post_of_an_id_counts_in_whatever_order_parts_come(tmp_path: Path) -> None:
    """Of two on one UTC day the one further down, also in a later file; on two days both: as plain Python has it."""
    said = [
        ("0", "2026-11-18T05:00:00Z", "kangaroo"),
        ("0", "2026-11-18T06:00:00Z", "wombat"),
        ("1", "2026-11-18T05:00:00Z", "koala"),
    ]
    more = [("0", "2026-11-18T04:00:00Z", "possum"), ("1", "2026-11-19T00:00:00Z", "quokka")]
    files = {
        "a.jsonl": [status(tid=tid, text=text, urls=[], created_at=time) for tid, time, text in said],
        "b.jsonl": [status(tid=tid, text=text, urls=[], created_at=time) for tid, time, text in more],
    }
    for name, lines in files.items():
        (tmp_path / name).write_bytes(b"nonsense\n" + b"\n".join(lines))
    found, units = plan(tmp_path, input=tmp_path / "*.jsonl", shards=1)
    posts = [table for each in enumerate(units) for name, table in window.posts_of(each, found) if name != "told"]
    rows = [post.slice(row, 1) for post in posts for row in range(post.num_rows)]
    assert len(rows) == 5
    wanted = expected([line for lines in files.values() for line in lines], "2026-11-19 05:00:00", 4, "standard")
    for order in itertools.permutations(rows):
        counted = dict(window.count_shard(("posts/0", iter(order)), found))["words/0"].to_pydict()
        assert dict(zip(counted["word"], counted["posts"], strict=True)) == {"koala": 1, "possum": 1, "quokka": 1}
    assert {word for word, *_ in wanted["word_counts"]} == {"koala", "possum", "quokka"}


def test_generated_posts_are_a_source_too(tmp_path: Path) -> None:
    found = made(tmp_path / "out", input="sample://", timestamp="2026-11-19 05:00:00", days=1)
    assert len(found["word_counts"]) == 500


def command(folder: Path, *arguments: object) -> running.Ran:
    return running.run([running.python(), "-m", "pipelines.posts.window", *arguments], folder, running.environment())


def test_all_that_is_wrong_with_parameters_is_one_sentence(tmp_path: Path) -> None:
    ran = command(tmp_path, "--timestamp", "yesterday", "--days", "0", "--output", "out", "--rules", "mine")
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("error: --input is missing (where the posts come from")
    for said in (
        "--timestamp 'yesterday' does not match",
        "--days '0' does not match",
        "--rules 'mine' does not match",
    ):
        assert said in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timestamp": "2026-02-30 05:00:00"}, "--timestamp '2026-02-30 05:00:00' is no moment"),
        ({"timestamp": "2026-02-28 25:00:00.5"}, "--timestamp '2026-02-28 25:00:00.5' is no moment"),
        ({"input": "ftp://a/b"}, "has the scheme ftp://"),
        ({"shards": "3"}, "--shards 3 is no power of two"),
        ({"output": ""}, "--output is missing (folder of the tables"),
        (
            {"output": "file:///tmp/out"},
            "--output 'file:///tmp/out' has the scheme file://; allowed are a path and gs://",
        ),
        ({"output": "gs:///out"}, "--output 'gs:///out' names no bucket; write gs://BUCKET/FOLDER"),
        ({"bigquery": "p.d"}, "--bigquery p.d needs an --output in Cloud Storage"),
        ({"days": "10000"}, "--days '10000' does not match"),
        ({"timestamp": "0001-01-02 00:00:00", "days": "4"}, "--days 4 before --timestamp '0001-01-02 00:00:00' begin"),
    ],
)
def test_values_that_can_not_be_are_refused(given: Mapping[str, str], said: str) -> None:
    values = {"input": "x.jsonl", "timestamp": "2026-11-19 05:00:00", "output": "out", **given}
    with pytest.raises(MillraceError, match=re.escape(said)):
        window.WindowOptions.check(values)


def test_timestamps_have_fractions_as_people_write_them() -> None:
    """Digits after the point are tenths, hundredths, …; a window may begin with the first moment that there is."""
    second = window.end_of("1969-12-31 23:59:59")
    assert second == -1_000_000
    for fraction, micros in (("5", 500_000), ("25", 250_000), ("000001", 1), ("999999", 999_999)):
        assert window.end_of(f"1969-12-31 23:59:59.{fraction}") == second + micros
    first = {"input": "x.jsonl", "timestamp": "0001-01-05 00:00:00", "days": "4", "output": "out", "shards": "65536"}
    window.WindowOptions.check(first)


def test_a_source_that_has_nothing_yet_is_one_sentence(tmp_path: Path) -> None:
    """Also where the day's file is missed by a step of the pipeline, and not before."""
    flags = {"input": "{date:%Y-%m-%d}.jsonl", "timestamp": "2026-11-19 05:00:00", "output": "out"}
    ran = command(tmp_path, *(f"--{name}={value}" for name, value in flags.items()))
    said = "error: --input {date:%Y-%m-%d}.jsonl has nothing for 2026-11-19 yet, the last day of the window\n"
    assert (ran.code, ran.out, ran.err) == (1, "", said)


def test_help_tells_every_parameter(tmp_path: Path) -> None:
    ran = command(tmp_path, "--help")
    for each in window.WindowOptions.parameters:
        assert f"--{each.name} " in ran.out


def test_the_metadata_of_a_template_is_what_the_options_say() -> None:
    """Names, labels, help and patterns of the one list; a launch has to say what has no default."""
    told = building.described("pipelines.posts.window")
    assert [each["name"] for each in told["parameters"]] == [each.name for each in window.WindowOptions.parameters]
    by_name = {each["name"]: each for each in told["parameters"]}
    assert {name for name, each in by_name.items() if not each.get("isOptional")} == {"input", "timestamp", "output"}
    assert by_name["timestamp"]["regexes"] == [
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$"
    ]
    assert all(each["label"] and each["helpText"] for each in by_name.values())
