"""The local BigQuery keeps the promises of BigQuery's documentation, through Google's own client."""

import datetime
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import google.auth.credentials
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from google.api_core import exceptions
from google.cloud import bigquery as api

from localcloud import PROJECT
from localcloud.bigquery import BigQuery
from localcloud.faults import Fault
from localcloud.storage import Storage

DAY = datetime.date(2026, 11, 19)
NEXT = datetime.date(2026, 11, 20)
SCHEMA = [api.SchemaField("word", "STRING"), api.SchemaField("count", "INT64"), api.SchemaField("date", "DATE")]
PARQUET = api.SourceFormat.PARQUET


class _Anyone(google.auth.credentials.AnonymousCredentials):
    """Credentials for a service that asks for none."""


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with Storage() as service:
        service.create_bucket("bucket")
        service.create_bucket("european", "EUROPE-WEST1")
        yield service


@pytest.fixture
def service(storage: Storage) -> Iterator[BigQuery]:
    with BigQuery(storage.worker_url) as running:
        running.create_dataset("d")
        yield running


@pytest.fixture
def client(service: BigQuery, monkeypatch: pytest.MonkeyPatch) -> Iterator[api.Client]:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", service.url)
    with api.Client(project=PROJECT, credentials=_Anyone()) as made:  # type: ignore[no-untyped-call]
        yield made


def _words(*rows: tuple[str, int, datetime.date | None]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.int64(), pa.date32())
    names = ("word", "count", "date")
    return pa.table({n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)})


def _file(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    return sink.getvalue()


def _put(storage: Storage, name: str, data: bytes, bucket: str = "bucket") -> str:
    query = {"uploadType": "media", "name": name}
    requests.post(f"{storage.worker_url}/upload/storage/v1/b/{bucket}/o", params=query, data=data).raise_for_status()
    return f"gs://{bucket}/{name}"


def _table(client: api.Client, name: str = "words", **about: Any) -> api.Table:
    table = api.Table(f"{PROJECT}.d.{name}", SCHEMA)
    table.time_partitioning = api.TimePartitioning(field="date")
    table.clustering_fields = ["word"]
    for key, value in about.items():
        setattr(table, key, value)
    return client.create_table(table)


def _load(
    client: api.Client, uris: str | Sequence[str], table: str = "d.words", job_id: str | None = None, **config: Any
) -> api.LoadJob:
    job = client.load_table_from_uri(
        uris, table, job_id=job_id, job_config=api.LoadJobConfig(**{"source_format": PARQUET, **config})
    )
    job.result()
    return job


def _replace(client: api.Client, uri: str, day: str = "20261119", **config: Any) -> api.LoadJob:
    return _load(client, uri, f"d.words${day}", write_disposition="WRITE_TRUNCATE", **config)


def _query(client: api.Client, sql: str, *parameters: Any, **config: Any) -> list[dict[str, Any]]:
    job = client.query(sql, job_config=api.QueryJobConfig(query_parameters=parameters, **config))
    return [dict(row) for row in job.result()]


def _reason(error: exceptions.GoogleAPICallError) -> str:
    return str(error.errors[0]["reason"])


# Datasets and tables


def test_a_dataset_is_in_us_unless_its_location_is_given_and_is_made_once(client: api.Client) -> None:
    assert client.create_dataset("first").location == "US"
    dataset = api.Dataset(f"{PROJECT}.second")
    dataset.location = "europe-west1"
    dataset.labels = {"team": "posts"}
    client.create_dataset(dataset)
    found = client.get_dataset("second")
    assert (found.location, found.labels) == ("europe-west1", {"team": "posts"})
    assert [each.dataset_id for each in client.list_datasets()] == ["d", "first", "second"]
    with pytest.raises(exceptions.Conflict, match="Already Exists: Dataset millrace-test:first"):
        client.create_dataset("first")
    assert client.create_dataset("first", exists_ok=True).dataset_id == "first"


def test_a_dataset_with_tables_is_deleted_only_with_its_contents(client: api.Client) -> None:
    _table(client)
    with pytest.raises(exceptions.BadRequest, match="still in use"):
        client.delete_dataset("d")
    client.delete_dataset("d", delete_contents=True)
    with pytest.raises(exceptions.NotFound, match="Not found: Dataset millrace-test:d"):
        client.get_dataset("d")


def test_a_table_keeps_what_it_was_made_with_and_is_made_once(client: api.Client) -> None:
    _table(client, labels={"by": "millrace"}, description="words")
    found = client.get_table("d.words")
    assert [(f.name, f.field_type, f.mode) for f in found.schema] == [
        ("word", "STRING", "NULLABLE"),
        ("count", "INTEGER", "NULLABLE"),
        ("date", "DATE", "NULLABLE"),
    ]
    assert found.time_partitioning.type_ == "DAY"
    assert found.time_partitioning.field == "date"
    assert found.clustering_fields == ["word"]
    assert (found.labels, found.description, found.location) == ({"by": "millrace"}, "words", "US")
    assert (found.num_rows, found.num_bytes) == (0, 0)
    assert [each.table_id for each in client.list_tables("d")] == ["words"]
    with pytest.raises(exceptions.Conflict, match=r"Already Exists: Table millrace-test:d\.words"):
        _table(client)
    with pytest.raises(exceptions.NotFound, match="Not found: Table"):
        client.get_table("d.other")


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED_VIEW"])
def test_a_view_is_shown_as_one_and_takes_no_rows(
    client: api.Client, storage: Storage, service: BigQuery, kind: str
) -> None:
    _table(client)
    rows = _put(storage, "seen.parquet", _file(_words(("a", 1, DAY))))
    _load(client, rows)
    made = api.Table(f"{PROJECT}.d.seen")
    if kind == "VIEW":
        made.view_query = "SELECT word, date FROM d.words"
    else:
        made.mview_query = "SELECT word, date FROM d.words"
        made.time_partitioning = api.TimePartitioning(field="date")
    client.create_table(made)
    found = client.get_table("d.seen")
    assert (found.table_type, [each.name for each in found.schema]) == (kind, ["word", "date"])
    assert {each.table_id: each.table_type for each in client.list_tables("d")} == {"seen": kind, "words": "TABLE"}
    with pytest.raises(exceptions.BadRequest, match=f"not allowed for this operation because it is currently a {kind}"):
        _load(client, rows, "d.seen")
    listed = client.query("SELECT DISTINCT table_name FROM d.INFORMATION_SCHEMA.PARTITIONS", job_retry=None)
    assert [row["table_name"] for row in listed] == ["words"]


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"time_partitioning": api.TimePartitioning(field="word")}, "is no date or time"),
        ({"time_partitioning": api.TimePartitioning(field="day")}, "partitioning cannot be found"),
        ({"clustering_fields": ["nothing"]}, "clustering cannot be found"),
    ],
)
def test_a_table_is_not_partitioned_or_clustered_by_what_it_has_not(
    client: api.Client, about: dict[str, Any], message: str
) -> None:
    with pytest.raises(exceptions.BadRequest, match=message):
        _table(client, **about)


def test_a_nullable_column_can_be_added_and_nothing_else_changed(client: api.Client, storage: Storage) -> None:
    table = _table(client)
    _load(client, _put(storage, "alter.parquet", _file(_words(("a", 1, DAY)))))
    table = client.get_table(table)
    table.schema = [*SCHEMA, api.SchemaField("note", "STRING")]
    assert [field.name for field in client.update_table(table, ["schema"]).schema][-1] == "note"
    assert _query(client, "SELECT word, note FROM d.words") == [{"word": "a", "note": None}]
    for schema, message in (
        (SCHEMA, "Field note is missing in new schema"),
        ([*table.schema, api.SchemaField("n", "STRING", mode="REQUIRED")], "Cannot add required fields"),
        ([api.SchemaField("word", "INT64"), *table.schema[1:]], "Field word has changed type from STRING to INTEGER"),
    ):
        table = client.get_table("d.words")
        table.schema = schema
        with pytest.raises(exceptions.BadRequest, match=message):
            client.update_table(table, ["schema"])


def test_an_update_with_the_etag_of_an_older_table_fails_the_precondition(client: api.Client) -> None:
    mine, yours = _table(client), client.get_table("d.words")
    yours.labels = {"by": "you"}
    client.update_table(yours, ["labels"])
    mine.labels = {"by": "me"}
    with pytest.raises(exceptions.PreconditionFailed):
        client.update_table(mine, ["labels"])
    assert client.get_table("d.words").labels == {"by": "you"}


# Loading


def test_files_are_loaded_by_several_uris_and_wildcards(client: api.Client, storage: Storage) -> None:
    for at, word in enumerate("abc"):
        _put(storage, f"many/part-{at}.parquet", _file(_words((word, at, DAY))))
    single = _put(storage, "single.parquet", _file(_words(("d", 3, NEXT))))
    job = _load(client, ["gs://bucket/many/part-*.parquet", single])
    assert (job.output_rows, job.input_files) == (4, 4)
    assert [row["word"] for row in _query(client, "SELECT word FROM d.words ORDER BY word")] == list("abcd")


def test_a_job_runs_when_it_is_inserted_and_is_done_later(client: api.Client, storage: Storage) -> None:
    _table(client)
    uri = _put(storage, "states.parquet", _file(_words(("a", 1, DAY))))
    job = client.load_table_from_uri(
        uri, "d.words", job_config=api.LoadJobConfig(source_format=PARQUET, labels={"stage": "count"})
    )
    assert job.state == "RUNNING"
    assert job.done()
    found = client.get_job(job.job_id)
    assert (found.state, found.error_result, found.labels) == ("DONE", None, {"stage": "count"})
    assert found.ended is not None
    assert [each.job_id for each in client.list_jobs()] == [job.job_id]
    assert client.cancel_job(job.job_id).state == "DONE"


def test_truncating_a_partition_replaces_that_partition_only(
    client: api.Client, storage: Storage, service: BigQuery
) -> None:
    _table(client)
    _load(client, _put(storage, "both.parquet", _file(_words(("a", 1, DAY), ("b", 2, NEXT)))))
    job = _replace(client, _put(storage, "new.parquet", _file(_words(("c", 3, DAY), ("d", 4, DAY)))))
    assert job.output_rows == 2
    assert [row["word"] for row in service.rows("d.words$20261119")] == ["c", "d"]
    assert [row["word"] for row in service.rows("d.words$20261120")] == ["b"]
    assert client.get_table("d.words$20261119").num_rows == 2
    assert client.get_table("d.words").num_rows == 3


def test_a_partition_that_is_older_than_the_table_keeps_them_is_gone(
    client: api.Client, storage: Storage, service: BigQuery
) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    young, old = today - datetime.timedelta(days=5), today - datetime.timedelta(days=15)
    _table(client, time_partitioning=api.TimePartitioning(field="date", expiration_ms=10 * 86_400_000))
    job = _load(client, _put(storage, "old.parquet", _file(_words(("a", 1, old), ("b", 2, young), ("c", 3, None)))))
    assert job.output_rows == 3
    assert [row["word"] for row in service.rows("d.words")] == ["b", "c"]


@pytest.mark.parametrize("day", [NEXT, None])
def test_rows_of_another_day_are_rejected_and_nothing_is_loaded(
    client: api.Client, storage: Storage, service: BigQuery, day: datetime.date | None
) -> None:
    _table(client)
    _replace(client, _put(storage, "good.parquet", _file(_words(("a", 1, DAY)))))
    uri = _put(storage, "wrong.parquet", _file(_words(("b", 2, DAY), ("c", 3, day))))
    with pytest.raises(exceptions.BadRequest, match="Some rows belong to different partitions"):
        _replace(client, uri)
    assert [row["word"] for row in service.rows("d.words")] == ["a"]


def test_a_file_without_rows_empties_a_partition(client: api.Client, storage: Storage, service: BigQuery) -> None:
    _table(client)
    _replace(client, _put(storage, "full.parquet", _file(_words(("a", 1, DAY)))))
    job = _replace(client, _put(storage, "empty.parquet", _file(_words())))
    assert job.output_rows == 0
    assert service.rows("d.words") == []
    assert client.get_table("d.words$20261119").num_rows == 0


def test_dispositions(client: api.Client, storage: Storage, service: BigQuery) -> None:
    """WRITE_APPEND adds, WRITE_EMPTY fails where rows are, WRITE_TRUNCATE replaces rows and schema; CREATE_NEVER
    fails where no table is.
    """
    uri = _put(storage, "one.parquet", _file(_words(("a", 1, DAY))))
    with pytest.raises(exceptions.NotFound, match=r"Not found: Table millrace-test:d\.words"):
        _load(client, uri, create_disposition="CREATE_NEVER")
    _load(client, uri, write_disposition="WRITE_EMPTY")
    _load(client, uri)
    assert len(service.rows("d.words")) == 2
    with pytest.raises(exceptions.Conflict, match="Already Exists: Table"):
        _load(client, uri, write_disposition="WRITE_EMPTY")
    other = _put(storage, "other.parquet", _file(pa.table({"x": [1.5]})))
    _load(client, other, write_disposition="WRITE_TRUNCATE")
    assert service.rows("d.words") == [{"x": 1.5}]


def test_a_table_is_created_by_a_load_with_the_partitions_that_the_job_says(
    client: api.Client, storage: Storage
) -> None:
    uri = _put(storage, "create.parquet", _file(_words(("a", 1, DAY))))
    _replace(client, uri, time_partitioning=api.TimePartitioning(field="date"), clustering_fields=["word"])
    table = client.get_table("d.words")
    assert (table.time_partitioning.field, table.clustering_fields) == ("date", ["word"])
    with pytest.raises(exceptions.BadRequest, match="Incompatible table partitioning specification"):
        _load(client, uri, time_partitioning=api.TimePartitioning(field="other"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            pa.table({"word": ["a"], "count": ["1"]}),
            "Field count has changed type from INTEGER to STRING",
        ),
        (pa.table({"word": ["a"], "more": [1]}), r"Cannot add fields \(field: more\)"),
    ],
)
def test_rows_of_another_schema_fail_the_job_with_the_field(
    client: api.Client, storage: Storage, service: BigQuery, rows: pa.Table, message: str
) -> None:
    _table(client)
    uri = _put(storage, "schema.parquet", _file(rows))
    job = client.load_table_from_uri(uri, "d.words", job_config=api.LoadJobConfig(source_format=PARQUET))
    with pytest.raises(exceptions.BadRequest, match=message):
        job.result()
    assert client.get_job(job.job_id).error_result["reason"] == "invalid"
    assert service.rows("d.words") == []


def test_a_column_that_must_have_a_value_is_not_loaded_as_one_that_need_not(
    client: api.Client, storage: Storage
) -> None:
    """Where the job gives the schema; else it is the file's own."""
    _table(client)
    rows = _words(("a", 1, DAY))
    required = rows.cast(pa.schema([each.with_nullable(each.name != "word") for each in rows.schema]))
    uri = _put(storage, "required.parquet", _file(required))
    with pytest.raises(exceptions.BadRequest, match="Field 'word' is specified as NULLABLE .* match REQUIRED"):
        _load(client, uri, schema=SCHEMA)


def test_a_load_may_add_nullable_fields_if_it_says_so(client: api.Client, storage: Storage, service: BigQuery) -> None:
    _table(client)
    _replace(client, _put(storage, "before.parquet", _file(_words(("a", 1, NEXT)))), day="20261120")
    rows = _words(("b", 2, DAY)).append_column("note", pa.array(["new"]))
    uri = _put(storage, "more.parquet", _file(rows))
    _replace(client, uri, schema_update_options=["ALLOW_FIELD_ADDITION"])
    assert [row["note"] for row in service.rows("d.words")] == [None, "new"]
    _replace(client, _put(storage, "less.parquet", _file(_words(("c", 3, DAY)))))
    assert {row["word"]: row["note"] for row in service.rows("d.words")} == {"a": None, "c": None}
    with pytest.raises(exceptions.BadRequest, match="Schema update options should only be specified"):
        _load(client, uri, write_disposition="WRITE_TRUNCATE", schema_update_options=["ALLOW_FIELD_ADDITION"])


@pytest.mark.parametrize("uri", ["gs://bucket/none.parquet", "gs://bucket/none-*", "gs://nowhere/x.parquet"])
def test_a_file_that_is_not_there_fails_the_job_with_not_found(client: api.Client, service: BigQuery, uri: str) -> None:
    _table(client)
    with pytest.raises(exceptions.NotFound, match="Not found: URI"):
        _load(client, uri)
    assert [(job.kind, job.error and job.error.reason) for job in service.jobs] == [("load", "notFound")]


def test_a_file_that_is_no_parquet_fails_the_job(client: api.Client, storage: Storage) -> None:
    with pytest.raises(exceptions.BadRequest, match="Error while reading data"):
        _load(client, _put(storage, "broken.parquet", b"not this"))


def test_bytes_are_uploaded_at_once_and_in_parts(client: api.Client, service: BigQuery) -> None:
    data = _file(_words(("a", 1, DAY)))
    for at, size in enumerate((len(data), None)):
        config = api.LoadJobConfig(source_format=PARQUET)
        job = client.load_table_from_file(
            io.BytesIO(data), "d.words", size=size, job_id=f"upload-{at}", job_config=config
        )
        job.result()
        with pytest.raises(exceptions.Conflict, match=f"Already Exists: Job millrace-test:US.upload-{at}"):
            client.load_table_from_file(
                io.BytesIO(data), "d.words", size=size, job_id=f"upload-{at}", job_config=config
            )
    assert [row["count"] for row in service.rows("d.words")] == [1, 1]


def test_text_is_loaded_by_the_tables_schema(client: api.Client, service: BigQuery) -> None:
    _table(client)
    lines: list[dict[str, Any]] = [{"word": "a", "count": 1, "date": "2026-11-19"}, {"word": "b", "count": "2"}]
    client.load_table_from_json(lines, "d.words", job_config=api.LoadJobConfig(schema=SCHEMA)).result()
    config = api.LoadJobConfig(source_format="CSV", skip_leading_rows=1)
    data = b'word,count,date\n"c,d",3,2026-11-20\n'
    client.load_table_from_file(io.BytesIO(data), "d.words", job_config=config).result()
    assert [tuple(row.values()) for row in service.rows("d.words")] == [
        ("a", 1, DAY),
        ("b", 2, None),
        ("c,d", 3, NEXT),
    ]
    with pytest.raises(exceptions.BadRequest, match="No such field: more"):
        client.load_table_from_json([{"more": 1}], "d.words", job_config=api.LoadJobConfig(schema=SCHEMA)).result()


# Job ids and locations


def test_a_job_id_is_used_once_whatever_the_job(client: api.Client, storage: Storage, service: BigQuery) -> None:
    uri = _put(storage, "ids.parquet", _file(_words(("a", 1, DAY))))
    _load(client, uri, job_id="load-1")
    again = "Already Exists: Job millrace-test:US.load-1"
    with pytest.raises(exceptions.Conflict, match=again) as raised:
        _load(client, uri, job_id="load-1")
    assert _reason(raised.value) == "duplicate"
    with pytest.raises(exceptions.Conflict, match=again):
        client.query("SELECT 1", job_id="load-1", job_retry=None)
    with pytest.raises(exceptions.Conflict, match=again):
        client.extract_table("d.words", "gs://bucket/x", job_id="load-1", job_config=_extract())
    with pytest.raises(exceptions.Conflict, match=again):
        client.copy_table("d.words", "d.copied", job_id="load-1")
    assert len(service.jobs) == len(service.rows("d.words")) == 1


def test_a_job_is_shown_to_the_account_that_started_it(client: api.Client, storage: Storage, service: BigQuery) -> None:
    uri = _put(storage, "ids.parquet", _file(_words(("a", 1, DAY))))
    _load(client, uri, job_id="load-1")
    service.sign_in("another@example.com")
    with pytest.raises(exceptions.Forbidden, match="does not have bigquery.jobs.get permission") as raised:
        client.get_job("load-1")
    assert _reason(raised.value) == "accessDenied"
    with pytest.raises(exceptions.Conflict):
        client.load_table_from_uri(uri, "d.words", job_id="load-1")


def test_of_jobs_that_race_with_one_id_exactly_one_runs(
    client: api.Client, storage: Storage, service: BigQuery
) -> None:
    uri = _put(storage, "race.parquet", _file(_words(("a", 1, DAY))))
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def race() -> None:
        start.wait()
        try:
            _load(client, uri, job_id="raced")
            outcomes.append("ran")
        except exceptions.Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == ["conflict"] * 7 + ["ran"]
    assert len(service.jobs) == len(service.rows("d.words")) == 1


def test_a_job_whose_answer_was_lost_is_there_once_and_its_retry_conflicts(
    client: api.Client, storage: Storage, service: BigQuery
) -> None:
    uri = _put(storage, "lost.parquet", _file(_words(("a", 1, DAY))))
    service.faults.at(1, Fault("lost"), call="jobs.insert")
    with pytest.raises(exceptions.Conflict):  # the client itself inserts it again
        _load(client, uri, job_id="lost")
    client.get_job("lost").result()
    assert len(service.jobs) == len(service.rows("d.words")) == 1


def test_a_job_that_was_just_created_may_not_be_found_for_a_while(
    client: api.Client, storage: Storage, service: BigQuery
) -> None:
    service.hide_jobs(2)
    uri = _put(storage, "new.parquet", _file(_words(("a", 1, DAY))))
    client.load_table_from_uri(uri, "d.words", job_id="new", job_config=api.LoadJobConfig(source_format=PARQUET))
    for _ in range(2):
        with pytest.raises(exceptions.NotFound, match="Not found: Job"):
            client.get_job("new")
    assert client.get_job("new").state == "DONE"


def test_who_starts_a_job_says_where_or_leaves_it_out(client: api.Client, service: BigQuery) -> None:
    """The service infers it then; what was said is kept for tests."""
    client.query("SELECT 1", location="EU", job_retry=None).result()
    client.query("SELECT 1", job_retry=None).result()
    client.query("SELECT 1", job_config=api.QueryJobConfig(dry_run=True), location="EU", job_retry=None)
    assert service.asked_locations == ["EU", "", "EU"]


def test_an_upload_whose_last_answer_was_lost_is_answered_the_same_again(client: api.Client, service: BigQuery) -> None:
    service.faults.at(1, Fault("lost"), call="jobs.insert")
    config = api.LoadJobConfig(source_format=PARQUET)
    client.load_table_from_file(io.BytesIO(_file(_words(("a", 1, DAY)))), "d.words", job_config=config).result()
    assert len(service.jobs) == len(service.rows("d.words")) == 1


def test_a_job_is_found_in_its_location_only(client: api.Client, storage: Storage, service: BigQuery) -> None:
    """Outside US and EU the location must be given to find a job."""
    service.create_dataset("far", "asia-east1")
    service.create_dataset("eu", "EU")
    client.query("SELECT 1", location="asia-east1", job_id="asian", job_retry=None).result()
    client.query("SELECT 1", location="EU", job_id="european", job_retry=None).result()
    assert client.get_job("european").location == "EU"
    assert client.get_job("asian", location="asia-east1").location == "asia-east1"
    for location in (None, "US"):
        with pytest.raises(exceptions.NotFound, match=r"Not found: Job millrace-test:(US\.)?asian"):
            client.get_job("asian", location=location)
    job = client.query("SELECT COUNT(*) FROM far.INFORMATION_SCHEMA.TABLES")
    assert job.location == "asia-east1"


def test_a_job_in_another_location_than_its_dataset_finds_no_dataset(
    client: api.Client, storage: Storage, service: BigQuery
) -> None:
    _table(client)
    uri = _put(storage, "far.parquet", _file(_words(("a", 1, DAY))))
    with pytest.raises(exceptions.NotFound, match="Dataset millrace-test:d was not found in location EU"):
        client.load_table_from_uri(uri, "d.words", location="EU")
    with pytest.raises(exceptions.NotFound, match="Dataset millrace-test:d was not found in location EU"):
        client.query("SELECT * FROM d.words", location="EU", job_retry=None).result()
    assert [job.kind for job in service.jobs] == ["query"]


def test_a_dataset_outside_us_takes_files_of_its_own_region_only(
    client: api.Client, storage: Storage, service: BigQuery
) -> None:
    service.create_dataset("west", "europe-west1")
    service.create_dataset("asia", "asia-east1")
    uri = _put(storage, "x.parquet", _file(_words(("a", 1, DAY))), "european")
    _load(client, uri, "west.t")
    _load(client, uri, "d.t")
    with pytest.raises(exceptions.BadRequest, match="Cannot read and write in different locations"):
        _load(client, uri, "asia.t")


# Queries


def test_a_query_reads_tables_however_they_are_named(client: api.Client, storage: Storage) -> None:
    _load(client, _put(storage, "q.parquet", _file(_words(("a", 1, DAY), ("b", 2, NEXT)))))
    for table in ("d.words", f"`{PROJECT}.d.words`", f"`{PROJECT}`.d.words", f"{PROJECT}.d.words AS w"):
        assert _query(client, f"SELECT SUM(count) AS total FROM {table}") == [{"total": 3}]
    in_d = f"{PROJECT}.d"
    assert _query(client, "SELECT words.word FROM words WHERE count = 2", default_dataset=in_d) == [{"word": "b"}]
    joined = "WITH t AS (SELECT * FROM d.words) SELECT COUNT(*) FROM t JOIN d.words USING (word)"
    assert _query(client, joined) == [{"f0_": 2}]


def test_a_with_clause_may_give_a_tables_name_to_what_it_reads_of_it(client: api.Client, storage: Storage) -> None:
    _table(client)
    _load(client, _put(storage, "with.parquet", _file(_words(("a", 1, DAY), ("b", 2, DAY)))))
    sql = "WITH words AS (SELECT word FROM words WHERE count > 1) SELECT * FROM words"
    default = f"{PROJECT}.d"
    assert _query(client, sql, default_dataset=default) == [{"word": "b"}]
    sql = "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 3) SELECT SUM(x) AS s FROM n"
    assert _query(client, sql, default_dataset=default) == [{"s": 6}]


def test_values_come_back_as_they_went_in(client: api.Client) -> None:
    """Parameters and results of every type that is supported."""
    noon = datetime.datetime(2026, 11, 19, 12, 0, 0, 123456, tzinfo=datetime.UTC)
    values: dict[str, tuple[str, Any]] = {
        "s": ("STRING", "it's @x"),
        "i": ("INT64", -(2**63)),
        "f": ("FLOAT64", 0.1),
        "n": ("NUMERIC", Decimal("-12.345")),
        "b": ("BOOL", True),
        "y": ("BYTES", b"\x00\xff"),
        "d": ("DATE", DAY),
        "dt": ("DATETIME", noon.replace(tzinfo=None)),
        "t": ("TIME", noon.time()),
        "ts": ("TIMESTAMP", noon),
        "nothing": ("INT64", None),
    }
    named = [api.ScalarQueryParameter(name, kind, value) for name, (kind, value) in values.items()]
    expected = {name: value for name, (_, value) in values.items()}
    assert _query(client, "SELECT " + ", ".join(f"@{name} AS {name}" for name in values), *named) == [expected]
    unnamed = [api.ScalarQueryParameter(None, kind, value) for kind, value in values.values()]
    assert _query(client, "SELECT " + ", ".join(f"? AS {name}" for name in values), *unnamed) == [expected]
    job = client.query(
        "SELECT " + ", ".join(f"@{name} AS {name}" for name in values),
        job_config=api.QueryJobConfig(query_parameters=named),
    )
    assert [field.field_type for field in job.result().schema][:6] == [
        "STRING",
        "INTEGER",
        "FLOAT",
        "NUMERIC",
        "BOOLEAN",
        "BYTES",
    ]


def test_arrays_and_structs(client: api.Client) -> None:
    words = api.ArrayQueryParameter("words", "STRING", ["a", "b"])
    assert _query(client, "SELECT x FROM UNNEST(['a', 'c']) AS x WHERE x IN UNNEST(@words)", words) == [{"x": "a"}]
    sql = "SELECT [1, 2] AS numbers, STRUCT(1 AS a, TIMESTAMP '2026-11-19' AS b) AS pair, @words AS words"
    pair = {"a": 1, "b": datetime.datetime(2026, 11, 19, tzinfo=datetime.UTC)}
    assert _query(client, sql, words) == [{"numbers": [1, 2], "pair": pair, "words": ["a", "b"]}]


def test_expressions_have_bigquerys_types(client: api.Client) -> None:
    sql = """SELECT DATE_SUB(@day, INTERVAL 7 DAY) AS week, DATE_TRUNC(@day, MONTH) AS month,
        TIMESTAMP_TRUNC(TIMESTAMP '2026-11-19 10:30:00', HOUR) AS hour, COUNTIF(x > 1) AS many, SUM(x) AS total,
        AVG(x) AS mean, SAFE_DIVIDE(1, 0) AS nothing, 1.5 AS number, DATETIME '2026-11-19' AS plain
        FROM UNNEST([1, 2, 3]) AS x"""
    assert _query(client, sql, api.ScalarQueryParameter("day", "DATE", DAY)) == [
        {
            "week": datetime.date(2026, 11, 12),
            "month": datetime.date(2026, 11, 1),
            "hour": datetime.datetime(2026, 11, 19, 10, tzinfo=datetime.UTC),
            "many": 2,
            "total": 6,
            "mean": 2.0,
            "nothing": None,
            "number": 1.5,
            "plain": datetime.datetime(2026, 11, 19),
        }
    ]


def test_dividing_by_zero_fails_the_query(client: api.Client) -> None:
    assert _query(client, "SELECT x / 2 AS half FROM UNNEST([1]) AS x WHERE x / 2 > 0") == [{"half": 0.5}]
    with pytest.raises(exceptions.BadRequest, match="division by zero"):
        _query(client, "SELECT 1 / x FROM UNNEST([1, 0]) AS x")


def test_a_query_whose_answer_was_lost_is_one_query(client: api.Client, service: BigQuery) -> None:
    """A requestId makes repeated calls of jobs.query one query."""
    service.faults.at(1, Fault("lost"), call="jobs.query")
    assert [tuple(row) for row in client.query_and_wait("SELECT 1 AS x")] == [(1,)]
    assert [job.kind for job in service.jobs] == ["query"]


def test_query_and_wait_gives_the_rows_and_arrow_too(client: api.Client, storage: Storage) -> None:
    _load(client, _put(storage, "w.parquet", _file(_words(("a", 1, DAY)))))
    assert [tuple(row) for row in client.query_and_wait("SELECT * FROM d.words")] == [("a", 1, DAY)]
    found = client.query("SELECT * FROM d.words").to_arrow(create_bqstorage_client=False)
    assert found.equals(_words(("a", 1, DAY)))


def test_results_come_in_pages(client: api.Client) -> None:
    rows = client.query("SELECT x FROM UNNEST(GENERATE_ARRAY(1, 25)) AS x ORDER BY x").result(page_size=10)
    assert [len(list(page)) for page in rows.pages] == [10, 10, 5]
    assert rows.total_rows == 25


def test_times_are_seconds_unless_microseconds_are_asked_for(client: api.Client, service: BigQuery) -> None:
    job = client.query("SELECT TIMESTAMP '2026-11-19 00:00:00.5' AS ts")
    job.result()
    url = f"{service.url}/bigquery/v2/projects/{PROJECT}/queries/{job.job_id}"
    assert requests.get(url).json()["rows"][0]["f"][0]["v"] == "1795046400.5"
    micros = requests.get(url, params={"formatOptions.useInt64Timestamp": "true"})
    assert micros.json()["rows"][0]["f"][0]["v"] == "1795046400500000"


def test_a_dry_run_tells_bytes_and_types_and_runs_nothing(
    client: api.Client, storage: Storage, service: BigQuery
) -> None:
    _load(client, _put(storage, "dry.parquet", _file(_words(("ab", 1, DAY), ("c", 2, DAY)))))
    config = api.QueryJobConfig(dry_run=True)
    job = client.query("SELECT count + 1 AS more FROM d.words", job_config=config)
    assert job.total_bytes_processed == 2 * 8
    assert [(field.name, field.field_type) for field in job.schema or []] == [("more", "INTEGER")]
    # A STRING is 2 bytes and its UTF-8, an INT64 and a DATE are 8.
    assert client.query("SELECT * FROM d.words", job_config=config).total_bytes_processed == 2 * (8 + 8 + 2) + 3
    assert [each.kind for each in service.jobs] == ["load"]
    effects = [each.call for each in service.requests if each.effect]
    assert effects == ["jobs.insert"]


def test_a_query_that_would_cost_too_much_fails_with_the_bytes(client: api.Client, storage: Storage) -> None:
    """At least 10 MB are billed for each table that is read."""
    _load(client, _put(storage, "cost.parquet", _file(_words(("a", 1, DAY)))))
    message = "Query exceeded limit for bytes billed: 10000. 10485760 or higher required."
    with pytest.raises(exceptions.GoogleAPICallError, match=message) as raised:
        _query(client, "SELECT * FROM d.words", maximum_bytes_billed=10_000)
    assert _reason(raised.value) == "bytesBilledLimitExceeded"
    assert len(_query(client, "SELECT * FROM d.words", maximum_bytes_billed=10 * 2**20)) == 1


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("SELEC 1", exceptions.BadRequest, "Syntax error"),
        ("SELECT nothing FROM d.words", exceptions.BadRequest, "Unrecognized name: nothing"),
        ("SELECT @x", exceptions.BadRequest, "Query parameter 'x' not found"),
        ("SELECT 1 AS a, 2 AS a", exceptions.BadRequest, "Duplicate column names"),
        ("SELECT * FROM words", exceptions.BadRequest, "must be qualified with a dataset"),
        ("SELECT * FROM d.other", exceptions.NotFound, r"Table millrace-test:d\.other was not found in location US"),
        ("SELECT * FROM e.other", exceptions.NotFound, "Dataset millrace-test:e"),
    ],
)
def test_a_query_that_is_none_fails_in_its_result_and_by_jobs_query_at_once(
    client: api.Client, service: BigQuery, sql: str, error: type[Exception], message: str
) -> None:
    """As Google's own system tests have it: with jobs.insert, a job that will fail is made nevertheless."""
    _table(client)
    job = client.query(sql, job_retry=None)
    assert [each.id for each in service.jobs] == [job.job_id]
    with pytest.raises(error, match=message):
        job.result()
    with pytest.raises(error, match=message):
        client.query(sql, api_method="QUERY", job_retry=None)
    with pytest.raises(error, match=message):
        client.query(sql, job_config=api.QueryJobConfig(dry_run=True), job_retry=None)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM d.INFORMATION_SCHEMA.VIEWS", "INFORMATION_SCHEMA.VIEWS"),
        ("SELECT * FROM read_text('/etc/hostname')", "the table function read_text"),
        ("DECLARE x INT64; SELECT x", "the statement DECLARE"),
        ("EXPORT DATA OPTIONS (uri = 'gs://bucket/*.csv') AS SELECT 1", "the statement EXPORT"),
        ("CREATE FUNCTION d.f(x INT64) AS (x + 1)", "the statement CREATE FUNCTION"),
        ("CREATE TABLE d.other CLONE d.words", "CLONE"),
        ("CREATE TABLE d.hours (ts TIMESTAMP) PARTITION BY TIMESTAMP_TRUNC(ts, HOUR)", "by the day of a field"),
    ],
)
def test_a_statement_that_is_not_served_is_refused_by_name_and_makes_no_job(
    client: api.Client, service: BigQuery, sql: str, message: str
) -> None:
    _table(client)
    with pytest.raises(exceptions.MethodNotImplemented, match=message):
        client.query(sql, job_retry=None)
    assert service.jobs == []


def test_a_query_writes_a_partition_and_statements_make_and_clear_tables(client: api.Client, service: BigQuery) -> None:
    _table(client)
    destination = api.TableReference.from_string(f"{PROJECT}.d.words$20261119")
    sql = "SELECT 'a' AS word, 1 AS count, DATE '2026-11-19' AS date"
    for _ in range(2):
        _query(client, sql, destination=destination, write_disposition="WRITE_TRUNCATE")
    assert service.rows("d.words") == [{"word": "a", "count": 1, "date": DAY}]
    with pytest.raises(exceptions.BadRequest, match="different partitions"):
        _query(client, sql.replace("19'", "20'"), destination=destination, write_disposition="WRITE_TRUNCATE")
    _query(client, "CREATE TABLE d.made AS SELECT word, count + 1 AS count FROM d.words")
    assert service.rows("d.made") == [{"word": "a", "count": 2}]
    with pytest.raises(exceptions.Conflict, match="Already Exists"):
        _query(client, "CREATE TABLE d.made AS SELECT 1 AS x")
    _query(client, "CREATE OR REPLACE TABLE d.made AS SELECT x FROM UNNEST([1, 2, NULL]) AS x")
    job = client.query("DELETE FROM d.made WHERE x > 1")
    job.result()
    assert job.num_dml_affected_rows == 1
    assert [row["x"] for row in service.rows("d.made")] == [1, None]


def test_a_merge_that_matches_nothing_replaces_the_rows_that_a_condition_names(
    client: api.Client, service: BigQuery, storage: Storage
) -> None:
    """Of files that the job itself calls a table, as Google's "constant false predicate" does; both or neither."""
    _table(client)
    _load(client, _put(storage, "a.parquet", _file(_words(("a", 1, DAY), ("b", 2, DAY), ("c", 3, NEXT)))))
    files = api.ExternalConfig("PARQUET")
    files.source_uris = [
        _put(storage, "b-1.parquet", _file(_words(("x", 4, NEXT)))),
        _put(storage, "b-2.parquet", _file(_words(("y", 5, NEXT)).select(["word", "count"]))),
    ]
    files.schema = SCHEMA
    sql = (
        "MERGE d.words AS there USING files ON FALSE WHEN NOT MATCHED BY SOURCE AND there.date = @day THEN DELETE "
        "WHEN NOT MATCHED THEN INSERT (word, count, date) VALUES (files.word, files.count + 1, @day)"
    )
    day = api.ScalarQueryParameter("day", "DATE", DAY)
    config = api.QueryJobConfig(query_parameters=[day], table_definitions={"files": files})
    job = client.query(sql, job_config=config, job_id="merge")
    job.result()
    assert (job.num_dml_affected_rows, job.dml_stats) == (4, api.DmlStats(2, 2, 0))
    assert sorted(service.rows("d.words"), key=lambda row: str(row["word"])) == [
        {"word": "c", "count": 3, "date": NEXT},
        {"word": "x", "count": 5, "date": DAY},
        {"word": "y", "count": 6, "date": DAY},
    ]
    with pytest.raises(exceptions.Conflict):
        client.query(sql, job_config=config, job_id="merge", job_retry=None)
    assert _query(client, "SELECT SUM(count) AS n FROM files", table_definitions={"files": files}) == [{"n": 9}]
    before = service.rows("d.words")
    for wrong, error in (
        (sql.replace("files.word,", "files.wrd,"), exceptions.BadRequest),
        (sql.replace("@day)", "'no day')"), exceptions.BadRequest),
        (sql.replace("d.words", "d.gone"), exceptions.NotFound),
    ):
        with pytest.raises(error):
            client.query(wrong, job_config=config, job_retry=None).result()
    files.source_uris = ["gs://bucket/gone.parquet"]
    with pytest.raises(exceptions.NotFound):
        client.query(
            sql, job_config=api.QueryJobConfig(query_parameters=[day], table_definitions={"files": files})
        ).result()
    assert service.rows("d.words") == before


# Partitions


def test_partitions_are_listed_with_their_rows(client: api.Client, storage: Storage) -> None:
    _table(client)
    _load(client, _put(storage, "p.parquet", _file(_words(("a", 1, DAY), ("b", 2, NEXT), ("c", 3, NEXT)))))
    client.create_table(api.Table(f"{PROJECT}.d.plain", SCHEMA))
    expected = [("plain", None, 0), ("words", "20261119", 1), ("words", "20261120", 2)]
    view = "INFORMATION_SCHEMA.PARTITIONS"
    for name in (f"d.{view}", f"`d`.{view}", f"`{PROJECT}.d.{view}`", f"{PROJECT}.d.{view}", f"`{PROJECT}`.d.{view}"):
        found = _query(client, f"SELECT table_name, partition_id, total_rows FROM {name} ORDER BY 1, 2")
        assert [tuple(row.values()) for row in found] == expected
    assert client.list_partitions("d.words") == ["20261119", "20261120"]
    assert [tuple(row) for row in client.list_rows("d.words$20261119")] == [("a", 1, DAY)]
    assert len(list(client.list_rows("d.words", max_results=2))) == 2
    columns = "SELECT column_name, data_type FROM d.INFORMATION_SCHEMA.COLUMNS WHERE table_name = 'words'"
    assert [tuple(row.values()) for row in _query(client, columns)] == [
        ("word", "STRING"),
        ("count", "INT64"),
        ("date", "DATE"),
    ]


def test_deleting_a_partition_leaves_the_others(client: api.Client, storage: Storage, service: BigQuery) -> None:
    _table(client)
    _load(client, _put(storage, "del.parquet", _file(_words(("a", 1, DAY), ("b", 2, NEXT)))))
    client.delete_table("d.words$20261119")
    assert [row["word"] for row in service.rows("d.words")] == ["b"]
    client.delete_table("d.words$20261119", not_found_ok=True)
    client.delete_table("d.words")
    with pytest.raises(exceptions.NotFound):
        client.delete_table("d.words")


def test_partitions_go_by_the_utc_day_of_a_timestamp(client: api.Client, service: BigQuery) -> None:
    table = api.Table(f"{PROJECT}.d.events", [api.SchemaField("ts", "TIMESTAMP")])
    table.time_partitioning = api.TimePartitioning(field="ts")
    client.create_table(table)
    lines = [{"ts": "2026-11-19T23:59:59Z"}, {"ts": "2026-11-19 23:30:00-01:00"}, {"ts": "2026-11-20 00:00:00 UTC"}]
    client.load_table_from_json(lines, table, job_config=api.LoadJobConfig(schema=table.schema)).result()
    assert {day: len(service.rows(f"d.events${day}")) for day in client.list_partitions(table)} == {
        "20261119": 1,
        "20261120": 2,
    }


# Extract and copy


def _extract(**config: Any) -> api.ExtractJobConfig:
    return api.ExtractJobConfig(**{"destination_format": "PARQUET", **config})  # type: ignore[no-untyped-call]


def _download(storage: Storage, name: str) -> pa.Table:
    url = f"{storage.worker_url}/storage/v1/b/bucket/o/{name.replace('/', '%2F')}"
    return pq.read_table(io.BytesIO(requests.get(url, params={"alt": "media"}).content))


def test_no_file_is_loaded_from_an_empty_folder(client: api.Client, storage: Storage) -> None:
    """A URI with // after the bucket, which Cloud Storage takes for a name like others, is refused."""
    _table(client)
    for name in ("a//b.parquet", "/b.parquet"):
        uri = _put(storage, name, _file(_words(("w", 1, DAY))))
        config = api.LoadJobConfig(source_format=PARQUET)
        with pytest.raises(exceptions.BadRequest, match="consecutive slashes"):
            client.load_table_from_uri(uri, f"{PROJECT}.d.words", job_config=config).result()


def test_a_partition_is_extracted_and_a_wildcard_makes_numbered_files(client: api.Client, storage: Storage) -> None:
    _table(client)
    many = _words(*((f"w{at}", at, DAY) for at in range(10_001)), ("other", 0, NEXT))
    _load(client, _put(storage, "extract.parquet", _file(many)))
    job = client.extract_table("d.words$20261119", "gs://bucket/out/part-*.parquet", job_config=_extract())
    job.result()
    assert job.destination_uri_file_counts == [2]
    parts = [_download(storage, f"out/part-{at:012d}.parquet") for at in range(2)]
    assert pa.concat_tables(parts).equals(many.slice(0, 10_001))
    client.extract_table("d.words", "gs://bucket/all.parquet", job_config=_extract(compression="ZSTD")).result()
    assert _download(storage, "all.parquet").num_rows == 10_002
    with pytest.raises(exceptions.NotFound):
        client.extract_table("d.words", "gs://nowhere/x", job_config=_extract()).result()
    with pytest.raises(exceptions.NotFound, match="Not found: Table"):
        client.extract_table("d.other", "gs://bucket/x", job_config=_extract())


def test_a_partition_is_copied_into_another_table(client: api.Client, storage: Storage, service: BigQuery) -> None:
    _table(client)
    _load(client, _put(storage, "copy.parquet", _file(_words(("a", 1, DAY), ("b", 2, NEXT)))))
    client.copy_table("d.words$20261119", "d.copied$20261119").result()
    assert [row["word"] for row in service.rows("d.copied")] == ["a"]
    assert client.get_table("d.copied").time_partitioning.field == "date"
    with pytest.raises(exceptions.BadRequest, match="different partitions"):
        client.copy_table(
            "d.words$20261120", "d.copied$20261119", job_config=api.CopyJobConfig(write_disposition="WRITE_TRUNCATE")
        ).result()
    with pytest.raises(exceptions.Conflict, match="Already Exists: Table"):
        client.copy_table("d.words", "d.copied").result()


# Permissions, and what is not supported


@pytest.mark.parametrize(
    "permission",
    ["bigquery.jobs.create", "bigquery.tables.updateData", "bigquery.tables.getData", "bigquery.tables.get"],
)
def test_a_permission_that_is_denied_is_named_in_a_403(
    client: api.Client, storage: Storage, service: BigQuery, permission: str
) -> None:
    _table(client)
    uri = _put(storage, "deny.parquet", _file(_words(("a", 1, DAY))))
    service.deny(permission)
    calls: dict[str, Callable[[], object]] = {
        "bigquery.jobs.create": lambda: _load(client, uri),
        "bigquery.tables.updateData": lambda: _load(client, uri),
        "bigquery.tables.getData": lambda: client.query("SELECT * FROM d.words", job_retry=None).result(),
        "bigquery.tables.get": lambda: client.get_table("d.words"),
    }
    with pytest.raises(exceptions.Forbidden, match=f"Access Denied: .*{permission}") as raised:
        calls[permission]()
    assert _reason(raised.value) == "accessDenied"
    # What may not be read is known when the query runs.
    assert [job.kind for job in service.jobs] == ["query"] * (permission == "bigquery.tables.getData")
    service.allow(permission)
    calls[permission]()


def test_permissions_on_a_table_can_be_asked_for(client: api.Client, service: BigQuery) -> None:
    table = _table(client)
    service.deny("bigquery.tables.updateData")
    asked = ["bigquery.tables.get", "bigquery.tables.updateData"]
    assert client.test_iam_permissions(table, asked)["permissions"] == ["bigquery.tables.get"]


def test_what_is_not_supported_is_refused_and_not_pretended(client: api.Client, service: BigQuery) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match="GEOGRAPHY"):
        client.create_table(api.Table(f"{PROJECT}.d.geo", [api.SchemaField("g", "GEOGRAPHY")]))
    with pytest.raises(exceptions.MethodNotImplemented, match="maxBadRecords"):
        client.load_table_from_uri("gs://bucket/x", "d.t", job_config=api.LoadJobConfig(max_bad_records=5))
    with pytest.raises(exceptions.MethodNotImplemented, match="has no routines"):
        list(client.list_routines("d"))
    assert service.jobs == []
    assert json.loads(requests.get(f"{service.url}/other").content)["error"]["code"] == 501
