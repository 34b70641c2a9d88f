"""What bin/doctor asks of Google Cloud: everything that a run there needs, each with the command that mends it.

Nothing is changed but for one empty table, `millrace_doctor`, which is made in the dataset and taken away again: what a
role on a dataset allows can only be asked of a table in it.
"""

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pipelines.errors import AccessError, MillraceError, SettingError, TerminalError
from workflows.engine import clients, dataflow, sections
from workflows.engine.checks import NOT_ASKED, Check, Finding, beam_tasks, in_bucket, ok, uses_dataflow, warning, wrong
from workflows.engine.google_calls import retry, said, told
from workflows.engine.settings import origin

if TYPE_CHECKING:
    import google.cloud.storage as storage_api

#: Seconds for which a call that fails in passing is tried again, and until one is taken for a broken connection.
_PATIENCE, _TIMEOUT = 15.0, 30.0
_OBJECTS = [f"storage.objects.{each}" for each in ("create", "get", "list", "update", "delete")]
_TABLES = [f"bigquery.tables.{each}" for each in ("get", "getData", "update", "updateData", "delete")]
_JOBS = [
    *(f"dataflow.jobs.{each}" for each in ("create", "get", "list", "cancel", "updateContents")),
    "dataflow.messages.list",
    "dataflow.metrics.get",
]
#: Roles that hold what workers need of the project, and of the bucket.
_WORKER_ROLES = {"roles/dataflow.worker", "roles/dataflow.admin", "roles/editor", "roles/owner"}
_OBJECT_ROLES = {"roles/storage.objectUser", "roles/storage.objectAdmin", "roles/storage.admin"}
#: The dual-regions that have a name of their own.
_PAIRS = {
    "nam4": ("us-central1", "us-east1"),
    "eur4": ("europe-north1", "europe-west4"),
    "eur5": ("europe-west1", "europe-west2"),
    "eur7": ("europe-west2", "europe-west3"),
    "eur8": ("europe-west3", "europe-west6"),
    "asia1": ("asia-northeast1", "asia-northeast2"),
}
_CONTINENTS = {"us": "us-", "eu": "europe-", "asia": "asia-"}
#: London and Zurich are in Europe, but not in the multi-region EU.
_NOT_EU = ("europe-west2", "europe-west6")


def applies() -> bool:
    """Whether the settings ask for Google Cloud at all."""
    return in_bucket() or _has_warehouse() or uses_dataflow()


# --- who asks, and how


def credentials() -> Finding:
    """There are credentials, and they are good for a token; with [gcp] impersonate, for the other account's."""
    from google.auth.transport.requests import Request

    account = sections.gcp().impersonate
    try:
        with told("get an access token"):
            found = clients.credentials()
            if not found.valid:
                found.refresh(Request())  # type: ignore[no-untyped-call]
    except AccessError as error:
        if account and "impersonated" in str(error.__cause__):
            return wrong(
                f"nobody here may act as {account} ({origin('gcp', 'impersonate')}): {said(_cause(error))}",
                f"gcloud services enable iamcredentials.googleapis.com --project={_project_of(account)}",
                f"gcloud iam service-accounts add-iam-policy-binding {account} "
                f'--member="{_PERSON}" --role=roles/iam.serviceAccountTokenCreator',
            )
        return wrong(str(error), "gcloud auth application-default login")
    return ok(f"as {account}" if account else f"of {_member().partition(':')[2] if _service_account() else 'a person'}")


def project() -> Finding:
    """It is known which project pays."""
    try:
        name = clients.project()
    except SettingError as error:
        return wrong(str(error), "gcloud projects list", "[gcp] in luigi.cfg: project = PROJECT_ID")
    return ok(name)


def services() -> Finding:
    """The APIs that a run uses are enabled in the project."""
    name, wanted = clients.project(), _wanted_services()
    query = [("names", f"projects/{name}/services/{each}.googleapis.com") for each in wanted]
    try:
        answer = _ask("GET", "serviceusage", f"v1/projects/{name}/services:batchGet", query=query)
    except (AccessError, SettingError) as error:
        return wrong(
            f"project {name} does not exist, or does not show its APIs: {said(_cause(error))}",
            f"gcloud projects describe {name}",
            _grant_project("roles/serviceusage.serviceUsageConsumer"),
        )
    enabled = {s["name"].rpartition("/")[2] for s in answer.get("services", ()) if s.get("state") == "ENABLED"}
    missing = [f"{each}.googleapis.com" for each in wanted if f"{each}.googleapis.com" not in enabled]
    if missing:
        return wrong(f"not enabled: {', '.join(missing)}", f"gcloud services enable {' '.join(missing)} --project={name}")
    return ok(", ".join(wanted))


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
    name = _bucket_name()
    try:
        found = _bucket()
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
                f"gs://{name} does not show itself; it may also be somebody else's: {said(_cause(error))}",
                _grant_bucket("roles/storage.legacyBucketReader"),
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
    with told(f"ask what may be done in gs://{_bucket_name()}"):
        wanted = [*_OBJECTS, "storage.buckets.get"]
        granted = _bucket().test_iam_permissions(wanted, timeout=_TIMEOUT, retry=retry(_PATIENCE))
    missing = [each for each in wanted if each not in granted]
    if missing:
        roles = ["roles/storage.objectUser"] if set(missing) & set(_OBJECTS) else []
        roles += ["roles/storage.legacyBucketReader"] if "storage.buckets.get" in missing else []
        return wrong(f"not granted: {', '.join(missing)}", *map(_grant_bucket, roles))
    return ok(", ".join(_OBJECTS).replace(", storage.objects.", ", "))


def bucket_region() -> Finding:
    """Dataflow's workers are where the bucket is: anything else is slow, and traffic between regions is charged."""
    places, region = _places(_bucket()), sections.gcp().region.lower()
    if any(_lies_in(region, place) for place in places):
        return ok(f"{region} is in {'+'.join(places)}")
    near = places[0] if places[0] not in _CONTINENTS else {"us": "us-central1", "eu": "europe-west1"}.get(places[0], "")
    return wrong(
        f"Dataflow runs in {region} ({origin('gcp', 'region')}), but gs://{_bucket_name()} lies in {'+'.join(places)}: "
        "every byte would travel, slowly and for money; a bucket never moves",
        *([f"[gcp] in luigi.cfg: region = {near}"] if near else []),
        f"or gcloud storage buckets create gs://{_bucket_name()}-{region} --project={clients.project()} "
        f"--location={region} --uniform-bucket-level-access, and name it in [millrace] storage",
    )


def lifecycle() -> Finding:
    """What Dataflow leaves in _dataflow/ is deleted some day, and so are old versions, where the bucket keeps them."""
    found, prefix = _bucket(), _staging()
    deleting = [rule for rule in found.lifecycle_rules if rule.get("action", {}).get("type") == "Delete"]
    conditions = [rule.get("condition", {}) for rule in deleting]
    if found.versioning_enabled and not any({"numNewerVersions", "daysSinceNoncurrentTime"} & {*c} for c in conditions):
        return warning(
            f"gs://{_bucket_name()} keeps every old version: each lock that is renewed and each attempt that is cleared "
            "stays and is paid for",
            f"gcloud storage buckets update gs://{_bucket_name()} --no-versioning",
        )
    if not uses_dataflow() or any(prefix.startswith(p) for c in conditions for p in c.get("matchesPrefix", ())):
        return ok(f"deletes what is below {prefix}" if uses_dataflow() else "keeps no old versions")
    rule = {"action": {"type": "Delete"}, "condition": {"age": 14, "matchesPrefix": [prefix]}}
    rules = json.dumps({"rule": [*map(dict, found.lifecycle_rules), rule]})
    return warning(
        f"nothing deletes what Dataflow leaves in gs://{_bucket_name()}/{prefix}",
        f"echo '{rules}' >lifecycle.json && gcloud storage buckets update gs://{_bucket_name()} "
        "--lifecycle-file=lifecycle.json",
    )


# --- the dataset


def dataset() -> Finding:
    """The dataset is there, in the location that the settings name if they do."""
    from google.api_core.exceptions import Forbidden, NotFound

    name = _dataset_name()
    try:
        found = _dataset()
    except MillraceError as error:
        if isinstance(error.__cause__, NotFound):
            return wrong(
                f"dataset {name} does not exist ({origin('millrace', 'warehouse')})",
                f"bq --location={_dataset_place()} mk --dataset {name}",
            )
        if isinstance(error.__cause__, Forbidden):
            return wrong(f"dataset {name} does not show itself: {said(_cause(error))}", _grant_dataset())
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
    places, there = _places(_bucket()), _dataset().location.lower()
    if all(_lies_in(place, there) for place in places):
        return ok(f"gs://{_bucket_name()} is in {there}, from where BigQuery can load")
    text = f"gs://{_bucket_name()} lies in {'+'.join(places)}, the dataset in {there}"
    if there == "us":
        return warning(f"{text}: BigQuery loads it all the same, but every byte travels", *_other_dataset())
    return wrong(
        f"{text}: BigQuery loads only from a bucket in the dataset's region, or within its multi-region; "
        "neither of them ever moves",
        *_other_dataset(),
    )


def jobs() -> Finding:
    """BigQuery's jobs can be run in the project that pays."""
    from google.cloud import bigquery as api

    try:
        with told("run a job in BigQuery"):
            clients.bigquery_client().query(
                "SELECT 1",
                job_config=api.QueryJobConfig(dry_run=True),
                location=_dataset().location,
                retry=retry(_PATIENCE),
                timeout=_TIMEOUT,
                job_retry=None,
            )
    except AccessError as error:
        return wrong(f"not granted: bigquery.jobs.create ({said(_cause(error))})", _grant_project("roles/bigquery.jobUser"))
    return ok(f"bigquery.jobs.create in {clients.project()}")


def tables() -> Finding:
    """Tables can be made in the dataset, filled, read and emptied."""
    from google.cloud import bigquery as api

    client, how = clients.bigquery_client(), {"retry": retry(_PATIENCE), "timeout": _TIMEOUT}
    probe = api.Table(f"{_dataset_name().replace(':', '.')}.millrace_doctor", [api.SchemaField("nothing", "INT64")])
    try:
        with told(f"make a table in {_dataset_name()}"):
            client.create_table(probe, exists_ok=True, **how)
    except AccessError as error:
        return wrong(f"not granted: bigquery.tables.create ({said(_cause(error))})", _grant_dataset())
    with told(f"ask what may be done with {probe.reference}"):
        granted = client.test_iam_permissions(probe.reference, _TABLES, **how).get("permissions", [])
        if "bigquery.tables.delete" in granted:
            client.delete_table(probe.reference, not_found_ok=True, **how)
    if missing := [each for each in _TABLES if each not in granted]:
        return wrong(f"not granted: {', '.join(missing)}", _grant_dataset())
    return ok(", ".join(["bigquery.tables.create", *_TABLES]).replace(", bigquery.tables.", ", "))


# --- Dataflow


def region() -> Finding:
    """Dataflow answers in the region."""
    try:
        name, where = dataflow.place()
    except SettingError as error:
        return wrong(str(error), f"[gcp] in luigi.cfg: region = {_likely_region()}")
    try:
        with told(f"list the Dataflow jobs of {name} in {where}"):
            request = {"project_id": name, "location": where, "page_size": 1}
            clients.dataflow_clients().jobs.list_jobs(request=request, retry=retry(_PATIENCE), timeout=_TIMEOUT)
    except AccessError as error:
        return wrong(f"not granted: dataflow.jobs.list ({said(_cause(error))})", _grant_project("roles/dataflow.developer"))
    except TerminalError as error:
        return wrong(
            f"Dataflow does not know the region {where} ({origin('gcp', 'region')}): {said(_cause(error))}",
            f"gcloud compute regions list --project={name}",
            f"[gcp] in luigi.cfg: region = {_likely_region()}",
        )
    return ok(where)


def job_permissions() -> Finding:
    """Jobs can be created, watched and cancelled."""
    granted = _permissions("cloudresourcemanager", f"v3/projects/{clients.project()}", _JOBS)
    if missing := [each for each in _JOBS if each not in granted]:
        return wrong(f"not granted: {', '.join(missing)}", _grant_project("roles/dataflow.developer"))
    return ok(", ".join(_JOBS).replace(", dataflow.jobs.", ", "))


def worker_accounts() -> Finding:
    """Jobs can be run as the accounts of their workers."""
    for account in _worker_accounts():
        try:
            granted = _permissions("iam", f"v1/projects/-/serviceAccounts/{account}", ["iam.serviceAccounts.actAs"])
        except SettingError:
            name, _, domain = account.partition("@")
            made = f"gcloud iam service-accounts create {name} --project={domain.partition('.')[0]}"
            return wrong(f"the workers' account {account} does not exist", made)
        if not granted:
            return wrong(
                f"not granted: iam.serviceAccounts.actAs on the workers' account {account}",
                f"gcloud iam service-accounts add-iam-policy-binding {account} "
                f'--member="{_member()}" --role=roles/iam.serviceAccountUser',
            )
    return ok(", ".join(_worker_accounts()))


def worker_roles() -> Finding:
    """The workers' accounts have the roles that workers need; who may not see who has which can't tell."""
    name = clients.project()
    try:
        policy = _ask("POST", "cloudresourcemanager", f"v3/projects/{name}:getIamPolicy", {})
        with told(f"read who may do what in gs://{_bucket_name()}"):
            own = _bucket().get_iam_policy(requested_policy_version=3, timeout=_TIMEOUT, retry=retry(_PATIENCE)).bindings
    except AccessError:
        accounts = ", ".join(_worker_accounts())
        return Finding(NOT_ASKED, f"only who may read the policies of {name} and its bucket sees the roles of {accounts}")
    everywhere, lacking = policy.get("bindings", ()), []
    for account in _worker_accounts():
        member = f"serviceAccount:{account}"
        if not _roles(everywhere, member) & _WORKER_ROLES:
            lacking.append(_grant_project("roles/dataflow.worker", member))
        if not (_roles(own, member) & _OBJECT_ROLES or _roles(everywhere, member) & (_OBJECT_ROLES | {"roles/editor"})):
            lacking.append(_grant_bucket("roles/storage.objectUser", member))
    if lacking:
        return warning("the workers' account seems to lack roles, unless it has them through a group", *lacking)
    return ok("roles/dataflow.worker in the project, and objects in the bucket")


# --- what the above is made of

_PERSON = "user:$(gcloud config get account)"


def _service_account() -> str:
    """The service account that asks; "" for a person."""
    name = sections.gcp().impersonate or getattr(clients.credentials(), "service_account_email", "")
    return name if "@" in name else ""


def _member() -> str:
    """Who asks, as policies call them; the name of a person is the shell's to find out."""
    account = _service_account()
    return f"serviceAccount:{account}" if account else _PERSON


def _project_of(account: str) -> str:
    found = re.fullmatch(r"[^@]+@([^.]+)\.iam\.gserviceaccount\.com", account)
    return found[1] if found else clients.project()


def _cause(error: MillraceError) -> BaseException:
    return error.__cause__ or error


def _ask(
    method: Literal["GET", "POST"],
    service: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    query: Sequence[tuple[str, str]] = (),
) -> Any:
    """What a service that has no client here answers. Raises MillraceError."""
    from google.api_core.exceptions import from_http_response

    def call() -> Any:
        url = f"{clients.endpoint(service)}/{path}"
        response = clients.session().request(method, url, json=body, params=query, timeout=_TIMEOUT)
        if response.status_code >= 400:
            raise from_http_response(response)  # type: ignore[no-untyped-call]
        return response.json()

    with told(f"ask {service}.googleapis.com for {path}"):
        return retry(_PATIENCE)(call)()


def _permissions(service: str, resource: str, wanted: Sequence[str]) -> Sequence[str]:
    """Which of some permissions on a resource are granted to who asks."""
    answer = _ask("POST", service, f"{resource}:testIamPermissions", {"permissions": wanted})
    granted: Sequence[str] = answer.get("permissions", [])
    return granted


def _roles(bindings: Iterable[Mapping[str, Any]], member: str) -> set[str]:
    return {binding["role"] for binding in bindings if member in binding.get("members", ())}


def _wanted_services() -> list[str]:
    """The APIs that these settings need, without .googleapis.com."""
    own, found = sections.gcp(), ["cloudresourcemanager", "storage"] if in_bucket() else ["cloudresourcemanager"]
    if _has_warehouse():
        found.append("bigquery")
    if uses_dataflow():
        found += ["dataflow", "compute", "logging", "iam"]
        options = [sections.dataflow_options(task.task_family) for task in beam_tasks()]
        found += ["artifactregistry"] if any("pkg.dev/" in o.get("sdk_container_image", "") for o in options) else []
    return found + ["iamcredentials"] * bool(own.impersonate) + ["cloudkms"] * bool(own.kms_key)


def _has_warehouse() -> bool:
    return bool(sections.millrace().warehouse)


def _bucket_name() -> str:
    return sections.millrace().storage.removeprefix("gs://").partition("/")[0]


def _staging() -> str:
    """Where in the bucket Dataflow's files are."""
    folder = sections.millrace().storage.removeprefix("gs://").partition("/")[2]
    return f"{folder}/_dataflow/" if folder else "_dataflow/"


@functools.cache
def _bucket() -> "storage_api.Bucket":
    with told(f"read gs://{_bucket_name()}"):
        found = clients.storage_client().bucket(_bucket_name(), user_project=sections.gcp().user_project or None)
        found.reload(timeout=_TIMEOUT, retry=retry(_PATIENCE))
        return found


def _places(found: "storage_api.Bucket") -> Sequence[str]:
    """The regions that a bucket is in, or its one multi-region."""
    location = found.location.lower()
    if found.location_type == "dual-region" and found.data_locations:
        return [place.lower() for place in found.data_locations]
    return _PAIRS.get(location, [location])


def _lies_in(place: str, location: str) -> bool:
    """Whether a region, or multi-region, is the location or within it."""
    if place == location:
        return True
    begins = _CONTINENTS.get(location)
    return bool(begins) and place.startswith(begins or "") and not (location == "eu" and place in _NOT_EU)


def _likely_region() -> str:
    """A region for Dataflow: the bucket's own, if it is in one."""
    place = _places(_bucket())[0]
    return {"us": "us-central1", "eu": "europe-west1", "asia": "asia-northeast1"}.get(place, place)


def _dataset_name() -> str:
    """PROJECT:DATASET"""
    return sections.millrace().warehouse.removeprefix("bigquery://").replace("/", ":")


@functools.cache
def _dataset() -> Any:
    with told(f"read dataset {_dataset_name()}"):
        return clients.bigquery_client().get_dataset(
            _dataset_name().replace(":", "."), retry=retry(_PATIENCE), timeout=_TIMEOUT
        )


def _dataset_place() -> str:
    """Where a dataset has to be to load from the bucket."""
    places = _places(_bucket())
    return sections.bigquery().location or (places[0].upper() if places[0] in _CONTINENTS else places[0])


def _other_dataset() -> list[str]:
    places = _places(_bucket())
    where = places[0].upper() if places[0] in _CONTINENTS else places[0]
    name = f"{_dataset_name()}_{where.lower().replace('-', '_')}"
    return [
        f"bq --location={where} mk --dataset {name}",
        f"[millrace] in luigi.cfg: warehouse = bigquery://{name.replace(':', '/')}",
    ]


def _worker_accounts() -> list[str]:
    """The accounts that jobs run as: what the options name, or the project's own for Compute Engine."""
    options = [sections.dataflow_options(task.task_family) for task in beam_tasks()]
    named = {each.get("service_account_email", "") for each in options}
    return sorted(account or f"{_number()}-compute@developer.gserviceaccount.com" for account in named)


@functools.cache
def _number() -> str:
    """The project's number."""
    found: str = _ask("GET", "cloudresourcemanager", f"v3/projects/{clients.project()}")["name"]
    return found.removeprefix("projects/")


def _grant_project(role: str, member: str = "") -> str:
    return (
        f'gcloud projects add-iam-policy-binding {clients.project()} --member="{member or _member()}" --role={role} '
        "--condition=None"
    )


def _grant_bucket(role: str, member: str = "") -> str:
    return (
        f"gcloud storage buckets add-iam-policy-binding gs://{_bucket_name()} "
        f'--member="{member or _member()}" --role={role}'
    )


def _grant_dataset() -> str:
    name, _, dataset = _dataset_name().partition(":")
    return (
        f"bq --location={_dataset_place()} query --use_legacy_sql=false "
        rf'"GRANT \`roles/bigquery.dataEditor\` ON SCHEMA \`{name}\`.\`{dataset}\` ' + f"TO '{_member()}'\""
    )


CHECKS = (
    Check("credentials", credentials),
    Check("project", project, after=("credentials",)),
    Check("APIs", services, after=("project",)),
    Check("bucket", bucket, after=("APIs",)),
    Check("bucket's permissions", bucket_permissions, after=("bucket",)),
    Check("bucket's lifecycle", lifecycle, after=("bucket",)),
    Check("dataset", dataset, after=("APIs", "bucket"), applies=_has_warehouse),
    Check("dataset's location", dataset_location, after=("dataset",), applies=_has_warehouse),
    Check("BigQuery jobs", jobs, after=("dataset",), applies=_has_warehouse),
    Check("tables", tables, after=("dataset",), applies=_has_warehouse),
    Check("region", region, after=("APIs", "bucket"), applies=uses_dataflow),
    Check("bucket's region", bucket_region, after=("region",), applies=uses_dataflow),
    Check("Dataflow jobs", job_permissions, after=("APIs",), applies=uses_dataflow),
    Check("workers' account", worker_accounts, after=("APIs",), applies=uses_dataflow),
    Check("workers' roles", worker_roles, after=("workers' account", "bucket"), applies=uses_dataflow),
)
