"""A DAG of Airflow's operators in the local cloud, each after the other. It lies in Airflow's own folder of DAGs, from
which Airflow reads it anew for each task; as a program it runs once and prints its tasks' states as JSON.

Operators that ask by BigQueryHook's cursor, as BigQueryCheckOperator does, are not here: its address is Google's own.
"""

import datetime
import json
import os

from airflow.providers.google.cloud.hooks.dataflow import DataflowHook
from airflow.providers.google.cloud.operators.bigquery import BigQueryInsertJobOperator
from airflow.providers.google.cloud.operators.dataflow import DataflowTemplatedJobStartOperator
from airflow.providers.google.cloud.transfers.bigquery_to_gcs import BigQueryToGCSOperator
from airflow.providers.google.cloud.transfers.gcs_to_bigquery import GCSToBigQueryOperator
from airflow.sdk import DAG
from google.api_core.client_options import ClientOptions

PROJECT, REGION, BUCKET = "millrace-test", "us-central1", "millrace-test"
#: Given by variables, because Airflow imports this file by itself.
URL, TEMPLATE, PREFIX, DATASET = (os.environ[f"MEASURE_{name}"] for name in ("URL", "TEMPLATE", "PREFIX", "DATASET"))
PLACE = f"{PROJECT}.{DATASET}.of_dag"


class LocalDataflowHook(DataflowHook):  # type: ignore[misc]
    """Airflow's hook of Dataflow, at an address."""

    def get_client_options(self, api_endpoint_override: str | None = None) -> ClientOptions:
        """Return where the API is."""
        return ClientOptions(api_endpoint=URL)


class LocalOperator(DataflowTemplatedJobStartOperator):  # type: ignore[misc]
    """Airflow's operator of classic templates, with that hook."""

    @property
    def hook(self) -> DataflowHook:
        """Return the hook."""
        return LocalDataflowHook(poll_sleep=1)


QUERY = {"query": f"UPDATE {DATASET}.of_dag SET n = n * 10 WHERE TRUE", "useLegacySql": False}
with DAG("measure", schedule=None, start_date=datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)) as dag:
    load = GCSToBigQueryOperator(
        task_id="load",
        bucket=BUCKET,
        source_objects=[f"{PREFIX}/rows.csv"],
        destination_project_dataset_table=PLACE,
        schema_fields=[{"name": "name", "type": "STRING"}, {"name": "n", "type": "INTEGER"}],
        write_disposition="WRITE_TRUNCATE",
        location="US",
    )
    update = BigQueryInsertJobOperator(task_id="update", configuration={"query": QUERY}, location="US")
    extract = BigQueryToGCSOperator(
        task_id="extract",
        source_project_dataset_table=PLACE,
        destination_cloud_storage_uris=[f"gs://{BUCKET}/{PREFIX}/updated.csv"],
        print_header=False,
        location="US",
    )
    transform = LocalOperator(
        task_id="transform",
        template=TEMPLATE,
        job_name="airflow-operator",
        parameters={"input": f"gs://{BUCKET}/{PREFIX}/updated.csv", "output": f"gs://{BUCKET}/{PREFIX}/upper.csv"},
        location=REGION,
    )
    load >> update >> extract >> transform

if __name__ == "__main__":
    run = dag.test()
    print(json.dumps({task.task_id: str(task.state) for task in run.get_task_instances()}))
