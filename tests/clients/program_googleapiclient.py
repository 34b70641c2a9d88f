"""What googleapiclient does with the local cloud: a function each, run by name in .venv-clients with its arguments.

What a function returns is printed as JSON.
"""

import io
import json
import sys
import time
from typing import Any

from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build, build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaFileUpload, MediaIoBaseDownload, MediaIoBaseUpload

PROJECT, REGION, BUCKET = "millrace-test", "us-central1", "millrace-test"
NOBODY = AnonymousCredentials()  # type: ignore[no-untyped-call]


def service(name: str, version: str, url: str) -> Any:
    """Return an API's client that talks to an address.

    By the document, because with the option api_endpoint googleapiclient uploads to https:// even where that is http://.
    """
    document = json.loads(get_static_doc(name, version))
    document["rootUrl"] = f"{url}/"
    return build_from_document(document, credentials=NOBODY)


def at(name: str, version: str, url: str) -> Any:
    """Return an API's client that talks to an address, by the option api_endpoint."""
    return build(name, version, credentials=NOBODY, client_options={"api_endpoint": url})


def ended(jobs: Any, id: str) -> str:
    """Return the state in which a job ended."""
    for _ in range(240):
        job = jobs.get(projectId=PROJECT, location=REGION, jobId=id, fields="currentState").execute()
        assert list(job) == ["currentState"], job
        state = str(job["currentState"])
        if state in ("JOB_STATE_DONE", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"):
            return state
        time.sleep(0.5)
    raise AssertionError(f"job {id} does not end")


def classic(url: str, template: str, name: str, source: str, target: str) -> Any:
    """Launch a classic template; return the state, the last message, and the views of the job."""
    locations = at("dataflow", "v1b3", url).projects().locations()
    body = {"jobName": name, "parameters": {"input": source, "output": target}, "environment": {"maxWorkers": 3}}
    made = locations.templates().launch(projectId=PROJECT, location=REGION, gcsPath=template, body=body).execute()
    id = made["job"]["id"]
    state = ended(locations.jobs(), id)
    asked = (
        locations.jobs()
        .messages()
        .list(projectId=PROJECT, location=REGION, jobId=id, minimumImportance="JOB_MESSAGE_DEBUG")
    )
    said = [each["messageText"] for each in asked.execute()["jobMessages"]]
    views = {
        view: sorted(locations.jobs().get(projectId=PROJECT, location=REGION, jobId=id, view=view).execute())
        for view in ("JOB_VIEW_SUMMARY", "JOB_VIEW_ALL")
    }
    metrics = locations.jobs().getMetrics(projectId=PROJECT, location=REGION, jobId=id).execute()
    listed = at("dataflow", "v1b3", url).projects().jobs().aggregated(projectId=PROJECT).execute()
    return {
        "state": state,
        "last": said[-1],
        "views": views,
        "metrics": len(metrics["metrics"]),
        "listed": id in [job["id"] for job in listed["jobs"]],
    }


def flex(url: str, spec: str, name: str, source: str, target: str) -> Any:
    """Launch a flex template; return the state of its job."""
    locations = at("dataflow", "v1b3", url).projects().locations()
    launch = {"jobName": name, "containerSpecGcsPath": spec, "parameters": {"input": source, "output": target}}
    asked = locations.flexTemplates().launch(projectId=PROJECT, location=REGION, body={"launchParameter": launch})
    return ended(locations.jobs(), asked.execute()["job"]["id"])


def launched(url: str, kind: str, template: str, name: str, parameters: str) -> Any:
    """Launch a template of a kind with parameters in JSON; return the state of its job."""
    locations = at("dataflow", "v1b3", url).projects().locations()
    launch: dict[str, Any] = {"jobName": name, "parameters": json.loads(parameters)}
    if kind == "classic":
        asked = locations.templates().launch(projectId=PROJECT, location=REGION, gcsPath=template, body=launch)
    else:
        launch["containerSpecGcsPath"] = template
        asked = locations.flexTemplates().launch(projectId=PROJECT, location=REGION, body={"launchParameter": launch})
    return ended(locations.jobs(), asked.execute()["job"]["id"])


def refused(url: str) -> Any:
    """Return the status and the text of the error for a job that is not there."""
    jobs = at("dataflow", "v1b3", url).projects().locations().jobs()
    try:
        jobs.get(projectId=PROJECT, location=REGION, jobId="nothing").execute()
    except HttpError as error:
        return [error.resp.status, error.reason]
    return None


def objects(url: str, prefix: str) -> Any:
    """Write, page through, rewrite, compose, read in pieces and delete objects; return what was seen."""
    client = service("storage", "v1", url).objects()
    for name, resumable in (("a", False), ("b", True), ("c", True)):
        media = MediaIoBaseUpload(io.BytesIO(name.encode() * 3), "text/plain", resumable=resumable)
        client.insert(bucket=BUCKET, name=f"{prefix}/{name}", media_body=media).execute()
    pages, asked = [], client.list(bucket=BUCKET, prefix=prefix, maxResults=2, fields="items(name),nextPageToken")
    while asked is not None:
        page = asked.execute()
        pages.append([each["name"].rpartition("/")[2] for each in page["items"]])
        asked = client.list_next(asked, page)
    sources = [{"name": f"{prefix}/{name}"} for name in "ab"]
    whole = client.compose(
        destinationBucket=BUCKET, destinationObject=f"{prefix}/whole", body={"sourceObjects": sources}
    ).execute()
    place = {"sourceBucket": BUCKET, "destinationBucket": BUCKET}
    names = {"sourceObject": f"{prefix}/whole", "destinationObject": f"{prefix}/copy"}
    copied = client.rewrite(**place, **names, body={}).execute()
    data = io.BytesIO()
    download, done = MediaIoBaseDownload(data, client.get_media(bucket=BUCKET, object=f"{prefix}/copy"), 4), False
    while not done:
        _, done = download.next_chunk()
    client.delete(bucket=BUCKET, object=f"{prefix}/copy").execute()
    try:
        client.get(bucket=BUCKET, object=f"{prefix}/copy").execute()
    except HttpError as error:
        gone = error.resp.status
    return [pages, whole["componentCount"], copied["done"], data.getvalue().decode(), gone]


def tables(url: str, dataset: str, path: str) -> Any:
    """Make a table, fill it by a resumable load and by insertAll, page through a query; return what was seen."""
    client = service("bigquery", "v2", url)
    fields = [{"name": "name", "type": "STRING"}, {"name": "n", "type": "INTEGER"}]
    table = {"projectId": PROJECT, "datasetId": dataset, "tableId": "googleapiclient"}
    client.tables().insert(
        projectId=PROJECT, datasetId=dataset, body={"tableReference": table, "schema": {"fields": fields}}
    ).execute()
    load = {"destinationTable": table, "sourceFormat": "CSV"}
    body = {"configuration": {"load": load}, "jobReference": {"projectId": PROJECT, "jobId": "load_of_googleapiclient"}}
    media = MediaFileUpload(path, "application/octet-stream", resumable=True)
    client.jobs().insert(projectId=PROJECT, body=body, media_body=media).execute()
    while (job := client.jobs().get(projectId=PROJECT, jobId="load_of_googleapiclient").execute())["status"][
        "state"
    ] != "DONE":
        time.sleep(0.2)
    rows = {"rows": [{"insertId": "1", "json": {"name": "c", "n": 3}}]}
    inserted = client.tabledata().insertAll(**table, body=rows).execute()
    query = {"query": f"SELECT n FROM {dataset}.googleapiclient ORDER BY n", "useLegacySql": False, "maxResults": 2}
    page = client.jobs().query(projectId=PROJECT, body=query).execute()
    seen = [[row["f"][0]["v"] for row in page["rows"]]]
    while token := page.get("pageToken"):
        id = page["jobReference"]["jobId"]
        page = client.jobs().getQueryResults(projectId=PROJECT, jobId=id, pageToken=token, maxResults=2).execute()
        seen.append([row["f"][0]["v"] for row in page["rows"]])
    client.tables().delete(**table).execute()
    return [job["statistics"]["load"]["outputRows"], inserted.get("insertErrors"), seen]


def discovered(url: str) -> Any:
    """Build a client of BigQuery from the document that the service itself answers with; return the datasets."""
    where = f"{url}/$discovery/rest?version=v2"
    client = build("bigquery", "v2", credentials=NOBODY, discoveryServiceUrl=where, static_discovery=False)
    listed = client.datasets().list(projectId=PROJECT).execute()
    return [each["datasetReference"]["datasetId"] for each in listed["datasets"]]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
