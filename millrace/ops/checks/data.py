"""What bin/doctor asks about a run's data: the bucket of Cloud Storage, the dataset of BigQuery.

Nothing is changed but for one empty table, `millrace_doctor`, which is made in the dataset and taken away again,
because what a role on a dataset allows can only be asked of a table in it.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.core.findings import Finding, ok, warning, wrong
from millrace.errors import AccessError, SettingError
from millrace.gcloud.gcs import PERMISSIONS
from millrace.gcloud.places import PATIENCE, TIMEOUT, set_in_config
from millrace.ops.checks import names
from millrace.ops.checks.findings import in_bucket, uses_dataflow
from millrace.tasks import sections
from millrace.tasks.session import current
from millrace.tasks.settings import origin

_TABLES = [f"bigquery.tables.{each}" for each in ("get", "getData", "update", "updateData", "delete")]
#: Conditions under which a rule concerns old versions only.
_OLD = {"numNewerVersions", "daysSinceNoncurrentTime", "noncurrentTimeBefore"}
#: Days for which what Dataflow leaves may be looked at.
_KEPT = 14

# --- the bucket


def bucket() -> Finding:
    """Check that the bucket is there, and lets objects be written over, as locks and the ledger have to be."""
    if not in_bucket():
        return wrong(
            f"storage = {sections.millrace().storage}, {origin('millrace', 'storage')}, is a folder, which neither "
            "Dataflow nor BigQuery can read",
            set_in_config("millrace", "storage", f"gs://{current().google.project}-millrace/data"),
        )
    name = current().places.bucket_name
    try:
        found = current().places.bucket
    except SettingError:
        return wrong(
            f"gs://{name} does not exist (storage, {origin('millrace', 'storage')})",
            names.make_bucket(name, sections.gcp().region or "us-central1"),
        )
    except AccessError as error:
        return wrong(
            f"gs://{name} does not show itself, or is somebody else's: {names.why(error)}",
            names.grant_bucket("roles/storage.legacyBucketReader"),
        )
    if found.retention_policy_effective_time:
        return wrong(
            f"gs://{name} retains every object for a time, so that none can be written over",
            f"gcloud storage buckets update gs://{name} --clear-retention-period",
        )
    return ok(f"gs://{name}, in {found.location}")


def bucket_permissions() -> Finding:
    """Check that objects can be made, read, listed, changed and deleted."""
    wanted = [*PERMISSIONS, "storage.buckets.get"]
    with current().google.told(f"ask what may be done in gs://{current().places.bucket_name}", PATIENCE):
        granted = current().places.bucket.test_iam_permissions(
            wanted, timeout=TIMEOUT, retry=current().google.retry(PATIENCE)
        )
    missing = [each for each in wanted if each not in granted]
    if missing:
        roles = ["roles/storage.objectUser"] if {*missing} & {*PERMISSIONS} else []
        roles += ["roles/storage.legacyBucketReader"] if "storage.buckets.get" in missing else []
        return wrong(f"not granted: {', '.join(missing)}", *map(names.grant_bucket, roles))
    return ok(", ".join(wanted).replace(", storage.objects.", ", "))


def lifecycle() -> Finding:
    """Check that what Dataflow leaves in _dataflow/ is deleted some day, and old versions where the bucket keeps them.

    No rule may delete what a manifest names, nor a manifest.
    """
    found, name, prefix = (
        current().places.bucket,
        current().places.bucket_name,
        current().places.staging,
    )
    rules = [dict(rule) for rule in found.lifecycle_rules]
    old = [rule for rule in rules if _deletes(rule) and _OLD & {*rule["condition"]}]
    deleting = [rule for rule in rules if _deletes(rule) and rule not in old and rule["condition"].get("isLive", True)]
    harmful = [rule for rule in deleting if any(not each.startswith(prefix) for each in _prefixes(rule, prefix))]
    needed = {"action": {"type": "Delete"}, "condition": {"age": _KEPT, "matchesPrefix": [prefix]}}
    if harmful:
        kept = [rule for rule in rules if rule not in harmful]
        return warning(
            f"a rule of gs://{name} deletes results some day, not only what is in {prefix}: {json.dumps(harmful)}",
            *_set_rules([*kept, *([needed] if uses_dataflow() and needed not in kept else [])]),
        )
    if found.versioning_enabled and not old:
        return warning(
            f"gs://{name} keeps every old version: of each lock that is renewed, of each attempt that is cleared",
            f"gcloud storage buckets update gs://{name} --no-versioning",
        )
    if not uses_dataflow():
        return ok("no old versions are kept")
    if any(prefix in _prefixes(rule, prefix) for rule in deleting):
        return ok(f"what is in {prefix} is deleted some day")
    return warning(f"nothing ever deletes what Dataflow leaves in gs://{name}/{prefix}", *_set_rules([*rules, needed]))


def _deletes(rule: Mapping[str, Any]) -> bool:
    return bool(rule["action"]["type"] == "Delete")


def _prefixes(rule: Mapping[str, Any], staging: str) -> list[str]:
    """Return those prefixes of a rule that concern the storage; "" if it has none."""
    root = staging.removesuffix("_dataflow/")
    return [p for p in rule["condition"].get("matchesPrefix", [""]) if p.startswith(root) or root.startswith(p)]


def _set_rules(rules: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the commands that give the bucket these rules, and no others."""
    return (
        f"echo {shlex.quote(json.dumps({'rule': rules}))} >lifecycle.json",
        f"gcloud storage buckets update gs://{current().places.bucket_name} --lifecycle-file=lifecycle.json",
    )


# --- the dataset


def dataset() -> Finding:
    """Check that the dataset is there, in the location that the settings name if they do."""
    name, given = current().places.dataset_name, sections.bigquery().location
    try:
        found = current().places.dataset
    except SettingError:
        return wrong(
            f"dataset {name} does not exist (warehouse, {origin('millrace', 'warehouse')})",
            f"bq --location={current().places.dataset_place} mk --dataset {name}",
        )
    except AccessError as error:
        return wrong(f"dataset {name} does not show itself: {names.why(error)}", names.grant_dataset())
    if given and given.lower() != found.location.lower():
        return wrong(
            f"dataset {name} lies in {found.location}, but the settings say {given} (location, "
            f"{origin('bigquery', 'location')})",
            set_in_config("bigquery", "location", found.location),
        )
    return ok(f"{name}, in {found.location}")


def jobs() -> Finding:
    """Check that BigQuery's jobs can be run in the project that pays."""
    from google.cloud import bigquery as api

    try:
        with current().google.told("run a job in BigQuery", PATIENCE):
            current().google.bigquery.query(
                "SELECT 1",
                job_config=api.QueryJobConfig(dry_run=True),
                location=current().places.dataset.location,
                retry=current().google.retry(PATIENCE),
                timeout=TIMEOUT,
                job_retry=None,
            )
    except AccessError as error:
        return wrong(
            f"not granted: bigquery.jobs.create ({names.why(error)})",
            names.grant_project("roles/bigquery.jobUser"),
        )
    return ok(f"bigquery.jobs.create in {current().google.project}")


def tables() -> Finding:
    """Check that tables can be made in the dataset, filled, read and emptied."""
    from google.cloud import bigquery as api

    client, again = current().google.bigquery, current().google.retry(PATIENCE)
    probe = current().places.dataset.table("millrace_doctor")
    empty = api.Table(probe, [api.SchemaField("nothing", "INT64")])
    try:
        with current().google.told(f"make table {probe}", PATIENCE):
            client.create_table(empty, exists_ok=True, retry=again, timeout=TIMEOUT)
    except AccessError as error:
        return wrong(
            f"not granted: bigquery.tables.create ({names.why(error)})",
            names.grant_dataset(current().places.dataset.location),
        )
    with current().google.told(f"ask what may be done with table {probe}", PATIENCE):
        answer = client.test_iam_permissions(probe, _TABLES, retry=again, timeout=TIMEOUT)
        missing = [each for each in _TABLES if each not in answer.get("permissions", ())]
        if "bigquery.tables.delete" not in missing:
            client.delete_table(probe, not_found_ok=True, retry=again, timeout=TIMEOUT)
    if missing:
        return wrong(f"not granted: {', '.join(missing)}", names.grant_dataset(current().places.dataset.location))
    return ok(", ".join(["bigquery.tables.create", *_TABLES]).replace(", bigquery.tables.", ", "))
