"""How Google Cloud is asked by the settings: the one place where its clients are built, and how they are called.

    with google.told("read gs://bucket/x"):              # whatever is raised in here becomes one of our errors
        blob.download_as_bytes(retry=google.retry())

What passes, and what is said of the rest, stands in millrace/beam/google_errors.py. A call that is tried again may
have had its effect the first time, its answer lost. Code that calls makes that harmless: by a precondition and a look
at what is there, or by an id of its own that makes a repetition the same call.

Where the services run on this machine, the clients' own variables name them: STORAGE_EMULATOR_HOST,
BIGQUERY_EMULATOR_HOST, dataflow_endpoint in [dataflow], and gcloud's CLOUDSDK_API_ENDPOINT_OVERRIDES_… for the rest.
"""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from millrace.beam import google_errors
from millrace.beam.gcs import Access
from millrace.beam.google_errors import impersonating, passes, said
from millrace.core.config import Config
from millrace.errors import AccessError, Command, MillraceError, SettingError

if TYPE_CHECKING:
    import google.auth.credentials
    import google.auth.transport.requests
    import google.cloud.storage as storage_api
    from google.api_core.retry import Retry
    from google.cloud import bigquery as bigquery_api
    from google.cloud import dataflow_v1beta3

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
#: The attributes of `Google` that hold connections.
_CLIENTS = ("storage", "bigquery", "dataflow", "templates", "session")


@dataclass(frozen=True)
class DataflowClients:
    """The clients of Dataflow's API that are needed to watch jobs."""

    jobs: "dataflow_v1beta3.JobsV1Beta3Client"
    messages: "dataflow_v1beta3.MessagesV1Beta3Client"
    metrics: "dataflow_v1beta3.MetricsV1Beta3Client"

    def close(self) -> None:
        """Close the clients' connections."""
        for client in (self.jobs, self.messages, self.metrics):
            client.transport.close()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class TemplateClients:
    """The clients of Dataflow's API that launch templates, the classic ones and the flex ones."""

    classic: "dataflow_v1beta3.TemplatesServiceClient"
    flex: "dataflow_v1beta3.FlexTemplatesServiceClient"

    def close(self) -> None:
        """Close the clients' connections."""
        for client in (self.classic, self.flex):
            client.transport.close()  # type: ignore[no-untyped-call]


class Google:
    """Google Cloud as some settings have it: its clients, each made when it is first asked for, then kept.

    Each raises AccessError without credentials.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        #: What tells of the jobs that are submitted what they are for, besides their task: label → value.
        self.labels: dict[str, str] = {}

    @property
    def access(self) -> Access:
        """How objects of Cloud Storage are written and read, by [gcp] kms_key, storage_class and user_project."""
        own = self.config.gcp
        return Access(own.kms_key, own.storage_class, own.user_project)

    @property
    def project(self) -> str:
        """The project that the settings name, or else the credentials. Raises SettingError for none."""
        named = self.config.gcp.project or self._credentials[1]
        if not named:
            raise SettingError("no Google Cloud project is known; set project in [gcp] of luigi.cfg, or --gcp-project")
        return named

    @property
    def credentials(self) -> "google.auth.credentials.Credentials":
        """The application-default credentials, or those of the account to impersonate. Raises AccessError for none."""
        return self._credentials[0]

    @cached_property
    def storage(self) -> "storage_api.Client":
        """Cloud Storage's client."""
        import google.cloud.storage as storage_api

        # Otherwise the client asks for the bucket in threads of its own, after each 404 again, for the sake of traces.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        return storage_api.Client(project=self.project, credentials=self.credentials)

    @cached_property
    def bigquery(self) -> "bigquery_api.Client":
        """BigQuery's client."""
        from google.cloud import bigquery as bigquery_api

        return bigquery_api.Client(
            project=self.project, credentials=self.credentials, location=self.config.bigquery.location or None
        )

    @cached_property
    def dataflow(self) -> DataflowClients:
        """Dataflow's clients."""
        from google.cloud import dataflow_v1beta3 as api

        how = self._of_dataflow()
        return DataflowClients(
            api.JobsV1Beta3Client(**how), api.MessagesV1Beta3Client(**how), api.MetricsV1Beta3Client(**how)
        )

    @cached_property
    def templates(self) -> TemplateClients:
        """Dataflow's clients that launch templates."""
        from google.cloud import dataflow_v1beta3 as api

        how = self._of_dataflow()
        return TemplateClients(api.TemplatesServiceClient(**how), api.FlexTemplatesServiceClient(**how))

    def _of_dataflow(self) -> dict[str, Any]:
        """Return how clients of Dataflow's API are made."""
        # Dataflow's default transport is gRPC, which does not survive a fork that happens beside it; HTTP does.
        how: dict[str, Any] = {"credentials": self.credentials, "transport": "rest"}
        if endpoint := self.config.dataflow.endpoint:
            how["client_options"] = {"api_endpoint": endpoint}
        return how

    @cached_property
    def session(self) -> "google.auth.transport.requests.AuthorizedSession":
        """What asks those of Google's services that have no client here, at `endpoint`."""
        from google.auth.transport.requests import AuthorizedSession

        return AuthorizedSession(self.credentials)  # type: ignore[no-untyped-call]

    def endpoint(self, service: str) -> str:
        """Return where a service is that has no client here, such as "iam"; gcloud's own variable names another
        place.
        """
        named = os.environ.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}")
        return (named or f"https://{service}.googleapis.com").rstrip("/")

    def retry(self, seconds: float | None = None) -> "Retry":
        """Return what clients take as `retry`: what passes is tried again for so many seconds, or [gcp] patience."""
        return google_errors.retry(self.config.gcp.patience if seconds is None else seconds)

    def told(self, doing: str, seconds: float | None = None) -> AbstractContextManager[None]:
        """Turn what Google's clients raise into one of our errors.

        doing: what was attempted, as in "read gs://b/x"; seconds: what its `retry` was given.
        """

        def translated(error: BaseException, doing: str) -> MillraceError | None:
            return self._translated(error, doing, seconds)

        return google_errors.told(doing, translated)

    def forget(self) -> None:
        """Have every client made anew, as a child process has to, because connections that a fork shares mix up their
        answers.
        """
        for name in (*_CLIENTS, "_credentials"):
            vars(self).pop(name, None)

    def close(self) -> None:
        """Close the connections of the clients that were made; a client that is asked for once more is a new one."""
        for name in _CLIENTS:
            if name in vars(self):
                vars(self)[name].close()
        self.forget()

    @cached_property
    def _credentials(self) -> "tuple[google.auth.credentials.Credentials, str]":
        import google.auth
        from google.auth import impersonated_credentials

        with self.told("find credentials"):
            found, named = google.auth.default(scopes=_SCOPES)
        if account := self.config.gcp.impersonate:
            found = impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
                found,
                account,
                list(_SCOPES),
                iam_endpoint_override=f"{self.endpoint('iamcredentials')}/v1/projects/-/serviceAccounts/{account}:generateAccessToken",
            )
        return found, named or ""

    def _translated(self, error: BaseException, doing: str, seconds: float | None) -> MillraceError | None:
        """Return the error for a person; None for what is none of Google's."""
        from google.auth.exceptions import RefreshError

        own, doctor = self.config.gcp, Command("doctor")
        if isinstance(error, RefreshError) and impersonating(error) and not passes(error):
            return AccessError(
                f"could not {doing}: nobody here may act as {own.impersonate}, "
                f"{self.config.origin('gcp', 'impersonate')} ({said(error)})",
                doctor,
                mend="{0} names the role",
            )
        return google_errors.translated(
            error,
            doing,
            missing=SettingError,
            tried=f"tried for {own.patience:g} s ([gcp] patience)" if seconds is None else f"tried for {seconds:g} s",
            granting=doctor,
        )
