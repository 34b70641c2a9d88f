"""What a run in Google Cloud is made of, by the settings: names, places, accounts; and the commands that mend them."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from millrace.beam.google_errors import said
from millrace.errors import MillraceError
from millrace.ops.checks.findings import job_options, uses_dataflow
from millrace.tasks import sections, session

if TYPE_CHECKING:
    import google.cloud.bigquery as bigquery_api
    import google.cloud.storage as storage_api

#: Seconds for which a call that fails in passing is tried again, and after which a connection is taken for broken.
PATIENCE, TIMEOUT = 15.0, 30.0
#: The dual-regions that have a name of their own.
_PAIRS = {
    "nam4": ("us-central1", "us-east1"),
    "eur4": ("europe-north1", "europe-west4"),
    "eur5": ("europe-west1", "europe-west2"),
    "eur7": ("europe-west2", "europe-west3"),
    "eur8": ("europe-west3", "europe-west6"),
    "asia1": ("asia-northeast1", "asia-northeast2"),
}
#: The multi-regions: how the names of their regions begin, and one of them.
_CONTINENTS = {"us": ("us-", "us-central1"), "eu": ("europe-", "europe-west1"), "asia": ("asia-", "asia-northeast1")}
#: London and Zurich are in Europe, but not in the multi-region EU.
_NOT_EU = ("europe-west2", "europe-west6")

#: The account that asks, where that is a person: the shell finds out the name when the command is run.
PERSON = "user:$(gcloud config get account)"


def has_warehouse() -> bool:
    """Return whether tables are in BigQuery."""
    return bool(sections.millrace().warehouse)


def services() -> list[str]:
    """Return the APIs that these settings need, without .googleapis.com."""
    gcp, found = sections.gcp(), ["cloudresourcemanager", "storage"]
    if has_warehouse():
        found.append("bigquery")
    if uses_dataflow():
        found += ["dataflow", "compute", "logging", "iam"]
    if any("-docker.pkg.dev/" in options.get("sdk_container_image", "") for options in job_options()):
        found.append("artifactregistry")
    return found + ["iamcredentials"] * bool(gcp.impersonate) + ["cloudkms"] * bool(gcp.kms_key)


# --- asking


def ask(
    method: Literal["GET", "POST"],
    service: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    query: Sequence[tuple[str, str]] = (),
) -> Any:
    """Return what a service that has no client here answers. Raises MillraceError."""
    from google.api_core.exceptions import from_http_response

    def call() -> Any:
        url = f"{session.current().google.endpoint(service)}/{path}"
        response = session.current().google.session.request(method, url, json=body, params=query, timeout=TIMEOUT)  # type: ignore[no-untyped-call]
        if response.status_code >= 400:
            raise from_http_response(response)  # type: ignore[no-untyped-call]
        return response.json()

    with session.current().google.told(f"ask {service}.googleapis.com for {path}", PATIENCE):
        return session.current().google.retry(PATIENCE)(call)()


def missing(service: str, resource: str, wanted: Sequence[str]) -> list[str]:
    """Return which of some permissions on a resource the account that asks does not have. Raises MillraceError."""
    answer = ask("POST", service, f"{resource}:testIamPermissions", {"permissions": wanted})
    return [each for each in wanted if each not in answer.get("permissions", ())]


def why(error: MillraceError) -> str:
    """Return what Google said, without our own words around it."""
    return said(error.__cause__ or error)


# --- accounts


def service_account() -> str:
    """Return the service account that asks; "" for a person."""
    name = sections.gcp().impersonate or getattr(session.current().google.credentials, "service_account_email", "")
    return name if "@" in name else ""


def asking() -> str:
    """Return the account that asks, as policies name it."""
    account = service_account()
    return f"serviceAccount:{account}" if account else PERSON


def project_of(account: str) -> str:
    """Return the project that a service account belongs to."""
    found = re.fullmatch(r"[^@]+@([^.]+)\.iam\.gserviceaccount\.com", account)
    return found[1] if found else session.current().google.project


def worker_accounts() -> list[str]:
    """Return the accounts that jobs run as: what the options name, or else the project's own for Compute Engine."""
    named = {options.get("service_account_email", "") for options in job_options()}
    return sorted(account or f"{_number()}-compute@developer.gserviceaccount.com" for account in named)


@functools.cache
def _number() -> str:
    """Return the project's number."""
    found: str = ask("GET", "cloudresourcemanager", f"v3/projects/{session.current().google.project}")["name"]
    return found.removeprefix("projects/")


# --- the bucket and the dataset


def bucket_name() -> str:
    """Return the storage's bucket."""
    return sections.millrace().storage.removeprefix("gs://").partition("/")[0]


def staging() -> str:
    """Return the folder of the bucket in which Dataflow's files are."""
    folder = sections.millrace().storage.removeprefix("gs://").partition("/")[2]
    return f"{folder}/_dataflow/" if folder else "_dataflow/"


@functools.cache
def bucket() -> "storage_api.Bucket":
    """Return the bucket as Cloud Storage describes it. Raises SettingError, AccessError."""
    with session.current().google.told(f"read gs://{bucket_name()}", PATIENCE):
        found = session.current().google.access.bucket(session.current().google.storage, bucket_name())
        found.reload(timeout=TIMEOUT, retry=session.current().google.retry(PATIENCE))
        return found


def bucket_places() -> Sequence[str]:
    """Return the regions that the bucket is in, or its one multi-region."""
    location = bucket().location.lower()
    if bucket().location_type == "dual-region" and bucket().data_locations:
        return [place.lower() for place in bucket().data_locations]
    return _PAIRS.get(location, (location,))


def lies_in(place: str, location: str) -> bool:
    """Return whether a region, or multi-region, is the location or within it."""
    begin, _ = _CONTINENTS.get(location, ("no region", ""))
    return place == location or (place.startswith(begin) and not (location == "eu" and place in _NOT_EU))


def likely_region() -> str:
    """Return a region for Dataflow: the bucket's own, or one near it."""
    place = bucket_places()[0]
    return _CONTINENTS.get(place, ("", place))[1]


def dataset_name() -> str:
    """Return the dataset as bq names it: PROJECT:DATASET."""
    return sections.millrace().warehouse.removeprefix("bigquery://").replace("/", ":")


@functools.cache
def dataset() -> "bigquery_api.Dataset":
    """Return the dataset as BigQuery describes it. Raises SettingError, AccessError."""
    with session.current().google.told(f"read dataset {dataset_name()}", PATIENCE):
        name = dataset_name().replace(":", ".")
        return session.current().google.bigquery.get_dataset(
            name, retry=session.current().google.retry(PATIENCE), timeout=TIMEOUT
        )


def dataset_place() -> str:
    """Return where a dataset has to be, to be loaded from the bucket."""
    place = bucket_places()[0]
    return place.upper() if place in _CONTINENTS else place


# --- commands


def grant_project(role: str, member: str = "") -> str:
    """Return the command that grants a role in the project, to the account that asks unless a member is named."""
    project, member = session.current().google.project, member or asking()
    return f'gcloud projects add-iam-policy-binding {project} --member="{member}" --condition=None --role={role}'


def grant_bucket(role: str) -> str:
    """Return the command that grants a role in the bucket to the account that asks."""
    return f'gcloud storage buckets add-iam-policy-binding gs://{bucket_name()} --member="{asking()}" --role={role}'


def grant_account(account: str, role: str, member: str = "") -> str:
    """Return the command that grants a role on a service account, to the account that asks unless a member is named."""
    member, project = member or asking(), project_of(account)
    return (
        f"gcloud iam service-accounts add-iam-policy-binding {account} --project={project} "
        f'--member="{member}" --role={role}'
    )


def grant_dataset(location: str = "") -> str:
    """Return the command that lets the account that asks make, fill, read and empty tables in the dataset.

    location: the dataset's own, if known.
    """
    project, _, name = dataset_name().partition(":")
    sql = rf"GRANT \`roles/bigquery.dataEditor\` ON SCHEMA \`{project}\`.\`{name}\` TO '{asking()}'"
    return f'bq --location={location or dataset_place()} query --use_legacy_sql=false "{sql}"'


def make_bucket(name: str, region: str) -> str:
    """Return the command that makes a bucket as it should be."""
    return (
        f"gcloud storage buckets create gs://{name} --project={session.current().google.project} --location={region} "
        "--uniform-bucket-level-access --public-access-prevention --soft-delete-duration=0"
    )


def set_in_config(section: str, key: str, value: str) -> str:
    """Return what to write into luigi.cfg."""
    return f"luigi.cfg, [{section}]: {key} = {value}"
