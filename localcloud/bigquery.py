"""A local BigQuery: its REST API as google-cloud-bigquery uses it, with tables in memory.

    with Storage() as storage, BigQuery(storage.worker_url) as bigquery:
        os.environ["BIGQUERY_EMULATOR_HOST"] = bigquery.url

What it can't run it refuses with 501 (or 400), and what the real one rejects it rejects with the real one's reason.
A job is done when jobs.insert answers, but that answer still says RUNNING. Tables: bigquery_tables; jobs:
bigquery_jobs, and what they do: bigquery_work; SQL: bigquery_sql; files: bigquery_files.
"""

import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from localcloud import PROJECT, bigquery_streaming
from localcloud import bigquery_results as results
from localcloud.bigquery_calls import CALLS, PARTLY, REFUSED, reads_only
from localcloud.bigquery_catalog import Catalog
from localcloud.bigquery_errors import ApiError, only, unsupported
from localcloud.bigquery_fields import alter, conform, millis, normal
from localcloud.bigquery_files import Objects
from localcloud.bigquery_jobs import Job, Jobs
from localcloud.bigquery_query import Query
from localcloud.bigquery_results import Upload
from localcloud.bigquery_tables import Name, Table, check_shape
from localcloud.faults import FaultPlan
from localcloud.serving import Request, Response, Service, error_response, json_response

_WRITABLE = "schema timePartitioning clustering labels description friendlyName encryptionConfiguration expirationTime"
_OF_DATASETS = "labels description friendlyName access defaultTableExpirationMs defaultPartitionExpirationMs"
_SUMMARY = "$__PARTITIONS_SUMMARY__"
_SUMMARY_FIELDS = normal(
    [
        {"name": name, "type": "STRING"}
        for name in "project_id dataset_id table_id partition_id creation_time last_modified_time".split()
    ]
)


class BigQuery(Service):
    """The service. storage_url: where its jobs find the local Cloud Storage.

    Tables, views and jobs are in memory.
    """

    name = "bigquery"
    api = "bigquery", "v2"
    partly = PARTLY
    refused = MappingProxyType({begin: what for begin, (what, _) in REFUSED.items()})

    def __init__(self, storage_url: str | Callable[[], str], faults: FaultPlan | None = None) -> None:
        super().__init__(faults)
        self._catalog = Catalog()
        self._objects = Objects(storage_url)
        self._jobs = Jobs(self._catalog, self._objects)
        self._uploads: dict[str, Upload] = {}
        # One request at a time, so that a check and what follows from it are one step.
        self._lock = threading.Condition()

    @property
    def jobs(self) -> list[Job]:
        """Return all jobs, in the order of their creation."""
        with self._lock:
            return self._jobs.all()

    @property
    def catalog(self) -> Catalog:
        """Return the datasets and tables; whoever reads them holds `lock`."""
        return self._catalog

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Return what calls take turns by."""
        return self._lock

    def create_dataset(self, name: str, location: str = "US") -> None:
        """Make a dataset in the project that all tests use. Raises ApiError if it is there."""
        with self._lock:
            self._catalog.add(PROJECT, {"datasetReference": {"datasetId": name}, "location": location})

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table, or of a partition: dataset.table or dataset.table$YYYYMMDD. Raises ApiError."""
        dataset, _, name = table.partition(".")
        with self._lock:
            for project, there in self._catalog.datasets:
                if there == dataset:
                    wanted = Name.of({"projectId": project, "datasetId": dataset, "tableId": name})
                    found: list[dict[str, Any]] = self._catalog.table(wanted).read(wanted.day).to_pylist()
                    return found
        raise ApiError("notFound", f"Not found: Dataset {dataset}")

    def deny(self, *permissions: str) -> None:
        """Refuse these permissions from now on, as in "bigquery.jobs.create"."""
        self._catalog.denied.update(permissions)

    def allow(self, *permissions: str) -> None:
        """Take back what was denied."""
        self._catalog.denied.difference_update(permissions)

    def sign_in(self, account: str) -> None:
        """Take all further requests as this account's, as in "somebody@example.com"."""
        self._jobs.account = account

    def fail_jobs(
        self, kind: str, reason: str, times: int, message: str = "the local BigQuery was told to let this job fail"
    ) -> None:
        """Let the next jobs of a kind (load, query, extract, copy) fail, for a reason such as "backendError"."""
        self._jobs.failing[kind] = [ApiError(reason, message)] * times

    def take(self, kind: str, seconds: float) -> None:
        """Let the jobs of a kind (load, query, extract, copy) take so many seconds from now on, so that clients wait.

        What a job does is done at its end.
        """
        with self._lock:
            self._jobs.seconds[kind] = seconds

    def hide_jobs(self, times: int) -> None:
        """Answer so many times that a new job is not found (404), as in the moment in which a job is created."""
        self._jobs.unseen = times

    @property
    def asked_locations(self) -> list[str]:
        """Return where each job and dry run was asked to run, in order; "" for one that did not say."""
        with self._lock:
            return list(self._jobs.asked)

    def call_of(self, request: Request) -> str:
        for call, (method, path) in CALLS.items():
            if re.fullmatch(method, request.method) and re.fullmatch(path, request.path):
                begins = request.method == "POST" and request.query.get("uploadType") == "resumable"
                # An upload is the call that its last part makes.
                return "jobs.insert" if call == "jobs.upload" and not begins else call
        return next((begin for begin, (_, path) in REFUSED.items() if re.match(path, request.path)), "unknown")

    def has_effect(self, request: Request) -> bool:
        if request.call == "tables.testIamPermissions" or (request.call == "jobs.query" and reads_only(request.json())):
            return False
        return super().has_effect(request) and not _is_dry_run(request)

    def handle(self, request: Request) -> Response:
        for call, (method, path) in CALLS.items():
            found = re.fullmatch(path, request.path)
            if found and re.fullmatch(method, request.method):
                handler: Callable[..., Response] = getattr(self, "_" + call.replace(".", "_").lower())
                try:
                    with self._lock:
                        self._jobs.settle()
                        return handler(request, **found.groupdict())
                except ApiError as problem:
                    return error_response(problem.status, problem.message, problem.reason)
        if request.call in self.refused:
            return error_response(501, f"the local BigQuery has no {self.refused[request.call]}", "notImplemented")
        return error_response(501, f"the local BigQuery has no {request.method} {request.path}", "notImplemented")

    # Datasets

    def _datasets_list(self, request: Request, project: str) -> Response:
        found = [d for (its, _), d in sorted(self._catalog.datasets.items()) if its == project]
        shown, token = results.page(found, request.query)
        return json_response({"kind": "bigquery#datasetList", "datasets": shown, **results.given(nextPageToken=token)})

    def _datasets_insert(self, request: Request, project: str) -> Response:
        given = request.json()
        self._catalog.need("bigquery.datasets.create", f"Project {project}")
        only(given, f"datasetReference location {_OF_DATASETS}", "a dataset")
        return json_response(self._catalog.add(project, given))

    def _datasets_get(self, request: Request, project: str, dataset: str) -> Response:
        self._catalog.need("bigquery.datasets.get", f"Dataset {project}:{dataset}")
        return json_response(self._catalog.dataset(project, dataset))

    def _datasets_patch(self, request: Request, project: str, dataset: str) -> Response:
        given = request.json()
        return self._describe_dataset(request, project, dataset, given, kept=set(_OF_DATASETS.split()) - set(given))

    def _datasets_update(self, request: Request, project: str, dataset: str) -> Response:
        return self._describe_dataset(request, project, dataset, request.json(), kept=set())

    def _describe_dataset(
        self, request: Request, project: str, dataset: str, given: dict[str, Any], kept: set[str]
    ) -> Response:
        self._catalog.need("bigquery.datasets.update", f"Dataset {project}:{dataset}")
        found = self._catalog.dataset(project, dataset)
        if request.headers.get("If-Match") not in (None, "*", found["etag"]):
            raise ApiError("conditionNotMet", "Precondition Failed")
        if kept and given.get("labels"):
            labels = {**found.get("labels", {}), **given["labels"]}
            given["labels"] = {key: value for key, value in labels.items() if value is not None}
        writable = set(_OF_DATASETS.split())
        unknown = {key: value for key, value in given.items() if key not in found and key not in writable}
        only(unknown, "", "a dataset")
        return json_response(self._catalog.describe(project, dataset, {key: given.get(key) for key in writable - kept}))

    def _datasets_delete(self, request: Request, project: str, dataset: str) -> Response:
        self._catalog.drop(project, dataset, contents=request.query.get("deleteContents", "").lower() == "true")
        return Response(204)

    # Tables

    def _tables_list(self, request: Request, project: str, dataset: str) -> Response:
        self._catalog.need("bigquery.tables.list", f"Dataset {project}:{dataset}")
        self._catalog.dataset(project, dataset)
        hidden = ("schema", "etag", "numRows", "numBytes", "location")
        found = [
            {key: value for key, value in table.resource().items() if key not in hidden}
            for table in self._catalog.within(project, dataset)
        ]
        shown, token = results.page(found, request.query)
        return json_response(
            {
                "kind": "bigquery#tableList",
                "tables": shown,
                "totalItems": len(found),
                **results.given(nextPageToken=token),
            }
        )

    def _tables_insert(self, request: Request, project: str, dataset: str) -> Response:
        given = request.json()
        self._catalog.dataset(project, dataset)
        only(given, f"tableReference view materializedView {_WRITABLE}", "a table")
        name = Name.of(given["tableReference"])
        if name in self._catalog.tables:
            raise ApiError("duplicate", f"Already Exists: Table {name}")
        if name.day:
            raise ApiError("invalid", f'Invalid table ID "{given["tableReference"]["tableId"]}".')
        about = {key: value for key, value in given.items() if key in _WRITABLE.split()}
        for key, kind in (("view", "VIEW"), ("materializedView", "MATERIALIZED_VIEW")):
            if given.get(key):
                only(given[key], "query useLegacySql", "a view")
                # A materialized view has but one dialect.
                dialect = {"useLegacySql": False} if key == "materializedView" else {}
                query = Query(self._catalog, self._objects, {**given[key], **dialect}, project)
                about |= {"type": kind, key: given[key], "schema": {"fields": query.estimate().fields}}
        self._catalog.tables[name] = self._catalog.new(name, about)
        return json_response(self._catalog.tables[name].resource())

    def _tables_get(self, request: Request, project: str, dataset: str, table: str) -> Response:
        found, day = self._table(project, dataset, table, "bigquery.tables.get")
        if table.endswith(_SUMMARY):
            reference = {"projectId": project, "datasetId": dataset, "tableId": table}
            shown = {**found.resource(), "tableReference": reference, "schema": {"fields": _SUMMARY_FIELDS}}
            return json_response({**shown, "numRows": str(len(found.partitions()))})
        return json_response(found.resource(day))

    def _tables_patch(self, request: Request, project: str, dataset: str, table: str) -> Response:
        found, _ = self._table(project, dataset, table, "bigquery.tables.update")
        given = request.json()
        labels = {**found.about.get("labels", {}), **(given.get("labels") or {})}
        given["labels"] = {key: value for key, value in labels.items() if value is not None}
        return self._describe(request, found, {**found.about, **given})

    def _tables_update(self, request: Request, project: str, dataset: str, table: str) -> Response:
        found, _ = self._table(project, dataset, table, "bigquery.tables.update")
        return self._describe(request, found, request.json())

    def _tables_delete(self, request: Request, project: str, dataset: str, table: str) -> Response:
        found, day = self._table(project, dataset, table, "bigquery.tables.delete")
        if not day:
            del self._catalog.tables[found.name]
            return Response(204)
        partitions = found.partitions()
        if day not in partitions:
            raise ApiError("notFound", f"Not found: Table {found.name}${day}")
        kept = [rows for other, rows in partitions.items() if other != day]
        self._catalog.change(found, found.about, pa.concat_tables([found.rows.slice(0, 0), *kept]))
        return Response(204)

    def _tables_testiampermissions(self, request: Request, project: str, dataset: str, table: str) -> Response:
        self._table(project, dataset, table, "")
        return json_response(
            {"permissions": [each for each in request.json()["permissions"] if each not in self._catalog.denied]}
        )

    def _tabledata_list(self, request: Request, project: str, dataset: str, table: str) -> Response:
        found, day = self._table(project, dataset, table, "bigquery.tables.getData")
        if found.is_view:
            raise ApiError("invalid", f"Cannot list a table of type {found.about['type']}.")
        rows, fields = found.read(day), found.fields
        if table.endswith(_SUMMARY):
            fields, times = _SUMMARY_FIELDS, (millis(found.created), millis(found.changed))
            days = [(project, dataset, found.name.table, each, *times) for each in found.partitions()]
            names = [each["name"] for each in fields]
            rows = conform(pa.Table.from_pylist([dict(zip(names, each, strict=True)) for each in days]), fields)
        if request.query.get("selectedFields"):
            selected = request.query["selectedFields"].split(",")
            fields = [each for each in fields if each["name"] in selected]
        return json_response({"kind": "bigquery#tableDataList", **results.rows(rows, fields, request.query)})

    def _tabledata_insertall(self, request: Request, project: str, dataset: str, table: str) -> Response:
        found, day = self._table(project, dataset, table, "bigquery.tables.updateData")
        if found.is_view:
            raise ApiError("invalid", f"Cannot insert rows into a table of type {found.about['type']}.")
        if day:
            raise unsupported("streaming into a partition")
        rows, errors = bigquery_streaming.accepted(found, request.json())
        if rows:
            fresh = pa.Table.from_pylist(rows, found.rows.schema)
            self._catalog.change(found, found.about, pa.concat_tables([found.rows, fresh]))
        shown = {"kind": "bigquery#tableDataInsertAllResponse", **results.given(insertErrors=errors)}
        return json_response(shown)

    def _table(self, project: str, dataset: str, table: str, permission: str) -> tuple[Table, str]:
        """Return a table and the partition that the path names. Raises ApiError."""
        reference = {"projectId": project, "datasetId": dataset, "tableId": table.removesuffix(_SUMMARY)}
        name = Name.of(reference)
        self._catalog.need(permission, f"Table {name.whole}")
        return self._catalog.table(name), name.day

    def _describe(self, request: Request, table: Table, given: Mapping[str, Any]) -> Response:
        """Give a table another description, if the etag in If-Match is still its own."""
        expected = request.headers.get("If-Match")
        if expected and expected not in ("*", table.resource()["etag"]):
            raise ApiError("conditionNotMet", "Precondition Failed")
        about = {key: given[key] for key in _WRITABLE.split() if given.get(key) is not None}
        about.setdefault("schema", table.about.get("schema", {}))
        if table.is_view:
            key = "view" if table.about["type"] == "VIEW" else "materializedView"
            changed = {"type": table.about["type"], key: given.get(key) or table.about[key]}
            if changed[key] != table.about[key]:
                query = Query(self._catalog, self._objects, changed[key], table.name.project)
                about["schema"] = {"fields": query.estimate().fields}
            self._catalog.change(table, {**about, **changed}, table.rows)
            return json_response(table.resource())
        if table.about.get("timePartitioning") and "timePartitioning" not in given:
            about["timePartitioning"] = table.about["timePartitioning"]
        new = normal(about.get("schema", {}).get("fields", []))
        about["schema"] = {"fields": alter(table.name, table.fields, new)}
        check_shape(about)
        if (about.get("timePartitioning") or {}).get("field") != table.day_field:
            raise ApiError("invalid", "Cannot change partitioning spec for a partitioned or not partitioned table.")
        self._catalog.change(table, about, conform(table.rows, about["schema"]["fields"]))
        return json_response(table.resource())

    # Jobs

    def _jobs_list(self, request: Request, project: str) -> Response:
        self._catalog.need("bigquery.jobs.list", f"Project {project}")
        known = "maxResults pageToken stateFilter projection allUsers parentJobId minCreationTime maxCreationTime"
        only(request.query, known, "jobs.list")
        shown, token = results.page(results.listed(self._jobs.all(), project, request.query), request.query)
        return json_response({"kind": "bigquery#jobList", "jobs": shown, **results.given(nextPageToken=token)})

    def _jobs_insert(self, request: Request, project: str) -> Response:
        return self._inserted(project, request.json(), None)

    def _jobs_get(self, request: Request, project: str, job: str) -> Response:
        found = self._jobs.get(project, request.query.get("location"), job)
        if found.account != self._jobs.account:  # the project's owner may too, but nobody is that here
            why = f"User does not have bigquery.jobs.get permission for job {found.name}."
            raise ApiError("accessDenied", f"Access Denied: Job {found.name}: {why}")
        return json_response(found.resource())

    def _jobs_delete(self, request: Request, project: str, job: str) -> Response:
        self._jobs.delete(self._jobs.get(project, request.query.get("location"), job))
        return Response(204)

    def _jobs_cancel(self, request: Request, project: str, job: str) -> Response:
        # Cancelling a job that is done is no error and changes nothing.
        found = self._jobs.get(project, request.query.get("location"), job)
        self._jobs.cancel(found)
        return json_response({"kind": "bigquery#jobCancelResponse", "job": found.resource()})

    def _jobs_query(self, request: Request, project: str) -> Response:
        given = request.json()
        around = "kind maxResults timeoutMs formatOptions requestId location dryRun labels jobCreationMode".split()
        config = {key: value for key, value in given.items() if key not in around}
        if given.get("dryRun"):
            job = self._jobs.dry_run(project, config, given.get("location"))
            about = job["statistics"]["query"]
            return json_response(
                {
                    "kind": "bigquery#queryResponse",
                    "jobReference": job["jobReference"],
                    "jobComplete": True,
                    "schema": about["schema"],
                    "totalBytesProcessed": about["totalBytesProcessed"],
                    "cacheHit": False,
                }
            )
        resource = {"configuration": {"query": config, **results.given(labels=given.get("labels"))}}
        reference = results.given(location=given.get("location"))
        found = self._jobs.run(project, resource, reference, None, request_id=given.get("requestId", ""))
        self._wait(found, given.get("timeoutMs"))
        paging = {key: str(given[key]) for key in ("maxResults",) if key in given}
        if given.get("formatOptions", {}).get("useInt64Timestamp"):
            paging["formatOptions.useInt64Timestamp"] = "true"
        return json_response({**results.results(found, paging), "kind": "bigquery#queryResponse"})

    def _jobs_getqueryresults(self, request: Request, project: str, job: str) -> Response:
        found = self._jobs.get(project, request.query.get("location"), job)
        if found.kind != "query":
            raise ApiError("invalid", f"Job {found.name} is not a query job.")
        self._wait(found, request.query.get("timeoutMs"))
        return json_response({**results.results(found, request.query), "kind": "bigquery#getQueryResultsResponse"})

    def _wait(self, job: Job, milliseconds: str | int | None) -> None:
        """Wait until a job is done, or for so long, and let others in meanwhile."""
        end = time.monotonic() + min(int(10_000 if milliseconds is None else milliseconds), 200_000) / 1000
        while not job.over and time.monotonic() < end and not self._stopping.is_set():
            self._lock.wait(0.02)
            self._jobs.settle()

    def _jobs_upload(self, request: Request, project: str) -> Response:
        if request.query.get("uploadType") == "multipart":
            resource, data = results.parts(request)
            return self._inserted(project, resource, data)
        if request.method == "POST":
            key = uuid.uuid4().hex
            self._uploads[key] = Upload(request.json())
            where = f"http://{request.headers['Host']}{request.path}?uploadType=resumable&upload_id={key}"
            return Response(200, headers={"Location": where})
        upload = self._uploads.get(request.query.get("upload_id", ""))
        if upload is None:
            raise ApiError("notFound", "Not found: upload")
        if upload.answer is None:
            span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", request.headers.get("Content-Range", ""))
            if span is None:
                raise ApiError("invalid", "Failed to parse Content-Range header.")
            if span[1]:
                if int(span[1]) > len(upload.data):
                    raise ApiError("invalid", "A part of the upload is missing.")
                upload.data = upload.data[: int(span[1])] + request.body
            if span[2] == "*" or int(span[2]) > len(upload.data):
                there = {"Range": f"bytes=0-{len(upload.data) - 1}"} if upload.data else {}
                return Response(308, headers=there)
            upload.answer = self._inserted(project, upload.resource, upload.data)
        return upload.answer

    def _inserted(self, project: str, resource: dict[str, Any], data: bytes | None) -> Response:
        configuration = resource.get("configuration", {})
        reference = resource.get("jobReference", {})
        if configuration.get("dryRun"):
            if "query" not in configuration:
                raise ApiError("notImplemented", "the local BigQuery has no dry runs but of queries")
            return json_response(self._jobs.dry_run(project, configuration["query"], reference.get("location")))
        return json_response(self._jobs.run(project, resource, reference, data).resource(running=True))


def _is_dry_run(request: Request) -> bool:
    plain = request.call == "jobs.insert" and request.path.startswith("/bigquery/")
    return plain and bool(request.json().get("configuration", {}).get("dryRun"))
