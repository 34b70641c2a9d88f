"""What bin/doctor asks about a run's data: the bucket of Cloud Storage, the dataset of BigQuery.

Nothing is changed but for one empty table, `millrace_doctor`, which is made in the dataset and taken away again: what a
role on a dataset allows can only be asked of a table in it.
"""

import json

from pipelines.errors import AccessError, MillraceError
from workflows.engine import clients, cloud_names, sections
from workflows.engine.checks import Finding, in_bucket, ok, uses_dataflow, warning, wrong
from workflows.engine.cloud_names import PATIENCE, TIMEOUT
from workflows.engine.google_calls import retry, told
from workflows.engine.settings import origin

_OBJECTS = [f"storage.objects.{each}" for each in ("create", "get", "list", "update", "delete")]
_TABLES = [f"bigquery.tables.{each}" for each in ("get", "getData", "update", "updateData", "delete")]

# --- the bucket


def bucket() -> Finding:
    """The bucket is there, and lets objects be written over, which locks and the ledger need."""
    from google.api_core.exceptions import Forbidden, NotFound

    if not in_bucket():
        return wrong(
            f"storage = {sections.millrace().storage}, {origin('millrace', 'storage')}, is a folder, which neither "
            "Dataflow nor BigQuery can read",
            f"[millrace] in luigi.cfg: storage = gs://{clients.project()}-millrace/data",
        )
    name = cloud_names.bucket_name()
    try:
        found = cloud_names.bucket()
    except MillraceError as error:
        region = sections.gcp().region or "us-central1"
        if isinstance(error.__cause__, NotFound):
            return wrong(
                f"gs://{name} does not exist ({origin('millrace', 'storage')})",
                f"gcloud storage buckets create gs://{name} --project={clients.project()} --location={region} "
                "--uniform-bucket-level-access --public-access-prevention",
            )
        if isinstance(error.__cause__, Forbidden):
            return wrong(
                f"gs://{name} does not show itself; it may also be somebody else's: {cloud_names.why(error)}",
                cloud_names.grant_bucket("roles/storage.legacyBucketReader"),
            )
        raise
    if found.retention_policy_effective_time:
        return wrong(
            f"gs://{name} keeps every object for a time, so that none can be written over",
            f"gcloud storage buckets update gs://{name} --clear-retention-period",
        )
    return ok(f"gs://{name}, in {found.location}")


def bucket_permissions() -> Finding:
    """Objects can be made, read, listed, changed and deleted."""
    with told(f"ask what may be done in gs://{cloud_names.bucket_name()}"):
        wanted = [*_OBJECTS, "storage.buckets.get"]
        granted = cloud_names.bucket().test_iam_permissions(wanted, timeout=TIMEOUT, retry=retry(PATIENCE))
    missing = [each for each in wanted if each not in granted]
    if missing:
        roles = ["roles/storage.objectUser"] if set(missing) & set(_OBJECTS) else []
        roles += ["roles/storage.legacyBucketReader"] if "storage.buckets.get" in missing else []
        return wrong(f"not granted: {', '.join(missing)}", *map(cloud_names.grant_bucket, roles))
    return ok(", ".join(_OBJECTS).replace(", storage.objects.", ", "))


def bucket_region() -> Finding:
    """Dataflow's workers are where the bucket is: anything else is slow, and traffic between regions is charged."""
    places, region = cloud_names.bucket_places(), sections.gcp().region.lower()
    if any(cloud_names.lies_in(region, place) for place in places):
        return ok(f"{region} is in {'+'.join(places)}")
    near = (
        places[0]
        if places[0] not in cloud_names.CONTINENTS
        else {"us": "us-central1", "eu": "europe-west1"}.get(places[0], "")
    )
    return wrong(
        f"Dataflow runs in {region} ({origin('gcp', 'region')}), but gs://{cloud_names.bucket_name()} lies in {'+'.join(places)}: "
        "every byte would travel, slowly and for money; a bucket never moves",
        *([f"[gcp] in luigi.cfg: region = {near}"] if near else []),
        f"or gcloud storage buckets create gs://{cloud_names.bucket_name()}-{region} --project={clients.project()} "
        f"--location={region} --uniform-bucket-level-access, and name it in [millrace] storage",
    )


def lifecycle() -> Finding:
    """What Dataflow leaves in _dataflow/ is deleted some day, and so are old versions, where the bucket keeps them."""
    found, prefix = cloud_names.bucket(), cloud_names.staging()
    deleting = [rule for rule in found.lifecycle_rules if rule.get("action", {}).get("type") == "Delete"]
    conditions = [rule.get("condition", {}) for rule in deleting]
    if found.versioning_enabled and not any({"numNewerVersions", "daysSinceNoncurrentTime"} & {*c} for c in conditions):
        return warning(
            f"gs://{cloud_names.bucket_name()} keeps every old version: each lock that is renewed and each attempt that is cleared "
            "stays and is paid for",
            f"gcloud storage buckets update gs://{cloud_names.bucket_name()} --no-versioning",
        )
    if not uses_dataflow() or any(prefix.startswith(p) for c in conditions for p in c.get("matchesPrefix", ())):
        return ok(f"deletes what is below {prefix}" if uses_dataflow() else "keeps no old versions")
    rule = {"action": {"type": "Delete"}, "condition": {"age": 14, "matchesPrefix": [prefix]}}
    rules = json.dumps({"rule": [*map(dict, found.lifecycle_rules), rule]})
    return warning(
        f"nothing deletes what Dataflow leaves in gs://{cloud_names.bucket_name()}/{prefix}",
        f"echo '{rules}' >lifecycle.json && gcloud storage buckets update gs://{cloud_names.bucket_name()} "
        "--lifecycle-file=lifecycle.json",
    )


def dataset() -> Finding:
    """The dataset is there, in the location that the settings name if they do."""
    from google.api_core.exceptions import Forbidden, NotFound

    name = cloud_names.dataset_name()
    try:
        found = cloud_names.dataset()
    except MillraceError as error:
        if isinstance(error.__cause__, NotFound):
            return wrong(
                f"dataset {name} does not exist ({origin('millrace', 'warehouse')})",
                f"bq --location={cloud_names.dataset_place()} mk --dataset {name}",
            )
        if isinstance(error.__cause__, Forbidden):
            return wrong(f"dataset {name} does not show itself: {cloud_names.why(error)}", cloud_names.grant_dataset())
        raise
    given = sections.bigquery().location
    if given and given.lower() != found.location.lower():
        return wrong(
            f"dataset {name} lies in {found.location}, but location = {given} ({origin('bigquery', 'location')})",
            f"[bigquery] in luigi.cfg: location = {found.location}",
        )
    return ok(f"{name}, in {found.location}")


def dataset_location() -> Finding:
    """BigQuery loads from a bucket in the dataset's own region, or within its multi-region, and from no other."""
    places, there = cloud_names.bucket_places(), cloud_names.dataset().location.lower()
    if all(cloud_names.lies_in(place, there) for place in places):
        return ok(f"gs://{cloud_names.bucket_name()} is in {there}, from where BigQuery can load")
    text = f"gs://{cloud_names.bucket_name()} lies in {'+'.join(places)}, the dataset in {there}"
    if there == "us":
        return warning(f"{text}: BigQuery loads it all the same, but every byte travels", *cloud_names.other_dataset())
    return wrong(
        f"{text}: BigQuery loads only from a bucket in the dataset's region, or within its multi-region; "
        "neither of them ever moves",
        *cloud_names.other_dataset(),
    )


def jobs() -> Finding:
    """BigQuery's jobs can be run in the project that pays."""
    from google.cloud import bigquery as api

    try:
        with told("run a job in BigQuery"):
            clients.bigquery_client().query(
                "SELECT 1",
                job_config=api.QueryJobConfig(dry_run=True),
                location=cloud_names.dataset().location,
                retry=retry(PATIENCE),
                timeout=TIMEOUT,
                job_retry=None,
            )
    except AccessError as error:
        return wrong(
            f"not granted: bigquery.jobs.create ({cloud_names.why(error)})",
            cloud_names.grant_project("roles/bigquery.jobUser"),
        )
    return ok(f"bigquery.jobs.create in {clients.project()}")


def tables() -> Finding:
    """Tables can be made in the dataset, filled, read and emptied."""
    from google.cloud import bigquery as api

    client, how = clients.bigquery_client(), {"retry": retry(PATIENCE), "timeout": TIMEOUT}
    probe = api.Table(
        f"{cloud_names.dataset_name().replace(':', '.')}.millrace_doctor", [api.SchemaField("nothing", "INT64")]
    )
    try:
        with told(f"make a table in {cloud_names.dataset_name()}"):
            client.create_table(probe, exists_ok=True, **how)
    except AccessError as error:
        return wrong(f"not granted: bigquery.tables.create ({cloud_names.why(error)})", cloud_names.grant_dataset())
    with told(f"ask what may be done with {probe.reference}"):
        granted = client.test_iam_permissions(probe.reference, _TABLES, **how).get("permissions", [])
        if "bigquery.tables.delete" in granted:
            client.delete_table(probe.reference, not_found_ok=True, **how)
    if missing := [each for each in _TABLES if each not in granted]:
        return wrong(f"not granted: {', '.join(missing)}", cloud_names.grant_dataset())
    return ok(", ".join(["bigquery.tables.create", *_TABLES]).replace(", bigquery.tables.", ", "))
