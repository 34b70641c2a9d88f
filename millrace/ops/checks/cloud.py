"""What bin/doctor asks of Google Cloud: everything that a run there needs, each with the command that mends it."""

import os

from millrace.core.findings import NOT_ASKED, Finding, ok, warning, wrong
from millrace.errors import AccessError, SettingError, TerminalError
from millrace.gcloud.places import PATIENCE, TIMEOUT, set_in_config
from millrace.ops.checks import data, names
from millrace.ops.checks.findings import Check, in_bucket, uses_dataflow
from millrace.runners.dataflow import jobs
from millrace.tasks import sections
from millrace.tasks.session import current
from millrace.tasks.settings import origin

_JOBS = [
    *(f"dataflow.jobs.{each}" for each in ("create", "get", "list", "cancel", "updateContents")),
    "dataflow.messages.list",
    "dataflow.metrics.get",
]
#: Roles that hold what workers need of the project.
_WORKER_ROLES = {"roles/dataflow.worker", "roles/dataflow.admin", "roles/editor", "roles/owner"}


def applies() -> bool:
    """Return whether the settings ask for Google Cloud at all."""
    return in_bucket() or names.has_warehouse() or uses_dataflow()


def credentials() -> Finding:
    """Check that there are credentials that are good for a token; with [gcp] impersonate, for the other account's."""
    from google.auth.transport.requests import Request

    account = sections.gcp().impersonate
    try:
        with current().google.told("get an access token", PATIENCE):
            found = current().google.credentials
            if not found.valid:
                current().google.retry(PATIENCE)(found.refresh)(Request())
    except AccessError as error:
        if account and "impersonated" in str(error.__cause__):
            return wrong(
                f"nobody here may act as {account} ({origin('gcp', 'impersonate')}): {names.why(error)}",
                f"gcloud services enable iamcredentials.googleapis.com --project={names.project_of(account)}",
                names.grant_account(account, "roles/iam.serviceAccountTokenCreator", names.PERSON),
            )
        named = ["unset GOOGLE_APPLICATION_CREDENTIALS"] * bool(os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"))
        return wrong(str(error), *named, "gcloud auth application-default login")
    return ok(f"those of {names.service_account() or 'a person'}")


def project() -> Finding:
    """Check that it is known which project pays."""
    try:
        name = current().google.project
    except SettingError as error:
        return wrong(str(error), "gcloud projects list", set_in_config("gcp", "project", "PROJECT_ID"))
    return ok(name)


def services() -> Finding:
    """Check that the APIs that a run uses are enabled in the project."""
    name, wanted = current().google.project, names.services()
    query = [("names", f"projects/{name}/services/{each}.googleapis.com") for each in wanted]
    try:
        answer = names.ask("GET", "serviceusage", f"v1/projects/{name}/services:batchGet", query=query)
    except (AccessError, SettingError) as error:
        return wrong(
            f"project {name} ({origin('gcp', 'project')}) does not exist, or does not show its APIs: "
            f"{names.why(error)}",
            f"gcloud services enable serviceusage.googleapis.com --project={name}",
            names.grant_project("roles/serviceusage.serviceUsageConsumer"),
        )
    enabled = {s["name"].rpartition("/")[2] for s in answer.get("services", ()) if s.get("state") == "ENABLED"}
    missing = [f"{each}.googleapis.com" for each in wanted if f"{each}.googleapis.com" not in enabled]
    if missing:
        return wrong(
            f"not enabled: {', '.join(missing)}", f"gcloud services enable {' '.join(missing)} --project={name}"
        )
    return ok(", ".join(wanted))


def region() -> Finding:
    """Check that Dataflow answers in the region."""
    try:
        name, where = jobs.place(current().google)
    except SettingError as error:
        return wrong(str(error), set_in_config("gcp", "region", current().places.likely_region))
    try:
        with current().google.told(f"list the Dataflow jobs of {name} in {where}", PATIENCE):
            request = {"project_id": name, "location": where, "page_size": 1}
            current().google.dataflow.jobs.list_jobs(
                request=request, retry=current().google.retry(PATIENCE), timeout=TIMEOUT
            )
    except AccessError as error:
        return wrong(
            f"not granted: dataflow.jobs.list ({names.why(error)})",
            names.grant_project("roles/dataflow.developer"),
        )
    except TerminalError as error:
        return wrong(
            f"Dataflow does not know the region {where} ({origin('gcp', 'region')}): {names.why(error)}",
            f"gcloud compute regions list --project={name}",
            set_in_config("gcp", "region", current().places.likely_region),
        )
    return ok(where)


def job_permissions() -> Finding:
    """Check that jobs can be created, watched and cancelled."""
    missing = names.missing("cloudresourcemanager", f"v3/projects/{current().google.project}", _JOBS)
    if missing:
        return wrong(f"not granted: {', '.join(missing)}", names.grant_project("roles/dataflow.developer"))
    return ok(", ".join(_JOBS).replace(", dataflow.jobs.", ", "))


def worker_accounts() -> Finding:
    """Check that the accounts that jobs run as are there, and that the account that asks may let jobs run as them."""
    for account in names.worker_accounts():
        try:
            path = f"v1/projects/-/serviceAccounts/{account}"
            missing = names.missing("iam", path, ["iam.serviceAccounts.actAs"])
        except SettingError:
            name, project = account.partition("@")[0], names.project_of(account)
            return wrong(
                f"the workers' account {account} does not exist",
                f"gcloud iam service-accounts create {name} --project={project}",
            )
        if missing:
            return wrong(
                f"not granted: iam.serviceAccounts.actAs on the workers' account {account}",
                names.grant_account(account, "roles/iam.serviceAccountUser"),
            )
    return ok(", ".join(names.worker_accounts()))


def worker_roles() -> Finding:
    """Check that the accounts that jobs run as have a role that workers need, if the account that asks may see the
    roles.
    """
    name, accounts = current().google.project, names.worker_accounts()
    try:
        policy = names.ask("POST", "cloudresourcemanager", f"v3/projects/{name}:getIamPolicy", {})
    except AccessError:
        told_by = "only somebody who may read the project's policy can see that; bin/doctor run as an owner does"
        return Finding(NOT_ASKED, told_by)
    able = {m for b in policy.get("bindings", ()) if b["role"] in _WORKER_ROLES for m in b.get("members", ())}
    lacking = [account for account in accounts if f"serviceAccount:{account}" not in able]
    if lacking:
        return warning(
            f"{', '.join(lacking)} can't work, unless a group that it is in has roles/dataflow.worker",
            *(names.grant_project("roles/dataflow.worker", f"serviceAccount:{account}") for account in lacking),
        )
    return ok("roles/dataflow.worker, or one that includes it")


CHECKS = (
    Check("credentials", credentials),
    Check("project", project, after=("credentials",)),
    Check("APIs", services, after=("project",)),
    Check("bucket", data.bucket, after=("APIs",)),
    Check("bucket's permissions", data.bucket_permissions, after=("bucket",)),
    Check("bucket's lifecycle", data.lifecycle, after=("bucket",)),
    Check("dataset", data.dataset, after=("APIs", "bucket"), applies=names.has_warehouse),
    Check(
        "dataset's location",
        lambda: current().places.dataset_fits(),
        after=("dataset",),
        applies=names.has_warehouse,
    ),
    Check("BigQuery jobs", data.jobs, after=("dataset",), applies=names.has_warehouse),
    Check("tables", data.tables, after=("dataset",), applies=names.has_warehouse),
    Check("region", region, after=("APIs", "bucket"), applies=uses_dataflow),
    Check("bucket's region", lambda: current().places.region_fits(), after=("region",), applies=uses_dataflow),
    Check("Dataflow jobs", job_permissions, after=("APIs",), applies=uses_dataflow),
    Check("workers' account", worker_accounts, after=("APIs",), applies=uses_dataflow),
    Check("workers' roles", worker_roles, after=("workers' account",), applies=uses_dataflow),
)
