"""Beam's own BigQuery I/O, in jobs of the local Dataflow, reads and writes the local BigQuery."""

from collections.abc import Iterator

import apache_beam as beam
import google.auth.credentials
import pytest
import running
from apache_beam.io.gcp.bigquery import ReadFromBigQuery, WriteToBigQuery
from apache_beam.options.pipeline_options import PipelineOptions
from google.cloud import bigquery as api
from local_dataflow import Started

from localcloud import BUCKET, PROJECT, REGION
from localcloud.bigquery import BigQuery
from localcloud.dataflow import Dataflow
from localcloud.storage import Storage

SQL = "SELECT word, n + 1 AS n, day FROM d.words"


@pytest.fixture(scope="module")
def bigquery(storage: Storage) -> Iterator[BigQuery]:
    with BigQuery(storage.worker_url) as running_, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", running_.url)
        running_.create_dataset("d")
        yield running_


@pytest.fixture(scope="module")
def client(bigquery: BigQuery) -> Iterator[api.Client]:
    credentials = google.auth.credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
    with api.Client(project=PROJECT, credentials=credentials) as made:
        made.query("CREATE TABLE d.words (word STRING, n INT64, day DATE)").result()
        made.query("INSERT d.words VALUES ('a', 1, '2026-11-19'), ('b', 2, NULL)").result()
        yield made


def _run(service: Dataflow, name: str, read: ReadFromBigQuery, method: str) -> None:
    flags = ["--runner=DataflowRunner", f"--dataflow_endpoint={service.url}", f"--project={PROJECT}"]
    flags += [f"--region={REGION}", f"--temp_location=gs://{BUCKET}/tmp", f"--job_name={name.replace('_', '-')}"]
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        rows = pipeline | read | beam.Map(lambda row: {"word": row["word"], "n": int(row["n"])})
        rows | WriteToBigQuery(f"{PROJECT}:d.{name}", schema="word:STRING,n:INTEGER", method=method)


def test_a_query_is_read_by_export_and_a_table_written_by_file_loads(
    special: Started, bigquery: BigQuery, client: api.Client
) -> None:
    service = special()
    service.variables["BIGQUERY_EMULATOR_HOST"] = bigquery.worker_url
    _run(service, "loaded", ReadFromBigQuery(query=SQL, use_standard_sql=True), "FILE_LOADS")
    assert sorted((row["word"], row["n"]) for row in bigquery.rows("d.loaded")) == [("a", 2), ("b", 3)]
    # The dataset that Beam makes for a query's result is gone.
    assert [each.dataset_id for each in client.list_datasets()] == ["d"]


@running.long
def test_a_table_is_read_as_json_and_written_by_streaming(
    special: Started, bigquery: BigQuery, client: api.Client
) -> None:
    service = special()
    service.variables["BIGQUERY_EMULATOR_HOST"] = bigquery.worker_url
    read = ReadFromBigQuery(table=f"{PROJECT}:d.words", use_json_exports=True)
    _run(service, "streamed", read, "STREAMING_INSERTS")
    assert sorted((row["word"], row["n"]) for row in bigquery.rows("d.streamed")) == [("a", 1), ("b", 2)]
