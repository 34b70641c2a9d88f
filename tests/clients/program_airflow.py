"""What Airflow's hooks do with the local cloud: a function each, run by name in .venv-clients.

What a function returns is printed as JSON. Of the hooks only Dataflow's has to be told where to go, because it takes no
address from its connection or from a variable.
"""

import json
import sys
from typing import Any

from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook
from airflow.providers.google.cloud.hooks.dataflow import DataflowHook
from airflow.providers.google.cloud.hooks.gcs import GCSHook
from google.api_core.client_options import ClientOptions

PROJECT, REGION, BUCKET = "millrace-test", "us-central1", "millrace-test"


class LocalDataflowHook(DataflowHook):  # type: ignore[misc]
    """Airflow's hook of Dataflow, at an address."""

    url = ""

    def get_client_options(self, api_endpoint_override: str | None = None) -> ClientOptions:
        """Return where the API is."""
        return ClientOptions(api_endpoint=self.url)


def gcs(prefix: str) -> Any:
    """Write, list, copy, compose, describe, download and delete objects; return what was seen."""
    hook = GCSHook()
    for name in ("a", "b"):
        hook.upload(BUCKET, f"{prefix}/{name}", data=name * 3, mime_type="text/plain")
    hook.copy(BUCKET, f"{prefix}/a", BUCKET, f"{prefix}/c")
    hook.compose(BUCKET, [f"{prefix}/a", f"{prefix}/b"], f"{prefix}/whole")
    seen = [name.rpartition("/")[2] for name in hook.list(BUCKET, prefix=f"{prefix}/")]
    size, data = hook.get_size(BUCKET, f"{prefix}/whole"), hook.download(BUCKET, f"{prefix}/whole")
    hook.rewrite(BUCKET, f"{prefix}/whole", BUCKET, f"{prefix}/rewritten")
    hook.delete(BUCKET, f"{prefix}/whole")
    assert isinstance(data, bytes)
    return [
        seen,
        size,
        data.decode(),
        hook.exists(BUCKET, f"{prefix}/whole"),
        hook.exists(BUCKET, f"{prefix}/rewritten"),
    ]


def buckets(prefix: str) -> Any:
    """Make a bucket, synchronise a prefix into it, and delete it; return what was in it."""
    hook = GCSHook()
    hook.upload(BUCKET, f"{prefix}/d/a", data="a")
    hook.create_bucket(bucket_name="bucket-of-airflow", project_id=PROJECT, location="EU", labels={"team": "data"})
    hook.sync(BUCKET, "bucket-of-airflow", source_object=f"{prefix}/d/", recursive=True)
    seen = hook.list("bucket-of-airflow")
    hook.delete_bucket("bucket-of-airflow", force=True)
    return seen


def bigquery(dataset: str) -> Any:
    """Make a table, insert rows, ask by client and by cursor; return what was seen."""
    hook = BigQueryHook(use_legacy_sql=False, location="US")
    schema = [{"name": "name", "type": "STRING"}, {"name": "n", "type": "INTEGER"}]
    table = {"project_id": PROJECT, "dataset_id": dataset, "table_id": "airflow"}
    hook.create_table(**table, table_resource={"schema": {"fields": schema}})
    hook.insert_all(**table, rows=[{"name": "a", "n": 1}, {"name": "b", "n": 2}])
    there = hook.table_exists(**table)
    configuration = {"query": {"query": f"SELECT SUM(n) AS s FROM {dataset}.airflow", "useLegacySql": False}}
    job = hook.insert_job(configuration=configuration, project_id=PROJECT)
    rows = [list(row.values()) for row in job.result()]
    listed = hook.list_rows(**table, max_results=1)
    hook.delete_table(table_id=f"{PROJECT}.{dataset}.airflow", project_id=PROJECT)
    return [there, rows, len(list(listed)), hook.table_exists(**table)]


def classic(url: str, template: str, source: str, target: str) -> Any:
    """Launch a classic template and wait; return the job's state and last message."""
    LocalDataflowHook.url = url
    hook = LocalDataflowHook(poll_sleep=1)
    job = hook.start_template_dataflow(
        job_name="airflow-classic",
        variables={"maxWorkers": 3, "machineType": "n2-standard-2"},
        parameters={"input": source, "output": target},
        dataflow_template=template,
        project_id=PROJECT,
        location=REGION,
    )
    place = {"job_id": job["id"], "project_id": PROJECT, "location": REGION}
    said = [each["messageText"] for each in hook.fetch_job_messages_by_id(**place)]
    metrics = hook.fetch_job_metrics_by_id(**place)["metrics"]
    return [hook.get_job(**place)["currentState"], "Worker pool stopped." in said, len(metrics) > 0]


def flex(url: str, spec: str, source: str, target: str) -> Any:
    """Launch a flex template and wait; return the job's state."""
    LocalDataflowHook.url = url
    launch = {
        "jobName": "airflow-flex",
        "containerSpecGcsPath": spec,
        "parameters": {"input": source, "output": target},
    }
    hook = LocalDataflowHook(poll_sleep=1)
    job = hook.start_flex_template(body={"launchParameter": launch}, location=REGION, project_id=PROJECT)
    return job["currentState"]


def cancel(url: str, template: str, source: str, target: str) -> Any:
    """Cancel a job that is held; return its state."""
    LocalDataflowHook.url = url
    hook = LocalDataflowHook(poll_sleep=1)
    made = hook.launch_job_with_template(
        job_name="airflow-held",
        variables={},
        parameters={"input": source, "output": target},
        dataflow_template=template,
        project_id=PROJECT,
        append_job_name=False,
        location=REGION,
    )
    hook.cancel_job(project_id=PROJECT, job_id=made["id"], location=REGION)
    return hook.get_job(job_id=made["id"], project_id=PROJECT, location=REGION)["currentState"]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
