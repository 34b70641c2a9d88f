"""The daily Report from end to end: real luigi processes, real and made-up posts, the tables against the oracle's."""

import dataclasses
import datetime
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import oracle
import oracle_tables
import pytest
import running
from http_source import Reply, serving

from millrace.core import code
from millrace.core.manifests import Manifest
from workflows import SplitArchive

DATE = datetime.date(2017, 8, 27)
LAST = datetime.date(2026, 11, 5)


def post(number: int, day: datetime.date, text: str, hour: int = 12) -> dict[str, object]:
    """A post as a JSON line has it."""
    return {
        "id": number,
        "created_at": f"{day}T{hour:02}:00:00Z",
        "user": "u",
        "text": text,
        "urls": ["https://a.example/x"],
    }


def many(day: datetime.date, text: str = "storm over the harbour", count: int = 8) -> list[dict[str, object]]:
    """Some posts of a day, enough of them for pairs to emerge."""
    return [post(day.toordinal() * 100 + i, day, f"{text} word{'abcdefgh'[i % 8]}") for i in range(count)]


def before(days: int) -> datetime.date:
    return LAST - datetime.timedelta(days=days)


def check_tables(storage: Path, records: list[bytes], date: datetime.date, days: int, rules: str = "standard") -> None:
    found = running.tables(storage, date)
    for table, rows in oracle_tables.expected(records, date, days, rules).items():
        assert running.same(found[table], rows), table


# ------------------------------------------------------------------------------------------------------- real posts


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """The storage of a run over three archives of real posts by the classic rules, and the run's flags."""
    storage = tmp_path_factory.mktemp("real") / "data"
    source = " ".join(map(str, running.archives()))
    flags: list[object] = ["--posts-source", source, "--posts-rules", "classic", "--date", DATE]
    running.succeed("Report", *flags, storage=storage)
    return storage, flags


def test_tables_of_real_posts_are_the_oracles(real: tuple[Path, list[object]]) -> None:
    """Classic rules on three archives give the numbers of an independent plain-Python computation, row for row."""
    records = [record for path in running.archives() for record in oracle.read_source(path)]
    check_tables(real[0], records, DATE, 7, "classic")


def test_page_and_its_data_lie_where_they_should(real: tuple[Path, list[object]]) -> None:
    """The page, its data as JSON and its picture lie in the date's folder, and the page of all days beside it."""
    folder = real[0] / "reports" / f"date={DATE}"
    assert (folder / "index.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert str(DATE) in (real[0] / "reports" / "index.html").read_text(encoding="utf-8")


def test_every_post_keeps_the_name_of_its_source(real: tuple[Path, list[object]]) -> None:
    """Posts of several sources say which one each is from."""
    sql = f"SELECT source, COUNT(*) AS n FROM posts WHERE date = DATE '{DATE}' GROUP BY source ORDER BY source"
    found = {row["source"]: row["n"] for row in running.select(real[0], sql)}
    for path in running.archives():
        kept = oracle.day(oracle.read_source(path), DATE).kept
        assert found.get(str(path), 0) == kept


def test_records_add_up_in_every_manifest(real: tuple[Path, list[object]]) -> None:
    """read = kept + other days + duplicates + rejected, for every day of the window and the one before."""
    for back in range(14):
        manifest = running.partition(real[0], f"posts/date={DATE - datetime.timedelta(days=back)}")
        assert manifest is not None
        counts = manifest.counters
        parts = [
            n for key, n in counts.items() if key in ("kept", "other_days", "duplicates") or key.startswith("rejected")
        ]
        assert sum(parts) == counts.get("read", 0)
        assert counts.get("kept", 0) == manifest.rows("posts")


def test_the_page_is_the_same_in_every_zone_and_wherever_the_storage_lies(
    real: tuple[Path, list[object]], tmp_path: Path
) -> None:
    """The page's data made under TZ=Asia/Kolkata, below folders called hour=5, date=2020-01-01 and word=x, is that of
    UTC below /data: neither the machine's zone nor the storage's path says anything of the rows.
    """
    elsewhere = tmp_path / "hour=5" / "date=2020-01-01" / "word=x" / "data"
    shutil.copytree(real[0], elsewhere)
    page = Path("reports") / f"date={DATE}"
    shutil.rmtree(elsewhere / page)
    env = running.environment(TZ="Asia/Kolkata")
    ran = running.luigi("Report", *real[1], storage=elsewhere, env=env)
    assert ran.code == 0, ran
    assert "ran successfully" in ran.out + ran.err
    here, there = (json.loads((root / page / "report.json").read_text()) for root in (real[0], elsewhere))
    assert {**there, "made_at": None} == {**here, "made_at": None}


def test_second_run_starts_nothing_and_never_imports_beam(real: tuple[Path, list[object]]) -> None:
    """A run that finds all complete exits 0, changes no byte, and imports neither Beam nor DuckDB, Arrow or regex."""
    storage, flags = real
    there = running.files(storage)
    arguments = [sys.executable, "-X", "importtime", *running.command("Report", "--millrace-storage", storage, *flags)]
    ran = running.run(arguments, storage.parent)
    assert ran.code == 0, ran
    imported = set(re.findall(r"^import time:[^|]*\|[^|]*\| +([\w.]+)$", ran.err, re.MULTILINE))
    assert {"luigi", "workflows.posts"} <= imported
    assert not imported & {"apache_beam", "duckdb", "pyarrow", "vl_convert", "sqlglot", "regex"}
    assert "Did not run any tasks" in ran.out + ran.err
    assert running.files(storage) == there


# ---------------------------------------------------------------------------------------------------- dated sources


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Runs at a source with a file a day: the last one missing, then there."""
    folder = tmp_path_factory.mktemp("dated")
    storage = folder / "data"
    flags = ["--posts-source", folder / "posts-{date:%Y-%m-%d}.jsonl", "--date", LAST, "--posts-days", 2]
    running.write_posts(folder / f"posts-{before(1)}.jsonl", many(before(1)))
    first = running.luigi("Report", *flags, storage=storage)
    after_first = running.complete(storage)
    running.write_posts(folder / f"posts-{LAST}.jsonl", many(LAST, "calm after the storm"))
    second = running.luigi("Report", *flags, storage=storage)
    return {"folder": folder, "storage": storage, "first": first, "after_first": after_first, "second": second}


def test_missing_file_of_the_last_day_is_not_there_yet(dated: Mapping[str, object]) -> None:
    """Without the file of the window's last day the run fails with one sentence and writes nothing for that day."""
    ran, after = dated["first"], dated["after_first"]
    assert isinstance(ran, running.Ran)
    assert isinstance(after, list)
    assert ran.code != 0
    assert len(ran.errors) == 1, ran
    assert re.search(rf"source .*posts-{{date:%Y-%m-%d}}.jsonl has nothing for {LAST} yet", ran.errors[0])
    assert "Traceback" not in str(ran)
    assert not [name for name in after if f"date={LAST}" in name]
    assert f"posts/date={before(1)}" in after


def test_later_run_with_the_file_there_goes_on(dated: Mapping[str, object]) -> None:
    """A later run, with the file there, makes what is missing and gives the right tables."""
    ran, storage, folder = dated["second"], dated["storage"], dated["folder"]
    assert isinstance(ran, running.Ran)
    assert isinstance(storage, Path)
    assert isinstance(folder, Path)
    assert ran.code == 0, ran
    assert f"Count {before(1)}" not in ran.err.split("Luigi Execution Summary")[0]
    records = [record for day in (before(1), LAST) for record in oracle.read_source(folder / f"posts-{day}.jsonl")]
    check_tables(storage, records, LAST, 2)


def test_earlier_days_without_a_file_are_empty_and_complete(dated: Mapping[str, object]) -> None:
    """Earlier days without a file are complete partitions of 0 rows, which no later run touches."""
    storage = dated["storage"]
    assert isinstance(storage, Path)
    for back in (2, 3):
        for dataset in ("posts", "posts_rejected", "counts"):
            manifest = running.partition(storage, f"{dataset}/date={before(back)}")
            assert manifest is not None, dataset
            assert sum(file.rows for file in manifest.files) == 0


def test_day_that_is_not_over_is_not_there_yet(tmp_path: Path) -> None:
    """A day that is not over yet (UTC) can't be whole: not a word of it is written, and one sentence says so."""
    today = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)
    running.write_posts(tmp_path / f"posts-{today}.jsonl", many(today))
    flags = ["--posts-source", tmp_path / "posts-{date:%Y-%m-%d}.jsonl", "--date", today, "--posts-days", 1]
    ran = running.luigi("Report", *flags, storage=tmp_path / "data")
    assert ran.code != 0
    assert any(f"{today} is not over yet" in line for line in ran.errors)
    assert "Traceback" not in str(ran)
    assert not [name for name in running.complete(tmp_path / "data") if f"date={today}" in name]


# --------------------------------------------------------------------------------------------------------- archives


def test_archive_that_has_grown_is_split_only_for_days_that_are_missing(tmp_path: Path) -> None:
    """An archive that has grown is split again for the days that are missing; complete days stay byte for byte."""
    storage, source = tmp_path / "data", tmp_path / "all.jsonl"
    day = before(1)
    flags = ["--posts-source", source, "--posts-days", 1, "--date"]
    running.write_posts(source, many(before(2)) + many(day))
    running.succeed("Report", *flags, day, storage=storage)
    done = [name for name in running.complete(storage) if f"date={day}" in name or f"date={before(2)}" in name]
    there = {name: running.files(storage / name) for name in done}
    # A further day is copied from the split that is there, and so was made by the code that made the split.
    [split] = storage.glob("archives/*/*/_MANIFEST.json")
    made = Manifest.from_json(split.read_bytes(), "split")
    assert made.code == {"SplitArchive": [code.of(SplitArchive)]}
    split.write_bytes(dataclasses.replace(made, code={"SplitArchive": ["3f2c/9a11"]}).to_json())
    ran = running.succeed("Fetch", "--source", source, "--date", before(3), storage=storage)
    assert re.search(r"SplitArchive: 1 partition .*was made by other code \(3f2c → \w+\); .*clear archives/", ran.err)
    [copied] = storage.glob(f"raw/*/date={before(3)}/_MANIFEST.json")
    assert Manifest.from_json(copied.read_bytes(), "copied").code == {"Fetch": ["3f2c/9a11"]}
    grown = many(before(2)) + many(day) + many(day, "a late post", 2) + many(LAST, "fog and more fog")
    running.write_posts(source, grown)
    ran = running.succeed("Report", *flags, LAST, storage=storage)
    assert {name: running.files(storage / name) for name in done} == there
    assert f"Fetch {source} {LAST}" in ran.err
    assert f"Fetch {source} {day}" not in ran.err
    records = list(oracle.read_source(source))
    kept = many(day)
    assert len(running.select(storage, f"SELECT id FROM posts WHERE date = DATE '{day}'")) == len(kept)
    late = [json.dumps(record).encode() for record in many(before(2)) + kept + many(LAST, "fog and more fog")]
    check_tables(storage, late, LAST, 1)
    assert len(records) > len(late)


def test_day_without_posts_in_an_archive_is_an_empty_page(tmp_path: Path) -> None:
    """A day without posts in an archive gives an empty page and empty tables, not an error."""
    storage, source = tmp_path / "data", running.write_posts(tmp_path / "all.jsonl", many(before(9)))
    ran = running.succeed("Report", "--posts-source", source, "--posts-days", 2, "--date", LAST, storage=storage)
    assert "Traceback" not in str(ran)
    assert (storage / f"reports/date={LAST}/index.html").exists()
    for table in running.KEYS:
        manifest = running.partition(storage, f"{table}/date={LAST}")
        assert manifest is not None
        assert sum(file.rows for file in manifest.files) == 0
        assert running.select(storage, f"SELECT * FROM {table} WHERE date = DATE '{LAST}'") == []


# --------------------------------------------------------------------------------------------------- several sources


def test_source_that_fails_stops_only_what_needs_it(tmp_path: Path) -> None:
    """Of two sources one answers 501: the other is fetched, nothing is made of half the posts; mended, all goes on.

    501, since that is not asked again: how long a 500 is waited for is told by test_sources.py.
    """
    storage = tmp_path / "data"
    good = running.write_posts(tmp_path / f"good-{LAST}.jsonl", many(LAST))
    body = b"".join(json.dumps(p).encode() + b"\n" for p in [post(1, LAST, "from the net"), post(2, LAST, "again")])
    pattern = tmp_path / "good-{date:%Y-%m-%d}.jsonl"
    with serving() as web:
        bad = web.reply("/bad.jsonl", Reply(501))
        flags = ["--posts-source", f"{bad} {pattern}", "--posts-days", 1, "--date", LAST]
        ran = running.luigi("Report", *flags, storage=storage)
        assert ran.code != 0
        assert "Traceback" not in str(ran)
        assert any(bad in line and "501" in line for line in ran.errors), ran
        done = running.complete(storage)
        assert [name for name in done if name.startswith("raw/source=good-") and name.endswith(f"date={LAST}")]
        assert not [name for name in done if not name.startswith("raw/")], done
        web.reply("/bad.jsonl", Reply(body=body))
        running.succeed("Report", *flags, storage=storage)
    check_tables(storage, body.splitlines() + list(oracle.read_source(good)), LAST, 1)
    sources = running.select(
        storage, f"SELECT source, COUNT(*) AS n FROM posts WHERE date = DATE '{LAST}' GROUP BY source"
    )
    assert {row["source"]: row["n"] for row in sources} == {bad: 2, str(pattern): len(many(LAST))}


def test_source_that_is_missing_stops_only_what_needs_it(tmp_path: Path) -> None:
    """Of two archives one is not there: the other is fetched, and one sentence names the one that is missing."""
    storage, good = tmp_path / "data", running.write_posts(tmp_path / "good.jsonl", many(LAST))
    missing = tmp_path / "missing.jsonl"
    ran = running.luigi(
        "Report", "--posts-source", f"{good} {missing}", "--posts-days", 1, "--date", LAST, storage=storage
    )
    assert ran.code != 0
    assert "Traceback" not in str(ran)
    assert len(ran.errors) == 1, ran
    assert f"source {missing} is not there (from the flag --posts-source)" in ran.errors[0]
    done = running.complete(storage)
    assert len([name for name in done if name.startswith("raw/source=good-")]) == 2
    assert not [name for name in done if not name.startswith(("raw/", "archives/"))]


# ----------------------------------------------------------------------------------------------------- dead letters


def test_too_many_rejected_stops_the_chain_until_the_limit_is_raised(tmp_path: Path) -> None:
    """Too many rejects: not 0, a sentence says where they lie, nothing downstream; with a higher limit it goes on."""
    storage = tmp_path / "data"
    lines: list[dict[str, object] | str] = [*many(LAST), "{broken", '{"id": 5}', "not JSON"]
    path = running.write_posts(tmp_path / f"posts-{LAST}.jsonl", lines)
    flags = ["--posts-source", tmp_path / "posts-{date:%Y-%m-%d}.jsonl", "--posts-days", 1, "--date", LAST]
    ran = running.luigi("Report", *flags, storage=storage)
    assert ran.code != 0
    assert "Traceback" not in str(ran)
    (error,) = ran.errors
    folder = storage / "posts_rejected" / f"date={LAST}"
    assert f"posts_rejected, in {folder}" in error
    assert "3 of 11 records were rejected" in error
    assert "posts.max_dead_letter_share = 0.05" in error
    assert list(folder.rglob("*.parquet"))
    query = "SELECT reason, COUNT(*) AS n FROM posts_rejected GROUP BY reason"
    asked = [sys.executable, "-m", "millrace", "query", query, "--format", "json"]
    answer = running.run(asked, tmp_path, running.environment() | {"LUIGI_CONFIG_PATH": str(config(tmp_path, storage))})
    assert answer.code == 0, answer
    found = {row["reason"]: row["n"] for row in map(json.loads, answer.out.splitlines())}
    assert found == dict(oracle.day(oracle.read_source(path), LAST).rejected)
    done = running.complete(storage)
    assert not [name for name in done if name.startswith(("posts/", "counts/", "word_counts/")) and str(LAST) in name]
    again = running.luigi("Report", *flags, storage=storage)
    assert again.code != 0
    running.succeed("Report", *flags, "--posts-max-dead-letter-share", "0.5", storage=storage)
    check_tables(storage, list(oracle.read_source(path)), LAST, 1)
    assert running.leftovers(storage) == []


def config(folder: Path, storage: Path) -> Path:
    """A luigi.cfg that names a storage."""
    path = folder / "luigi.cfg"
    path.write_text(f"[millrace]\nstorage = {storage}\n", encoding="utf-8")
    os.utime(path)
    return path
