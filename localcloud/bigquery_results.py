"""Answers of the local BigQuery: pages of rows and of listings; and the parts of uploads."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from localcloud.bigquery_errors import ApiError
from localcloud.bigquery_fields import Field, cells
from localcloud.bigquery_jobs import Job
from localcloud.serving import Request, Response

#: No page of rows is longer.
_PAGE = 10_000


@dataclass
class Upload:
    """A resumable upload; answer: what its last part was answered."""

    resource: dict[str, Any]
    data: bytes = b""
    answer: Response | None = None


def results(job: Job, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a query's result as the API gives it. Raises ApiError if the query failed."""
    if not job.over:
        return {"jobReference": job.reference, "jobComplete": False}
    if job.error:
        raise job.error
    about = job.outcome.statistics["query"]
    shown = {
        "jobReference": job.reference,
        "jobComplete": True,
        "cacheHit": False,
        "totalBytesProcessed": about["totalBytesProcessed"],
        **given(numDmlAffectedRows=about.get("numDmlAffectedRows")),
    }
    if job.outcome.rows is None:
        return shown
    found = rows(job.outcome.rows, job.outcome.fields, query)
    return {**shown, **found, "schema": {"fields": job.outcome.fields}}


def listed(jobs: Sequence[Job], project: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the jobs that a listing shows, the last one first; a script's own only where it is named."""
    found = []
    for job in reversed(jobs):
        state = "done" if job.over else "running"
        earliest, latest = int(query.get("minCreationTime", 0)), int(query.get("maxCreationTime", 1 << 62))
        wanted = query.get("stateFilter", state).lower() == state and job.parent == query.get("parentJobId", "")
        if wanted and job.project == project and earliest <= job.created * 1000 <= latest:
            shown = job.resource()
            found.append(
                {**shown, "state": shown["status"]["state"], **given(errorResult=shown["status"].get("errorResult"))}
            )
    return found


def rows(rows: pa.Table, fields: Sequence[Field], query: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of a result's rows."""
    start = int(query.get("pageToken") or query.get("startIndex") or 0)
    size = min(int(query.get("maxResults", _PAGE)), _PAGE)
    page = rows.slice(start, size)
    more = size and start + size < rows.num_rows
    micros = query.get("formatOptions.useInt64Timestamp", "").lower() == "true"
    return {
        "totalRows": str(rows.num_rows),
        **given(rows=cells(page, fields, micros=micros), pageToken=str(start + size) if more else None),
    }


def page(items: Sequence[Any], query: Mapping[str, str]) -> tuple[Sequence[Any], str | None]:
    """Return a page of a listing and the token of the next page."""
    start = int(query.get("pageToken", 0))
    end = start + int(query.get("maxResults", 1000))
    return items[start:end], str(end) if end < len(items) else None


def given(**parts: Any) -> dict[str, Any]:
    """Return what is there of this."""
    return {key: value for key, value in parts.items() if value}


def parts(request: Request) -> tuple[dict[str, Any], bytes]:
    """Return the two parts of a multipart upload: the job and the file."""
    boundary = re.search(r'boundary="?([^";]+)', request.headers.get("Content-Type", ""))
    if boundary is None:
        raise ApiError("invalid", "A multipart upload needs a boundary.")
    pieces = request.body.split(b"--" + boundary[1].encode())
    if len(pieces) != 4:
        raise ApiError("invalid", "A multipart upload has two parts.")
    bodies = [piece.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for piece in pieces[1:3]]
    return json.loads(bodies[0]), bodies[1]
