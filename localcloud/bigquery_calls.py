"""The calls of BigQuery's API that the local BigQuery serves, and what they leave out."""

import re
from collections.abc import Mapping
from typing import Any

_API = r"/bigquery/v2/projects/(?P<project>[^/]+)"
_DATASET = _API + r"/datasets/(?P<dataset>[^/]+)"
_TABLE = _DATASET + r"/tables/(?P<table>[^/:]+)"
_JOB = _API + r"/jobs/(?P<job>[^/]+)"
#: Name → verb and path.
CALLS = {
    "datasets.list": ("GET", _API + "/datasets"),
    "datasets.insert": ("POST", _API + "/datasets"),
    "datasets.get": ("GET", _DATASET),
    "datasets.delete": ("DELETE", _DATASET),
    "datasets.patch": ("PATCH", _DATASET),
    "datasets.update": ("PUT", _DATASET),
    "tables.list": ("GET", _DATASET + "/tables"),
    "tables.insert": ("POST", _DATASET + "/tables"),
    "tables.get": ("GET", _TABLE),
    "tables.patch": ("PATCH", _TABLE),
    "tables.update": ("PUT", _TABLE),
    "tables.delete": ("DELETE", _TABLE),
    "tables.testIamPermissions": ("POST", _TABLE + ":testIamPermissions"),
    "tabledata.list": ("GET", _TABLE + "/data"),
    "tabledata.insertAll": ("POST", _TABLE + "/insertAll"),
    "jobs.list": ("GET", _API + "/jobs"),
    "jobs.insert": ("POST", _API + "/jobs"),
    "jobs.get": ("GET", _JOB),
    "jobs.delete": ("DELETE", _JOB + "/delete"),
    "jobs.cancel": ("POST", _JOB + "/cancel"),
    "jobs.query": ("POST", _API + "/queries"),
    "jobs.getQueryResults": ("GET", _API + "/queries/(?P<job>[^/]+)"),
    "jobs.upload": ("(POST|PUT)", "/upload" + _API + "/jobs"),
}
#: What calls leave out.
PARTLY = {
    "datasets.insert": "location, labels, description, friendlyName, access (kept, and not enforced), expirations.",
    "datasets.list": "Without filters.",
    "tables.insert": "Tables, by the day of a field or not partitioned, views, materialized views (read as views "
    "are); no external tables, snapshots; no GEOGRAPHY, INTERVAL, RANGE, default values.",
    "tabledata.insertAll": "Without templateSuffix; rows are there at once.",
    "jobs.insert": "load: Avro, CSV, JSON lines, Parquet, without maxBadRecords. query: GoogleSQL, not legacy SQL: "
    "SELECT, DML, TRUNCATE, definitions of tables, views and datasets, scripts of these; no variables, functions, "
    "transactions. extract: the same formats. copy: no snapshots and clones.",
    "jobs.query": "As jobs.insert.",
    "jobs.getQueryResults": "timeoutMs is kept for jobs that were told to take time.",
}
#: What is refused by name: how the calls begin, what they are about, and their paths.
REFUSED = {
    "models.": ("models", _DATASET + "/models"),
    "routines.": ("routines", _DATASET + "/routines"),
    "rowAccessPolicies.": ("row access policies", _TABLE + "/rowAccessPolicies"),
    "tables.policies": ("policies of tables", _TABLE + ":[gs]etIamPolicy"),
    "datasets.undelete": ("datasets that come back", _DATASET + ":undelete"),
}


def reads_only(query: Mapping[str, Any]) -> bool:
    """Return whether a query's text is a SELECT, and so changes nothing."""
    text = re.sub(r"(--|#)[^\n]*|/\*.*?\*/", " ", str(query.get("query", "")), flags=re.DOTALL)
    return bool(query.get("dryRun") or re.match(r"[\s(]*(SELECT|WITH|FROM)\b[^;]*;?\s*$", text, re.IGNORECASE))
