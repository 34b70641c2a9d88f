"""The one place where what reaches the outside is built: storage, warehouse, and every Google client.

Tests put their own in front of the storage through `use_storage`, the one seam for that. Where the services run on this
machine, the clients' own variables name them: STORAGE_EMULATOR_HOST, BIGQUERY_EMULATOR_HOST, dataflow_endpoint in
[dataflow], and gcloud's CLOUDSDK_API_ENDPOINT_OVERRIDES_… for the rest.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millrace.beam import gcs
from millrace.beam.gcs import Access
from millrace.core.storage import LocalStorage, Storage
from millrace.core.warehouse import LocalWarehouse, Warehouse
from millrace.errors import SettingError
from millrace.gcloud.google_calls import told
from millrace.tasks import sections
from millrace.tasks.settings import origin

if TYPE_CHECKING:
    import google.auth.credentials
    import google.auth.transport.requests
    import google.cloud.storage as storage_api
    from google.cloud import bigquery as bigquery_api
    from google.cloud import dataflow_v1beta3

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_wrap: Callable[[Storage], Storage] | None = None


def storage() -> Storage:
    """Return the storage that the settings name."""
    return _storage(sections.millrace().storage, os.getpid())


# By process: connections that a fork shares mix up their answers.
@functools.cache
def _storage(root: str, process: int) -> Storage:
    found: Storage = LocalStorage(root)
    if root.startswith("gs://"):
        from millrace.gcloud.gcs import GcsStorage

        found = GcsStorage(root, storage_client)
    return _wrap(found) if _wrap else found


def warehouse() -> Warehouse:
    """Return the warehouse that the settings name: BigQuery, or the storage's own files."""
    uri, root = sections.millrace().warehouse, sections.millrace().storage
    if uri and not root.startswith("gs://"):
        raise SettingError(
            f"millrace.warehouse = {uri!r}, {origin('millrace', 'warehouse')}, loads from Cloud Storage, but "
            f"millrace.storage = {root!r}, {origin('millrace', 'storage')}: set it to gs://BUCKET/PREFIX"
        )
    return _bigquery(uri, os.getpid()) if uri else LocalWarehouse(storage())


@functools.cache
def _bigquery(uri: str, process: int) -> Warehouse:
    from millrace.gcloud.bigquery import BigQueryWarehouse

    def files(folder: str) -> list[str]:
        return [found.uri for found in gcs.match(f"{folder}/*", sections.gcp().patience)]

    return BigQueryWarehouse(uri, bigquery_client, files)


def use_storage(wrap: Callable[[Storage], Storage] | None) -> None:
    """From now on every storage is what `wrap` makes of it; None takes that back."""
    global _wrap
    _wrap = wrap
    _storage.cache_clear()


@dataclass(frozen=True)
class DataflowClients:
    """The clients of Dataflow's API that are needed to watch jobs."""

    jobs: "dataflow_v1beta3.JobsV1Beta3Client"
    messages: "dataflow_v1beta3.MessagesV1Beta3Client"
    metrics: "dataflow_v1beta3.MetricsV1Beta3Client"


def storage_client() -> "storage_api.Client":
    """Cloud Storage's client. Raises AccessError without credentials."""
    return _storage_client(os.getpid())


def access() -> Access:
    """Return how objects of Cloud Storage are written and read, by [gcp] kms_key, storage_class and user_project."""
    own = sections.gcp()
    return Access(own.kms_key, own.storage_class, own.user_project)


def bigquery_client() -> "bigquery_api.Client":
    """BigQuery's client. Raises AccessError without credentials."""
    return _bigquery_client(os.getpid())


def dataflow_clients() -> DataflowClients:
    """Dataflow's clients. Raises AccessError without credentials."""
    return _dataflow_clients(os.getpid())


def session() -> "google.auth.transport.requests.AuthorizedSession":
    """Return what asks those of Google's services that have no client here, at `endpoint`. Raises AccessError."""
    return _session(os.getpid())


def endpoint(service: str) -> str:
    """Return where a service is that has no client here, such as "iam"; gcloud's own variable names another place."""
    named = os.environ.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}")
    return (named or f"https://{service}.googleapis.com").rstrip("/")


def project() -> str:
    """Return the project that the settings name, or else the credentials. Raises SettingError for none."""
    named = sections.gcp().project or _credentials(os.getpid())[1]
    if not named:
        raise SettingError("no Google Cloud project is known; set project in [gcp] of luigi.cfg, or --gcp-project")
    return named


def credentials() -> "google.auth.credentials.Credentials":
    """Return the application-default credentials, or those of the account to impersonate.

    Raises AccessError for none.
    """
    return _credentials(os.getpid())[0]


@functools.cache
def _credentials(process: int) -> "tuple[google.auth.credentials.Credentials, str]":
    import google.auth
    from google.auth import impersonated_credentials

    with told("find credentials"):
        found, named = google.auth.default(scopes=_SCOPES)
    if account := sections.gcp().impersonate:
        found = impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
            found,
            account,
            list(_SCOPES),
            iam_endpoint_override=f"{endpoint('iamcredentials')}/v1/projects/-/serviceAccounts/{account}:generateAccessToken",
        )
    return found, named or ""


@functools.cache
def _session(process: int) -> "google.auth.transport.requests.AuthorizedSession":
    from google.auth.transport.requests import AuthorizedSession

    return AuthorizedSession(credentials())  # type: ignore[no-untyped-call]


@functools.cache
def _storage_client(process: int) -> "storage_api.Client":
    import google.cloud.storage as storage_api

    # Or else it asks for the bucket in threads of its own, after each 404 again, for the sake of traces.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    return storage_api.Client(project=project(), credentials=credentials())


@functools.cache
def _bigquery_client(process: int) -> "bigquery_api.Client":
    from google.cloud import bigquery as bigquery_api

    return bigquery_api.Client(
        project=project(), credentials=credentials(), location=sections.bigquery().location or None
    )


@functools.cache
def _dataflow_clients(process: int) -> DataflowClients:
    from google.cloud import dataflow_v1beta3 as api

    endpoint = sections.dataflow_options("").get("dataflow_endpoint", "")
    # Dataflow's default transport is gRPC, which does not survive a fork that happens beside it; HTTP does.
    how: dict[str, Any] = {"credentials": credentials(), "transport": "rest"}
    if endpoint:
        how["client_options"] = {"api_endpoint": endpoint}
    return DataflowClients(
        api.JobsV1Beta3Client(**how), api.MessagesV1Beta3Client(**how), api.MetricsV1Beta3Client(**how)
    )
