"""Files and streamed rows of the local BigQuery are as documented, through Google's own client."""

import csv
import datetime
import gzip
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import fastavro
import google.auth.credentials
import pytest
import requests
from google.api_core import exceptions
from google.cloud import bigquery as api

from localcloud import PROJECT
from localcloud.bigquery import BigQuery
from localcloud.storage import Storage

UTC = datetime.UTC
COLUMNS = "id INT64 NOT NULL, s STRING, f FLOAT64, n NUMERIC, ok BOOL, raw BYTES, day DATE, at TIME, dt DATETIME"
ROWS: list[dict[str, Any]] = [
    {
        "id": 1,
        "s": 'a, "b"',
        "f": 1.5,
        "n": Decimal("2.25"),
        "ok": True,
        "raw": b"\x00\xff",
        "day": datetime.date(2026, 11, 19),
        "at": datetime.time(10, 30),
        "dt": datetime.datetime(2026, 11, 19, 10, 30),
        "ts": datetime.datetime(2026, 11, 19, 10, 30, 0, 500000, tzinfo=UTC),
    },
    {"id": 2, **dict.fromkeys("s f n ok raw day at dt ts".split())},
]


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with Storage() as service:
        service.create_bucket("bucket")
        yield service


@pytest.fixture(scope="module")
def service(storage: Storage) -> Iterator[BigQuery]:
    with BigQuery(storage.worker_url) as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", running.url)
        running.create_dataset("d")
        yield running


@pytest.fixture(scope="module")
def client(service: BigQuery) -> Iterator[api.Client]:
    credentials = google.auth.credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
    with api.Client(project=PROJECT, credentials=credentials) as made:
        made.query(f"CREATE TABLE d.all ({COLUMNS}, ts TIMESTAMP)").result()
        assert made.insert_rows(made.get_table("d.all"), ROWS) == []
        yield made


def _file(storage: Storage, name: str) -> bytes:
    url = f"{storage.worker_url}/storage/v1/b/bucket/o/{name}"
    return requests.get(url, params={"alt": "media"}, timeout=10).content


def _config(**config: Any) -> api.ExtractJobConfig:
    return api.ExtractJobConfig(**config)  # type: ignore[no-untyped-call]


def _extract(client: api.Client, name: str, **config: Any) -> None:
    client.extract_table("d.all", f"gs://bucket/{name}", job_config=_config(**config)).result()


@pytest.mark.parametrize("kind", ["CSV", "NEWLINE_DELIMITED_JSON", "AVRO", "PARQUET"])
def test_what_is_extracted_loads_again(client: api.Client, kind: str) -> None:
    typed = {"use_avro_logical_types": True} if kind == "AVRO" else {}
    _extract(client, f"again.{kind}", destination_format=kind, **typed)
    config = api.LoadJobConfig(source_format=kind, schema=client.get_table("d.all").schema, **typed)
    config.write_disposition = "WRITE_TRUNCATE"
    if kind == "CSV":
        config.skip_leading_rows = 1
    client.load_table_from_uri(f"gs://bucket/again.{kind}", "d.again", job_config=config).result()
    found = [dict(row.items()) for row in client.list_rows("d.again")]
    # In CSV no text and NULL look alike, and what is loaded is text.
    last = {**ROWS[1], "s": ""} if kind == "CSV" else ROWS[1]
    assert sorted(found, key=lambda row: row["id"]) == [ROWS[0], last]


def test_csv_has_a_header_and_the_documented_forms(client: api.Client, storage: Storage) -> None:
    _extract(client, "x.csv")
    head, first, second = csv.reader(io.StringIO(_file(storage, "x.csv").decode()))
    assert head == "id s f n ok raw day at dt ts".split()
    assert first[:6] == ["1", 'a, "b"', "1.5", "2.25", "true", "AP8="]
    assert first[6:] == ["2026-11-19", "10:30:00", "2026-11-19T10:30:00", "2026-11-19 10:30:00.5 UTC"]
    assert second == ["2", *[""] * 9]
    _extract(client, "bare.gz", print_header=False, field_delimiter="|", compression="GZIP")
    assert gzip.decompress(_file(storage, "bare.gz")).decode().splitlines()[1] == "2" + "|" * 9


def test_json_has_whole_numbers_as_text_and_no_nulls(client: api.Client, storage: Storage) -> None:
    _extract(client, "x.json", destination_format="NEWLINE_DELIMITED_JSON")
    first, second = map(json.loads, _file(storage, "x.json").splitlines())
    assert (first["id"], first["f"], first["n"], first["ok"]) == ("1", 1.5, "2.25", True)
    assert second == {"id": "2"}


def test_avro_has_logical_types_where_they_are_asked_for(client: api.Client, storage: Storage) -> None:
    _extract(client, "x.avro", destination_format="AVRO", use_avro_logical_types=True, compression="DEFLATE")
    reader = fastavro.reader(io.BytesIO(_file(storage, "x.avro")))
    kinds = {each["name"]: each["type"] for each in reader.writer_schema["fields"]}  # type: ignore[index, call-overload]
    assert kinds["id"] == "long"
    assert kinds["day"] == ["null", {"type": "int", "logicalType": "date"}]
    assert [row["day"] for row in reader] == [ROWS[0]["day"], None]  # type: ignore[index, call-overload]
    _extract(client, "plain.avro", destination_format="AVRO")
    assert [row["day"] for row in fastavro.reader(io.BytesIO(_file(storage, "plain.avro")))] == ["2026-11-19", None]  # type: ignore[index, call-overload]


def test_nested_rows_go_through_json_and_avro_and_not_through_csv(client: api.Client) -> None:
    client.query(
        "CREATE TABLE d.deep AS SELECT 1 AS id, [STRUCT('a' AS w, [1, 2] AS ns), STRUCT('b', [])] AS xs"
    ).result()
    for kind in ("NEWLINE_DELIMITED_JSON", "AVRO"):
        where = f"gs://bucket/deep.{kind}"
        client.extract_table("d.deep", where, job_config=_config(destination_format=kind)).result()
        config = api.LoadJobConfig(source_format=kind, schema=client.get_table("d.deep").schema)
        client.load_table_from_uri(where, f"d.deep_{kind}", job_config=config).result()
        (row,) = client.list_rows(f"d.deep_{kind}")
        assert dict(row.items()) == {"id": 1, "xs": [{"w": "a", "ns": [1, 2]}, {"w": "b", "ns": []}]}
    with pytest.raises(exceptions.BadRequest, match="nested schema. Field: xs"):
        client.extract_table("d.deep", "gs://bucket/deep.csv").result()


def test_one_bad_row_stops_all_streamed_rows_unless_it_is_skipped(client: api.Client, service: BigQuery) -> None:
    client.query("CREATE TABLE d.stream (id INT64 NOT NULL, day DATE, xs ARRAY<STRING>)").result()
    rows: list[dict[str, Any]] = [{"id": 1, "day": "2026-11-19", "xs": ["a"]}, {"id": "no"}, {"nothing": 1}]
    errors = client.insert_rows_json("d.stream", rows)
    assert [(each["index"], each["errors"][0]["reason"]) for each in errors] == [
        (0, "stopped"),
        (1, "invalid"),
        (2, "invalid"),
    ]
    assert service.rows("d.stream") == []
    errors = client.insert_rows_json("d.stream", rows, skip_invalid_rows=True, row_ids=["1", "2", "3"])
    assert [each["index"] for each in errors] == [1, 2]
    assert client.insert_rows_json("d.stream", rows[:1], row_ids=["1"]) == []
    assert service.rows("d.stream") == [{"id": 1, "day": datetime.date(2026, 11, 19), "xs": ["a"]}]


def test_a_file_that_is_no_avro_fails_the_job(client: api.Client) -> None:
    config = api.LoadJobConfig(source_format="AVRO")
    with pytest.raises(exceptions.BadRequest, match="Apache Avro library failed|cannot read header"):
        client.load_table_from_file(io.BytesIO(b"none"), "d.none", job_config=config).result()
