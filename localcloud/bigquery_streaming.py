"""Rows that are streamed into a table of the local BigQuery (tabledata.insertAll)."""

from collections.abc import Mapping
from typing import Any

from localcloud.bigquery_errors import ApiError, only
from localcloud.bigquery_tables import Table
from localcloud.bigquery_values import from_row


def accepted(table: Table, given: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows that a table takes, and what is wrong with the others, by their places.

    One bad row is the end of all, unless skipInvalidRows is said. A row whose insertId was taken before is passed over.
    Raises ApiError.
    """
    only(given, "kind rows skipInvalidRows ignoreUnknownValues traceId", "tabledata.insertAll")
    if not given.get("rows"):
        raise ApiError("invalid", "No rows present in the request.")
    if not table.fields:
        raise ApiError("invalid", f"The destination table {table.name} has no schema.")
    rows: list[dict[str, Any]] = []
    ids: list[str] = []
    wrong: dict[int, dict[str, str]] = {}
    for at, each in enumerate(given["rows"]):
        id = str(each.get("insertId") or "")
        if id and (id in table.streamed or id in ids):
            continue
        try:
            rows.append(from_row(each.get("json") or {}, table.fields, unknown=bool(given.get("ignoreUnknownValues"))))
            ids.append(id)
        except ValueError as error:
            wrong[at] = {"reason": "invalid", "location": "", "debugInfo": "", "message": str(error)}
    if wrong and not given.get("skipInvalidRows"):
        rows, ids = [], []
        stopped = {"reason": "stopped", "location": "", "debugInfo": "", "message": ""}
        wrong = {at: wrong.get(at, stopped) for at in range(len(given["rows"]))}
    table.streamed |= {id: True for id in ids if id}
    return rows, [{"index": at, "errors": [problem]} for at, problem in sorted(wrong.items())]
