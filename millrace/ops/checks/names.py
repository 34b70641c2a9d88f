"""What a run in Google Cloud is made of, by the settings: names, places, accounts; and the commands that mend them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from millrace.beam.google_errors import said
from millrace.errors import MillraceError
from millrace.gcloud.places import PATIENCE, TIMEOUT
from millrace.ops.checks.findings import job_options, uses_dataflow
from millrace.tasks import sections
from millrace.tasks.session import current

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
        url = f"{current().google.endpoint(service)}/{path}"
        response = current().google.session.request(method, url, json=body, params=query, timeout=TIMEOUT)  # type: ignore[no-untyped-call]
        if response.status_code >= 400:
            raise from_http_response(response)  # type: ignore[no-untyped-call]
        return response.json()

    with current().google.told(f"ask {service}.googleapis.com for {path}", PATIENCE):
        return current().google.retry(PATIENCE)(call)()


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
    name = sections.gcp().impersonate or getattr(current().google.credentials, "service_account_email", "")
    return name if "@" in name else ""


def asking() -> str:
    """Return the account that asks, as policies name it."""
    account = service_account()
    return f"serviceAccount:{account}" if account else PERSON


def project_of(account: str) -> str:
    """Return the project that a service account belongs to."""
    found = re.fullmatch(r"[^@]+@([^.]+)\.iam\.gserviceaccount\.com", account)
    return found[1] if found else current().google.project


def worker_accounts() -> list[str]:
    """Return the accounts that jobs run as: what the options name, or else the project's own for Compute Engine."""
    named = {options.get("service_account_email", "") for options in job_options()}
    return sorted(account or f"{_number()}-compute@developer.gserviceaccount.com" for account in named)


def _number() -> str:
    """Return the project's number."""
    path = f"v3/projects/{current().google.project}"
    found: str = current().once(path, lambda: ask("GET", "cloudresourcemanager", path)["name"])
    return found.removeprefix("projects/")


# --- commands


def grant_project(role: str, member: str = "") -> str:
    """Return the command that grants a role in the project, to the account that asks unless a member is named."""
    project, member = current().google.project, member or asking()
    return f'gcloud projects add-iam-policy-binding {project} --member="{member}" --condition=None --role={role}'


def grant_bucket(role: str) -> str:
    """Return the command that grants a role in the bucket to the account that asks."""
    bucket = current().places.bucket_name
    return f'gcloud storage buckets add-iam-policy-binding gs://{bucket} --member="{asking()}" --role={role}'


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
    project, _, name = current().places.dataset_name.partition(":")
    sql = rf"GRANT \`roles/bigquery.dataEditor\` ON SCHEMA \`{project}\`.\`{name}\` TO '{asking()}'"
    return f'bq --location={location or current().places.dataset_place} query --use_legacy_sql=false "{sql}"'


def make_bucket(name: str, region: str) -> str:
    """Return the command that makes a bucket as it should be."""
    return (
        f"gcloud storage buckets create gs://{name} --project={current().google.project} --location={region} "
        "--uniform-bucket-level-access --public-access-prevention --soft-delete-duration=0"
    )
