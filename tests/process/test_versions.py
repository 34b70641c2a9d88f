"""What a result is made of that no stage makes, such as a file, and tables of the warehouse as inputs."""

import datetime
import hashlib
import io
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import luigi
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from luigi.configuration import get_config

from localcloud import BUCKET, DATASET, PROJECT, LocalCloud
from millrace import Claim, Day, FileEntry, Outcome, Stage, Table, TableStage
from millrace.core.storage import crc32c
from millrace.errors import QueryError, SettingsDifferError, SourceError
from millrace.ops import clear, query
from millrace.tasks import identity, session
from millrace.tasks.session import Session

#: Begins another run, with flags such as refresh.
Again = Callable[..., None]


class Loaded(Stage):
    """The numbers of a file, as a table that is replaced whole."""

    writes = ("loaded", "loaded_besides")
    tables = {"loaded": Table({"n": "INT64"}, by="")}
    file: str = luigi.Parameter()

    def versions(self) -> Mapping[str, str]:
        there = Path(self.file).is_file()
        return {f"file {self.file}": hashlib.sha256(Path(self.file).read_bytes()).hexdigest()[:8] if there else ""}

    def execute(self, claim: Claim) -> Outcome:
        rows = pa.table({"n": [int(line) for line in Path(self.file).read_text().split()]})
        sink = io.BytesIO()
        pq.write_table(rows, sink)
        path, data = f"loaded/{claim.attempt.attempt}/n.parquet", sink.getvalue()
        session.current().storage.create(path, data)
        return Outcome(
            [FileEntry(path, "loaded", rows.num_rows, len(data), crc32c(data))], {}, {"loaded": {"n": "int64"}}
        )


class Summed(Stage):
    """The sum of a table's numbers, whoever has made the table."""

    writes = ("summed",)

    def requires(self) -> TableStage:
        return TableStage(table="loaded")

    def execute(self, claim: Claim) -> Outcome:
        [(dataset, _)] = self.inputs()
        return Outcome([self.write("sum.txt", str(sum(dataset.rows()["n"].to_pylist())).encode())], {}, {})


@pytest.fixture(params=["one machine", "cloud"])
def again(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Again]:
    """A storage and a warehouse; a run of its own, and what begins another."""
    config = get_config()
    with LocalCloud() as cloud, session.use(Session()):
        config.set("millrace", "storage", str(tmp_path / "storage {x}=1"))
        if request.param == "cloud":
            for name, value in cloud.environment().items():
                monkeypatch.setenv(name, value)
            config.set("millrace", "storage", f"gs://{BUCKET}/data")
            config.set("millrace", "warehouse", f"bigquery://{PROJECT}/{DATASET}")
        contexts = []

        def begin(refresh: bool = False) -> None:
            config.set("millrace", "refresh", "always" if refresh else "never")
            contexts.append(session.use(Session()))
            contexts[-1].__enter__()

        begin()
        yield begin
        for context in reversed(contexts):
            context.__exit__(None, None, None)
    for name in ("storage", "warehouse", "refresh"):
        config.remove_option("millrace", name)


def run(*stages: Stage) -> None:
    """Run those of some stages that are not complete, as luigi does."""
    for stage in stages:
        if not stage.complete():
            stage.run()


def summed() -> str:
    manifest = Summed().finished()
    found = session.current().storage.read(manifest.files[0].path)
    assert found
    return found.data.decode()


def test_a_changed_source_is_told_and_a_run_that_refreshes_makes_its_results_anew(again: Again, tmp_path: Path) -> None:
    """What was made of it is refused as well, once it is made anew; what is gone changes nothing."""
    file = tmp_path / "numbers"
    file.write_text("1 2")
    stages = Loaded(file=str(file)), TableStage(table="loaded"), Summed()
    run(*stages)
    assert summed() == "3"
    assert stages[1].finished().schemas == {"table_files": {"n": "int64"}}
    again()
    assert all(stage.complete() for stage in stages)
    file.write_text("1 2 3")
    again()
    with pytest.raises(
        SettingsDifferError, match=r"loaded was made of file .*numbers when that was \w{8}, and now it is"
    ):
        stages[0].complete()
    assert stages[2].complete()  # the table is as it was
    again(refresh=True)
    run(*stages[:1])
    again()
    assert stages[0].complete()
    assert [row["n"] for row in stages[0].query("SELECT n FROM loaded ORDER BY n").to_pylist()] == [1, 2, 3]
    for stage in stages[1:]:
        with pytest.raises(SettingsDifferError, match="made of table loaded when that was"):
            stage.complete()
    assert summed() == "3"
    again(refresh=True)
    run(*stages)
    assert summed() == "6"
    again()
    assert all(stage.complete() for stage in stages)
    file.unlink()
    again()
    assert stages[0].complete()


def test_the_command_that_the_error_names_forgets_the_old_result_alone(
    again: Again, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "numbers"
    file.write_text("1 2")
    loaded = Loaded(file=str(file))
    run(loaded)
    file.write_text("4")
    again()
    with pytest.raises(SettingsDifferError) as told:
        loaded.complete()
    command = shlex.split(str(told.value).partition("forget the old results (")[2].partition(") and run")[0])
    assert session.current().warehouse.count("loaded", loaded.key) == 2
    assert clear.main([*command[1:], "--module", __name__]) == 0
    again()
    assert not [dataset for dataset in loaded.datasets() if dataset.exists()]
    run(loaded)
    assert loaded.query("SELECT n FROM loaded").to_pylist() == [{"n": 4}]


def test_a_damaged_whole_table_is_mended_by_the_command_as_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for by bin/query with flags, which the printed command repeats."""
    get_config().set("millrace", "storage", str(tmp_path / "storage {x}=1"))
    (tmp_path / "numbers").write_text("1 2")
    with session.use(Session()):
        run(Loaded(file=str(tmp_path / "numbers")))
        [place] = (tmp_path / "storage {x}=1/loaded").rglob("*.parquet")
    get_config().remove_option("millrace", "storage")
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    flags = ["--module", __name__, "--millrace-storage", str(tmp_path / "storage {x}=1")]
    assert query.main(["SELECT n FROM loaded", *flags]) == 1
    printed = shlex.split(capsys.readouterr().err.partition(" anew: ")[2].partition(", then")[0])
    assert {*flags} <= {*printed}
    assert clear.main(printed[printed.index("loaded/") :]) == 0
    assert not place.exists()


class Asking(Stage):
    """What is made of something that can't be asked."""

    writes = ("asking",)

    def versions(self) -> Mapping[str, str]:
        raise SourceError("the server is down")

    def execute(self, claim: Claim) -> Outcome:
        return self.empty("nothing_came")


def test_what_cannot_be_asked_changes_nothing(again: Again) -> None:
    """A complete result stays complete while the server that its source lies on is down."""
    run(Asking())
    again()
    assert Asking().complete()


class OfDay(Asking):
    """What is made of a file of its day."""

    writes = ("of_day",)
    date: datetime.date = Day()

    def versions(self) -> Mapping[str, str]:
        return {f"file of {self.date}": "a"}


class OfDays(Asking):
    """What is made of two days."""

    writes = ("of_days",)

    def versions(self) -> Mapping[str, str]:
        return {}

    def requires(self) -> list[OfDay]:
        return [OfDay(date=datetime.date(2026, 11, day)) for day in (18, 19)]


def test_what_is_made_of_several_days_knows_what_each_was_made_of(again: Again) -> None:
    assert identity.versions(OfDays()) == {"file of 2026-11-18": "a", "file of 2026-11-19": "a"}


def test_a_table_that_is_not_there_is_told(again: Again) -> None:
    with pytest.raises(QueryError, match="there is no table loaded; there are: none yet"):
        run(TableStage(table="loaded"))
