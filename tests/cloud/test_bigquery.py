"""The warehouse in BigQuery, through Google's client, against the local BigQuery and Cloud Storage."""

import contextlib
import datetime
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import running
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as api
from luigi.configuration import get_config

from localcloud import DATASET, LOCATION, PROJECT
from localcloud.bigquery import BigQuery
from localcloud.bigquery_files import Objects, parquet
from localcloud.faults import Fault, FaultPlan
from localcloud.serving import Request, Response, json_response
from localcloud.storage import Storage
from millrace.common import folders
from millrace.common.tables import Table
from millrace.core import keys
from millrace.errors import AccessError, CostError, ManifestError, QueryError, SchemaError, ServiceError, SettingError
from millrace.gcloud import bigquery
from millrace.gcloud.bigquery import BigQueryWarehouse
from millrace.gcloud.clients import Google
from millrace.tasks import sections
from millrace.tasks.settings import origin

URI = f"bigquery://{PROJECT}/{DATASET}"
DAY = datetime.date(2026, 11, 19)
NEXT = datetime.date(2026, 11, 20)
WORDS = Table({"word": "STRING", "percent": "FLOAT64", "ts": "TIMESTAMP", "date": "DATE"}, cluster_by=["word"])
BUCKET = "gs://words"


def words(*names: str, date: datetime.date = DAY) -> pa.Table:
    """Rows for the table WORDS."""
    end = datetime.datetime.combine(date, datetime.time(), datetime.UTC) + datetime.timedelta(days=1)
    rows = [{"word": name, "percent": 0.5, "ts": end, "date": date} for name in names]
    return pa.Table.from_pylist(rows, schema=WORDS.schema())


class Place:
    """A local Cloud Storage and BigQuery with one fault plan, and a warehouse in it."""

    def __init__(self, kind: type[BigQuery] = BigQuery) -> None:
        self.faults = FaultPlan()
        self.storage = Storage(self.faults)
        self.bigquery = kind(storage_url=self.storage.worker_url, faults=self.faults)
        credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        self.client = api.Client(PROJECT, credentials=credentials, client_options={"api_endpoint": self.bigquery.url})
        self.warehouse = self.another()

    def another(self, uri: str = URI) -> BigQueryWarehouse:
        """A warehouse that has asked for nothing yet, by the settings at hand, as in another process."""
        objects, google = Objects(self.storage.worker_url), Google(sections.config())
        google.bigquery = self.client
        return BigQueryWarehouse(uri, google, lambda folder: objects.matching(f"{folder}/*"))

    def file(self, name: str, rows: pa.Table) -> str:
        """The URI of a Parquet file with these rows."""
        Objects(self.storage.worker_url).write(f"{BUCKET}/{name}.parquet", parquet(rows, "SNAPPY"))
        return f"{BUCKET}/{name}.parquet"

    def publish(self, digest: str, rows: pa.Table, date: datetime.date = DAY, name: str = "word_counts") -> None:
        """Publishes rows under a digest, in one file."""
        self.warehouse.publish(name, WORDS, keys.day(date), digest, [self.file(digest, rows)], rows.num_rows)

    def jobs(self, kind: str = "load") -> list[str]:
        """The ids of the jobs of a kind that were ever started, in order."""
        return [job.id for job in self.bigquery.jobs if job.kind == kind]

    def words(self, table: str = "word_counts") -> list[str]:
        """The words that lie in a table."""
        found = self.client.query_and_wait(f"SELECT word FROM {DATASET}.{table} ORDER BY word")
        return [row["word"] for row in found]

    def asked(self, since: int = 0) -> list[str]:
        """The API calls that BigQuery answered."""
        return [each.call for each in self.bigquery.requests[since:]]

    def table(self, table: str, schema: str, days: str | None = "date", kept: datetime.timedelta | None = None) -> None:
        """Makes a table by hand; schema: "name TYPE MODE, ...". days: what its partitions go by; kept: how long."""
        columns = [[*column.split(), "NULLABLE"][:3] for column in schema.split(", ")]
        fields = [api.SchemaField(name, kind, mode) for name, kind, mode in columns]
        made = api.Table(f"{PROJECT}.{DATASET}.{table}", fields)
        if days:
            expires = kept // datetime.timedelta(milliseconds=1) if kept else None
            made.time_partitioning = api.TimePartitioning(field=days, expiration_ms=expires)
        self.client.create_table(made)


@contextlib.contextmanager
def started(place: Place) -> Iterator[Place]:
    """Runs the services, with a bucket and a dataset."""
    with place.storage, place.bigquery:
        place.storage.create_bucket("words", LOCATION)
        place.bigquery.create_dataset(DATASET, LOCATION)
        yield place
        place.client.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def place() -> Iterator[Place]:
    """The services, with a bucket and a dataset."""
    with started(Place()) as place:
        yield place


@pytest.fixture
def setting() -> Iterator[Callable[[str, str, str], None]]:
    """Sets a setting, for each warehouse that is made from then on: section, key, value."""
    before: list[tuple[str, str]] = []

    def set_one(section: str, key: str, value: str) -> None:
        get_config().set(section, key, value)
        before.append((section, key))

    yield set_one
    for section, key in before:
        get_config().remove_option(section, key)


# --- publishing


def test_a_table_is_made_with_its_schema_days_clusters_and_label(place: Place) -> None:
    place.publish("a", words("x", "y"))
    table = place.client.get_table(f"{PROJECT}.{DATASET}.word_counts")
    assert [field.name for field in table.schema] == list(WORDS.columns)
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("DAY", "date")
    assert table.clustering_fields == ["word"]
    assert table.labels == {"millrace": "true"}
    assert place.words() == ["x", "y"]
    assert place.warehouse.rows({"word_counts": WORDS}) == {"word_counts": {folders.of(DAY): 2}}


def test_the_key_of_the_settings_encrypts_a_new_table(place: Place, setting: Callable[[str, str, str], None]) -> None:
    """And its loads, and results of queries; those of a table that has another key keep that."""
    key = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
    setting("gcp", "kms_key", key)
    place.warehouse = place.another()
    place.publish("a", words("x"))
    table = place.client.get_table(f"{PROJECT}.{DATASET}.word_counts")
    assert table.encryption_configuration.kms_key_name == key
    assert place.warehouse.query("SELECT word FROM word_counts").to_pylist() == [{"word": "x"}]
    setting("gcp", "kms_key", f"{key}2")
    place.warehouse = place.another()
    place.publish("b", words("y"))
    used = [
        (job.kind, job.configuration[job.kind]["destinationEncryptionConfiguration"]["kmsKeyName"])
        for job in place.bigquery.jobs
    ]
    assert used == [("load", key), ("query", key), ("load", key)]


def test_a_table_that_was_made_without_a_key_is_loaded_without_one(
    place: Place, setting: Callable[[str, str, str], None]
) -> None:
    """Also when the settings name one since: a partition is encrypted as its table is."""
    place.publish("a", words("x"))
    setting("gcp", "kms_key", "projects/p/locations/us/keyRings/r/cryptoKeys/k")
    place.warehouse = place.another()
    place.publish("b", words("y"))
    loads = [job.configuration["load"] for job in place.bigquery.jobs if job.kind == "load"]
    assert len(loads) == 2
    assert not any("destinationEncryptionConfiguration" in each for each in loads)


def test_a_load_makes_no_table(place: Place) -> None:
    """One that somebody deletes in between would come back without its days; it is made before, by us."""
    place.publish("a", words("x"))
    (job,) = [job for job in place.bigquery.jobs if job.kind == "load"]
    assert job.configuration["load"]["createDisposition"] == "CREATE_NEVER"


def test_a_column_that_somebody_added_stays(place: Place) -> None:
    """A load names it too, where it is, and is refused if it doesn't; a column of ours that is missing comes last."""
    place.table("word_counts", "word STRING, note STRING, date DATE, percent FLOAT64")
    place.publish("a", words("x"))
    found = place.client.query_and_wait(f"SELECT word, note, percent FROM {DATASET}.word_counts")
    assert [dict(row) for row in found] == [{"word": "x", "note": None, "percent": 0.5}]
    (job,) = [job for job in place.bigquery.jobs if job.kind == "load"]
    fields = [(each["name"], each["mode"]) for each in job.configuration["load"]["schema"]["fields"]]
    assert fields == [(name, "NULLABLE") for name in ("word", "note", "date", "percent", "ts")]


def test_only_the_partition_of_the_day_is_replaced(place: Place) -> None:
    place.publish("a", words("x"))
    place.publish("b", words("y", date=NEXT), NEXT)
    place.publish("c", words("z"))
    assert place.words() == ["y", "z"]


def test_the_same_digest_is_one_job(place: Place) -> None:
    for _ in range(3):
        place.publish("a", words("x"))
        place.publish("b", words("y", date=NEXT), NEXT)
    assert len(place.jobs()) == 2
    assert place.words() == ["x", "y"]


def test_an_old_digest_is_loaded_again_if_another_was_since(place: Place) -> None:
    """A, B with as many rows, A: the partition holds A's rows, by a third job; and again B, and again A."""
    for count, (digest, word) in enumerate([("a", "x"), ("b", "y"), ("a", "x"), ("b", "y"), ("a", "x")], 1):
        place.publish(digest, words(word))
        place.publish(digest, words(word))
        assert place.words() == [word]
        assert len(place.jobs()) == count
    assert len(set(place.jobs())) == 5


def test_a_digest_is_loaded_again_after_delete(place: Place) -> None:
    place.publish("a", words("x"))
    place.warehouse.delete("word_counts", keys.day(DAY))
    assert place.words() == []
    place.publish("a", words("x"))
    assert place.words() == ["x"]


@pytest.mark.parametrize("files", [True, False], ids=["an empty file", "no file"])
def test_no_rows_make_an_empty_partition_of_a_table_that_is_there(place: Place, files: bool) -> None:
    place.publish("a", words("x"))
    for name in ("word_counts", "fresh"):
        uris = [place.file("b", words())] if files else []
        place.warehouse.publish(name, WORDS, keys.day(DAY), "b", uris, 0)
        place.warehouse.publish(name, WORDS, keys.day(DAY), "b", uris, 0)
        assert place.words(name) == []
    assert place.warehouse.tables() == ["fresh", "word_counts"]
    assert place.warehouse.columns() == dict.fromkeys(("fresh", "word_counts"), WORDS.columns)
    assert place.warehouse.rows({"word_counts": WORDS}).get("word_counts", {}).get(folders.of(DAY), 0) == 0


def test_rows_of_another_day_are_refused(place: Place) -> None:
    with pytest.raises(ManifestError, match=r"word_counts\$20261119 .*20261119"):
        place.publish("a", words("x", date=NEXT))
    assert place.words() == []
    assert len(place.jobs()) == 1


def test_other_rows_than_the_manifest_says_are_an_error(place: Place) -> None:
    with pytest.raises(
        ManifestError, match="got 2 rows for 2026-11-19 from gs://words/a.parquet, but its manifest says 3"
    ):
        place.warehouse.publish("word_counts", WORDS, keys.day(DAY), "a", [place.file("a", words("x", "y"))], 3)


class Curt(BigQuery):
    """Leaves out of its answers how many rows a load wrote."""

    def handle(self, request: Request) -> Response:
        response = super().handle(request)
        shown = json.loads(response.body) if request.call in ("jobs.insert", "jobs.get") else {}
        if "outputRows" not in shown.get("statistics", {}).get("load", {}):
            return response
        del shown["statistics"]["load"]["outputRows"]
        return json_response(shown)


def test_a_load_that_does_not_say_how_many_rows_it_wrote_is_counted(setting: Callable[[str, str, str], None]) -> None:
    """By the rows of the partition."""
    with started(Place(Curt)) as place:
        place.publish("a", words("x", "y"))
        with pytest.raises(ManifestError, match=r"got 2 rows for 2026-11-19 .* but its manifest says 1,000"):
            place.warehouse.publish("word_counts", WORDS, keys.day(DAY), "b", [place.file("b", words("x", "y"))], 1000)
        with pytest.raises(ManifestError, match=r"got 0 rows for 2026-11-19 .* but its manifest says 1,000"):
            place.warehouse.publish("word_counts", WORDS, keys.day(DAY), "c", [place.file("c", words())], 1000)


def test_a_file_with_other_types_is_an_error(place: Place) -> None:
    numbers = pa.table({"word": pa.array([1]), "date": pa.array([DAY])})
    with pytest.raises(ManifestError, match=r"word_counts\$20261119 can't be loaded from .*Field 'word'.*stage again"):
        place.publish("a", numbers)
    assert len(place.jobs()) == 1


def test_a_job_has_a_valid_id_whatever_the_table_is_called(place: Place) -> None:
    place.publish("a", words("x"), name="my täble-" + "x" * 500)
    (job,) = place.jobs()
    assert re.fullmatch(r"millrace_load_my_t_ble-x+_20261119_[0-9a-f]{16}", job)
    assert len(job) < 300


def test_a_file_that_is_gone_is_an_error(place: Place) -> None:
    with pytest.raises(ManifestError, match="gs://words/gone.parquet"):
        place.warehouse.publish("word_counts", WORDS, keys.day(DAY), "a", [f"{BUCKET}/gone.parquet"], 1)


def test_a_job_that_failed_is_not_in_the_way_of_a_later_run(place: Place) -> None:
    gone = f"{BUCKET}/a.parquet"
    for _ in range(2):
        with pytest.raises(ManifestError):
            place.warehouse.publish("word_counts", WORDS, keys.day(DAY), "a", [gone], 1)
    place.publish("a", words("x"))
    place.publish("a", words("x"))
    assert place.words() == ["x"]
    assert [job.rpartition("_")[2] for job in place.jobs()][1:] == ["2", "3"]


@pytest.mark.parametrize("kind", ["lost", "cut", "status"])
@pytest.mark.parametrize("call", ["tables.get", "tables.insert", "jobs.insert", "jobs.get", "datasets.get"])
def test_one_failed_call_changes_nothing(place: Place, call: str, kind: Any) -> None:
    """Above all the lost answer to the start of the load: it is one job, its rows there once."""
    place.faults.at(1, Fault(kind), call=call)
    place.publish("a", words("x", "y"))
    assert place.words() == ["x", "y"]
    assert len(place.jobs()) == 1


def test_a_job_that_is_there_but_not_found_yet_is_waited_for(place: Place) -> None:
    """The answer to its start was lost, "exists already" comes next, and then that there is none."""
    place.bigquery.hide_jobs(2)
    place.faults.at(1, Fault("lost"), call="jobs.insert")
    place.publish("a", words("x"))
    assert place.asked().count("jobs.get") == 3
    assert place.words() == ["x"]
    assert len(place.jobs()) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_fifth_of_all_calls_may_fail(place: Place, seed: int) -> None:
    place.faults.randomly(0.2, seed)
    for _ in range(2):
        place.publish("a", words("x"))
        place.publish("b", words("y", date=NEXT), NEXT)
        assert place.warehouse.rows({"word_counts": WORDS}) == {
            "word_counts": {folders.of(DAY): 1, folders.of(NEXT): 1}
        }
        place.warehouse.check({"word_counts": WORDS})
        found = place.warehouse.query("SELECT word FROM word_counts WHERE date = @date", {"date": DAY})
        assert found.to_pylist() == [{"word": "x"}]
    place.faults.clear()
    assert place.words() == ["x", "y"]
    assert len(place.jobs()) == 2


_PUBLISH = """
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from millrace.common.tables import Table
from millrace.core.config import Config
from millrace.core import keys
from millrace.gcloud.clients import Google
from millrace.gcloud.bigquery import BigQueryWarehouse
import datetime
url, uri, project, file, rows, columns = sys.argv[1:]
client = bigquery.Client(project, credentials=AnonymousCredentials(), client_options={"api_endpoint": url})
table = Table(dict(column.split() for column in columns.split(",")), ["word"])
google = Google(Config())
google.bigquery = client
warehouse = BigQueryWarehouse(uri, google, lambda folder: [])
print("ready", flush=True)
sys.stdin.readline()
warehouse.publish("word_counts", table, keys.day(datetime.date(2026, 11, 19)), "a", [file], int(rows))
"""


def test_two_processes_that_publish_at_once_are_one_job(place: Place) -> None:
    columns = ",".join(f"{name} {kind}" for name, kind in WORDS.columns.items())
    arguments = [place.bigquery.url, URI, PROJECT, place.file("a", words("x", "y")), "2", columns]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", _PUBLISH, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=running.ROOT,
            text=True,
        )
        for _ in range(2)
    ]
    for each in both:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    for each in both:
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in both:
        each.communicate(timeout=60)
        assert each.returncode == 0
    assert len(place.jobs()) == 1
    assert place.words() == ["x", "y"]


def test_columns_may_be_more_or_fewer(place: Place) -> None:
    """A nullable column that the table has besides stays empty; one that it lacks is added."""
    place.table("word_counts", "word STRING, note STRING, ts TIMESTAMP, date DATE")
    place.warehouse.check({"word_counts": WORDS})
    place.publish("a", words("x"))
    found = place.warehouse.query("SELECT word, note, percent FROM word_counts")
    assert found.to_pylist() == [{"word": "x", "note": None, "percent": 0.5}]


@pytest.mark.parametrize(
    ("schema", "days", "said"),
    [
        (
            "word INT64, percent FLOAT64, ts TIMESTAMP, date DATE",
            "date",
            ["column word is INT64 NULLABLE and should be STRING NULLABLE"],
        ),
        (
            "word STRING REQUIRED, percent FLOAT64 REPEATED, ts TIMESTAMP, date DATE",
            "date",
            ["column word is STRING REQUIRED", "column percent is FLOAT64 REPEATED and should be FLOAT64 NULLABLE"],
        ),
        (
            "term STRING, percent FLOAT64, ts TIMESTAMP, date DATE",
            "date",
            ["column word STRING is missing, as if it had been renamed to term"],
        ),
        ("word STRING, must STRING REQUIRED, ts TIMESTAMP, date DATE", "date", ["column must is REQUIRED, but no row"]),
        ("word STRING, percent FLOAT64, ts TIMESTAMP, date DATE", None, ["partitioned not by day", "DAY of date"]),
        ("word STRING, percent FLOAT64, ts TIMESTAMP, date DATE", "ts", ["by DAY of ts", "should be by DAY of date"]),
    ],
)
def test_a_table_that_differs_is_shown_and_left_alone(
    place: Place, schema: str, days: str | None, said: Sequence[str]
) -> None:
    place.table("word_counts", schema, days)
    calls: Mapping[str, Callable[[], None]] = {
        "check": lambda: place.warehouse.check({"urls": WORDS, "word_counts": WORDS}),
        "publish": lambda: place.publish("a", words("x")),
    }
    for call in calls.values():
        with pytest.raises(SchemaError) as error:
            call()
        for each in (*said, f"{PROJECT}.{DATASET}.word_counts", "[millrace]"):
            assert each in str(error.value)
    assert place.jobs() == []
    assert place.warehouse.tables() == ["word_counts"]


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED_VIEW"])
def test_a_view_is_no_table_to_load(place: Place, kind: str) -> None:
    """Also one with the table's columns and days."""
    columns = ", ".join(f"{name} {kind}" for name, kind in WORDS.columns.items())
    place.table("other", columns)
    view = api.Table(f"{PROJECT}.{DATASET}.word_counts")
    if kind == "VIEW":
        view.view_query = f"SELECT * FROM {DATASET}.other"
    else:
        view.mview_query = f"SELECT * FROM {DATASET}.other"
        view.time_partitioning = api.TimePartitioning(field="date")
    place.client.create_table(view)
    calls: Sequence[Callable[[], None]] = (
        lambda: place.warehouse.check({"word_counts": WORDS}),
        lambda: place.publish("a", words("x")),
    )
    for call in calls:
        with pytest.raises(SchemaError, match=f"word_counts: it is a {kind} and should be a table"):
            call()
    assert place.jobs() == []
    assert place.warehouse.tables() == ["other"]


def test_check_changes_nothing_and_asks_hardly_more_than_once_a_table(place: Place) -> None:
    """One that is there is asked twice: what it is like, and whether it may be filled."""
    place.publish("a", words("x"))
    place.warehouse = place.another()
    since = len(place.bigquery.requests)
    place.warehouse.check({"word_counts": WORDS, "b": WORDS, "c": WORDS})
    asked = ["datasets.get", "jobs.insert", "tables.get", "tables.get", "tables.get", "tables.testIamPermissions"]
    assert sorted(place.asked(since)) == asked
    assert place.warehouse.tables() == ["word_counts"]


def test_a_job_that_always_fails_in_passing_ends_and_the_next_run_goes_on(
    place: Place, setting: Callable[[str, str, str], None]
) -> None:
    setting("gcp", "patience", "1")
    place.warehouse = place.another()
    place.bigquery.fail_jobs("load", "backendError", times=1000)
    with pytest.raises(ServiceError, match="backendError"):
        place.publish("a", words("x"))
    assert 2 <= (failed := len(place.jobs())) < 1000
    place.bigquery.fail_jobs("load", "backendError", times=0)
    place.publish("a", words("x"))
    assert place.words() == ["x"]
    assert len(place.jobs()) == failed + 1


def test_a_table_that_many_write_at_once_is_waited_for(place: Place) -> None:
    """BigQuery fails the jobs that are above a table's rate; five in a row are far from [gcp] patience."""
    place.bigquery.fail_jobs("load", "rateLimitExceeded", times=5)
    place.publish("a", words("x"))
    assert place.words() == ["x"]
    assert len(place.jobs()) == 6


def test_however_many_jobs_have_failed_another_is_started(place: Place) -> None:
    """As those of a cron that ran all night against a quota."""
    place.bigquery.fail_jobs("load", "quotaExceeded", times=1)
    with pytest.raises(ServiceError, match="quotaExceeded"):
        place.publish("a", words("x"))
    (first,) = place.jobs()
    place.bigquery.fail_jobs("load", "quotaExceeded", times=120)
    for number in range(2, 122):
        place.client.load_table_from_uri(f"{BUCKET}/a.parquet", f"{DATASET}.word_counts", job_id=f"{first}_{number}")
    place.publish("a", words("x"))
    assert place.words() == ["x"]
    assert place.jobs()[-1] == f"{first}_122"


def test_a_job_of_another_account_is_not_in_the_way(place: Place) -> None:
    """BigQuery shows a job only to who started it: a person's first run must not stop cron's."""
    place.bigquery.sign_in("somebody@example.com")
    place.publish("a", words("x"))
    place.warehouse.delete("word_counts", keys.day(DAY))
    place.bigquery.sign_in("launcher@example.com")
    for _ in range(2):
        place.publish("a", words("x"))
        assert place.words() == ["x"]
    assert len(place.jobs()) == 2


def test_a_table_that_would_drop_the_day_at_once_is_told_of_before_loading(place: Place) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    young, old = today - datetime.timedelta(days=5), today - datetime.timedelta(days=15)
    columns = ", ".join(f"{name} {kind}" for name, kind in WORDS.columns.items())
    place.table("word_counts", columns, kept=datetime.timedelta(days=10))
    with pytest.raises(SchemaError, match=rf"word_counts drops each day 10 days after .* can't hold {old}; ask for"):
        place.publish("a", words("x", date=old), old)
    assert place.jobs() == []
    place.publish("b", words("y", date=young), young)
    assert place.warehouse.rows({"word_counts": WORDS}) == {"word_counts": {folders.of(young): 1}}
    for uris in ([], [place.file("c", words())]):
        place.warehouse.publish("word_counts", WORDS, keys.day(old), "c", uris, 0)


@pytest.mark.parametrize("reason", ["quotaExceeded", "stopped", "accessDenied"])
def test_a_job_that_fails_otherwise_is_not_tried_again_at_once(place: Place, reason: str) -> None:
    place.bigquery.fail_jobs("load", reason, times=1)
    with pytest.raises(
        AccessError if reason == "accessDenied" else ServiceError, match="was told to let this job fail"
    ):
        place.publish("a", words("x"))
    assert len(place.jobs()) == 1
    place.publish("a", words("x"))
    assert place.words() == ["x"]


def test_no_secret_of_a_jobs_error_is_told(place: Place) -> None:
    message = "could not read https://h/x?X-Goog-Signature=0123456789abcdef&y=1"
    for reason, kind in {"stopped": ServiceError, "accessDenied": AccessError, "invalid": ManifestError}.items():
        place.bigquery.fail_jobs("load", reason, times=1, message=message)
        with pytest.raises(kind, match="could not read https://h/x") as error:
            place.publish("a", words("x"))
        assert "0123456789abcdef" not in str(error.value)


# --- the dataset


def test_a_dataset_that_does_not_exist_is_one_clear_error(place: Place) -> None:
    warehouse = place.another(f"bigquery://{PROJECT}/nowhere")
    calls: Sequence[Callable[[], object]] = (
        lambda: warehouse.publish("t", WORDS, keys.day(DAY), "a", [], 0),
        lambda: warehouse.check({"t": WORDS}),
        lambda: warehouse.query("SELECT 1 AS one"),
        lambda: warehouse.export("t", keys.day(DAY), f"{BUCKET}/out"),
        lambda: warehouse.rows({"t": WORDS}),
        warehouse.tables,
    )
    for call in calls:
        with pytest.raises(SettingError) as error:
            call()
        assert f"dataset {PROJECT}.nowhere does not exist" in str(error.value)
        assert f"in [millrace], {origin('millrace', 'warehouse')}" in str(error.value)
        assert f"`bq --location=US mk --dataset {PROJECT}:nowhere`" in str(error.value)
    warehouse.delete("t", keys.day(DAY))


def test_a_location_that_is_not_the_datasets_is_an_error_with_both(
    place: Place, setting: Callable[[str, str, str], None]
) -> None:
    setting("bigquery", "location", "EU")
    told = re.escape(f"lies in US, but location = EU in [bigquery], {origin('bigquery', 'location')}")
    with pytest.raises(SettingError, match=told):
        place.another().check({"word_counts": WORDS})
    setting("bigquery", "location", "us")
    assert place.another().location() == "US"


def test_jobs_run_where_the_dataset_lies(place: Place) -> None:
    place.bigquery.create_dataset("far", "europe-west1")
    place.storage.create_bucket("far", "europe-west1")
    warehouse = place.another(f"bigquery://{PROJECT}/far")
    Objects(place.storage.worker_url).write("gs://far/a.parquet", parquet(words("x"), "SNAPPY"))
    for _ in range(2):
        warehouse.publish("word_counts", WORDS, keys.day(DAY), "a", ["gs://far/a.parquet"], 1)
    assert warehouse.location() == "europe-west1"
    assert warehouse.rows({"word_counts": WORDS}) == {"word_counts": {folders.of(DAY): 1}}
    assert warehouse.query("SELECT word FROM word_counts").to_pylist() == [{"word": "x"}]
    assert len(warehouse.export("word_counts", keys.day(DAY), "gs://far/out")) == 1
    warehouse.check({"word_counts": WORDS})
    assert {*place.bigquery.asked_locations} == {"europe-west1"}, "left out, it is inferred, but not everywhere"


def test_a_bucket_in_another_place_than_the_dataset_is_a_matter_of_settings(place: Place) -> None:
    """One file is named, and the doctor, who says what to do."""
    place.bigquery.create_dataset("far", "europe-west1")
    files = [place.file(name, words("x")) for name in "ab"]
    said = rf"word_counts\$20261119 can't be loaded from {files[0]}: .*different locations.*bin/doctor says"
    with pytest.raises(SettingError, match=said):
        place.another(f"bigquery://{PROJECT}/far").publish("word_counts", WORDS, keys.day(DAY), "a", files, 2)


def test_a_dataset_that_was_made_anew_elsewhere_gets_jobs_of_its_own(place: Place) -> None:
    """Their ids differ: one that is taken in the whole project could not be looked at from there."""
    place.publish("a", words("x"))
    place.client.delete_dataset(f"{PROJECT}.{DATASET}", delete_contents=True)
    place.bigquery.create_dataset(DATASET, "europe-west1")
    place.storage.create_bucket("far", "europe-west1")
    Objects(place.storage.worker_url).write("gs://far/a.parquet", parquet(words("x"), "SNAPPY"))
    place.another().publish("word_counts", WORDS, keys.day(DAY), "a", ["gs://far/a.parquet"], 1)
    assert place.words() == ["x"]
    assert len({*place.jobs()}) == 2


@pytest.mark.parametrize(
    "permission", ["datasets.get", "tables.get", "tables.create", "tables.updateData", "jobs.create"]
)
def test_a_missing_permission_is_an_access_error(place: Place, permission: str) -> None:
    place.bigquery.deny(f"bigquery.{permission}")
    with pytest.raises(AccessError, match=f"permission is missing .*bigquery.{permission}.*bin/doctor"):
        place.publish("a", words("x"))
    assert place.jobs() == []
    place.bigquery.allow(f"bigquery.{permission}")
    place.publish("a", words("x"))
    assert place.words() == ["x"]


@pytest.mark.parametrize("permission", ["datasets.get", "tables.get", "jobs.create"])
def test_check_finds_a_missing_permission(place: Place, permission: str) -> None:
    place.publish("a", words("x"))
    place.bigquery.deny(f"bigquery.{permission}")
    with pytest.raises(AccessError, match=f"permission is missing .*bigquery.{permission}"):
        place.another().check({"word_counts": WORDS})


# --- reading


def test_rows_of_a_year_take_two_requests_and_then_one(place: Place) -> None:
    days = [DAY - datetime.timedelta(days=back) for back in range(365)]
    rows = pa.concat_tables([words("x", date=day) for day in days])
    place.warehouse.publish("empty", WORDS, keys.day(DAY), "a", [], 0)
    for name in ("one", "two"):
        place.table(name, "word STRING, percent FLOAT64, ts TIMESTAMP, date DATE")
        config = api.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
        place.client.load_table_from_uri(place.file("year", rows), f"{DATASET}.{name}", job_config=config).result()
    place.warehouse = place.another()
    since = len(place.bigquery.requests)
    found = place.warehouse.rows({"one": WORDS, "two": WORDS, "empty": WORDS})
    assert {name: found.get(name, {}) for name in ("one", "two", "empty")} == {
        "one": dict.fromkeys(map(folders.of, days), 1),
        "two": dict.fromkeys(map(folders.of, days), 1),
        "empty": {},
    }
    assert len(place.asked(since)) == 2
    place.warehouse.rows({"one": WORDS})
    assert len(place.asked(since)) == 3


def test_rows_are_asked_of_the_named_tables_alone(place: Place) -> None:
    """BigQuery refuses to tell of more than 1,000 tables, and who else has tables in the dataset is not our affair."""
    place.publish("a", words("x"))
    place.warehouse.publish("other", WORDS, keys.day(DAY), "a", [place.file("other", words("y"))], 1)
    assert place.warehouse.rows({"word_counts": WORDS}) == {"word_counts": {folders.of(DAY): 1}}
    assert place.warehouse.rows({}) == {}


def test_rows_without_a_day_are_in_no_partition(place: Place) -> None:
    place.publish("a", words("x"))
    undated = pa.Table.from_pylist([{"word": "y"}], schema=WORDS.schema())
    config = api.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
    place.client.load_table_from_uri(
        place.file("undated", undated), f"{DATASET}.word_counts", job_config=config
    ).result()
    assert place.warehouse.rows({"word_counts": WORDS}) == {"word_counts": {folders.of(DAY): 1}}


def test_a_query_gives_what_one_on_one_machine_gives(place: Place) -> None:
    """The types of Arrow are the same: whole numbers, times without a zone."""
    place.publish("a", words("x", "y"))
    found = place.warehouse.query("SELECT COUNT(*) AS n, SUM(LENGTH(word)) AS s, MAX(ts) AS ts FROM word_counts")
    assert found.schema == pa.schema({"n": pa.int64(), "s": pa.int64(), "ts": pa.timestamp("us")})
    assert found.to_pylist() == [{"n": 2, "s": 2, "ts": datetime.datetime(2026, 11, 20)}]


def test_parameters_have_the_types_of_their_values(place: Place) -> None:
    given: Mapping[str, object] = {
        "a": DAY,
        "b": 3,
        "c": 0.5,
        "d": "x'\"",
        "e": True,
        "f": datetime.datetime(2026, 11, 19, 1, 2, 3),
    }
    found = place.warehouse.query("SELECT @a AS a, @b AS b, @c AS c, @d AS d, @e AS e, @f AS f", given)
    assert found.to_pylist() == [given]
    with pytest.raises(QueryError, match=r"parameter @a is \[1\], a list"):
        place.warehouse.query("SELECT @a AS a", {"a": [1]})


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", "not a query: "),
        ("SELECT 1 AS a; SELECT 2 AS b", "a query is one SELECT; the tables are written by the stages alone"),
        ("DELETE FROM word_counts WHERE true", "a query is one SELECT; the tables are written by the stages alone"),
        ("SELECT 1 AS a, 2 AS a", "two columns have one name in a, a; name them with AS"),
        ("SELECT * FROM wrds", "there is no table wrds; there are: word_counts"),
        ("SELECT wrd FROM word_counts", "the query can't be run: "),
    ],
)
def test_what_is_wrong_with_a_query_is_said_in_one_line(place: Place, sql: str, said: str) -> None:
    place.publish("a", words("x"))
    with pytest.raises(QueryError) as error:
        place.warehouse.query(sql)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
    assert "http" not in str(error.value)


def test_a_costly_query_is_not_run(place: Place, setting: Callable[[str, str, str], None]) -> None:
    place.publish("a", words(*(f"word {number}" for number in range(1000))))
    setting("bigquery", "max_bytes_billed", "2000")
    place.warehouse = place.another()
    place.warehouse.location()  # asked beforehand, so that only the query is counted
    since = len(place.bigquery.requests)
    with pytest.raises(CostError) as error:
        place.warehouse.query("SELECT word, percent FROM word_counts")
    assert "would read 17.5 KiB (17,890 bytes)" in str(error.value)
    named = f"max_bytes_billed in [bigquery], {origin('bigquery', 'max_bytes_billed')}"
    assert f"{named}, allows 2.0 KiB (2,000 bytes)" in str(error.value)
    assert place.asked(since) == ["jobs.insert"]
    assert place.warehouse.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
    setting("bigquery", "max_bytes_billed", "20000")  # enough to read, but 10 MiB is the least that is billed
    place.warehouse = place.another()
    with pytest.raises(CostError, match=r"limit for bytes billed: 20000\. 10485760 or higher.*allows 19\.5 KiB"):
        place.warehouse.query("SELECT word, percent FROM word_counts")


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB (1,024 bytes)"),
        (10 << 20, "10.0 MiB (10,485,760 bytes)"),
        (3 << 29, "1.5 GiB (1,610,612,736 bytes)"),
        (3 << 40, "3.0 TiB (3,298,534,883,328 bytes)"),
        (2000 << 40, "2,000.0 TiB (2,199,023,255,552,000 bytes)"),
    ],
)
def test_a_size_is_told_for_people_and_exactly(count: int, said: str) -> None:
    assert bigquery._size(count) == said


def test_tables_are_listed_in_order(place: Place) -> None:
    for name in ("urls", "emerging_pairs", "word_counts"):
        place.warehouse.publish(name, WORDS, keys.day(DAY), "a", [], 0)
    assert place.warehouse.tables() == ["emerging_pairs", "urls", "word_counts"]


# --- exporting


def test_a_partition_is_exported_once(place: Place, tmp_path: Path) -> None:
    """The files hold the day's rows, and the same export is the same job, until the table changes."""
    place.publish("a", words("x", "y"))
    place.publish("b", words("z", date=NEXT), NEXT)
    place.faults.at(1, Fault("lost"), call="jobs.insert")
    first = place.warehouse.export("word_counts", keys.day(DAY), f"{BUCKET}/out")
    assert place.warehouse.export("word_counts", keys.day(DAY), f"{BUCKET}/out") == first
    assert first == [f"{BUCKET}/out/part-000000000000.parquet"]
    assert len(place.jobs("extract")) == 1
    place.warehouse.publish("again", WORDS, keys.day(DAY), "c", first, 2)
    assert place.words("again") == ["x", "y"]
    place.publish("d", words("w"))
    again = place.warehouse.export("word_counts", keys.day(DAY), f"{BUCKET}/out2")
    place.warehouse.publish("again", WORDS, keys.day(DAY), "e", again, 1)
    assert place.words("again") == ["w"]


def test_an_export_of_no_partition_is_no_file_and_of_no_table_an_error(place: Place) -> None:
    place.publish("a", words("x"))
    assert place.warehouse.export("word_counts", keys.day(NEXT), f"{BUCKET}/out") == []
    with pytest.raises(QueryError, match="there is no table wrds; there are: word_counts"):
        place.warehouse.export("wrds", keys.day(DAY), f"{BUCKET}/out")


def test_an_export_that_fails_is_told_in_bigquerys_words(place: Place) -> None:
    place.publish("a", words("x"))
    place.bigquery.fail_jobs("extract", "invalid", times=1)
    said = rf"could not export .*word_counts for {DAY} to {BUCKET}/out: .*was told to let this job fail"
    with pytest.raises(QueryError, match=said):
        place.warehouse.export("word_counts", keys.day(DAY), f"{BUCKET}/out")


def test_deleting_is_of_one_day_and_may_be_repeated(place: Place) -> None:
    place.publish("a", words("x"))
    place.publish("b", words("y", date=NEXT), NEXT)
    place.faults.at(1, Fault("lost"), call="tables.delete")
    place.warehouse.delete("word_counts", keys.day(DAY))
    place.warehouse.delete("word_counts", keys.day(DAY))
    place.warehouse.delete("no_table", keys.day(DAY))
    assert place.words() == ["y"]
