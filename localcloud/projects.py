"""Google Cloud's projects on this machine: which APIs are enabled, who may do what, and tokens for service accounts.

Of Service Usage, Resource Manager, IAM, IAM Credentials and OAuth this is what bin/doctor asks. Everything is granted
unless a test takes it away.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from localcloud import PROJECT
from localcloud.faults import FaultPlan
from localcloud.serving import Request, Response, Service, error_response, json_response

NUMBER = "123456789012"
#: gcloud's variables, by the service that each leads here.
_VARIABLES = [
    f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}"
    for name in ("SERVICEUSAGE", "CLOUDRESOURCEMANAGER", "IAM", "IAMCREDENTIALS")
]
_CALLS = {
    "services.batchGet": ("GET", r"/v1/projects/(?P<project>[^/:]+)/services:batchGet"),
    "projects.get": ("GET", r"/v3/projects/(?P<project>[^/:]+)"),
    "projects.testIamPermissions": ("POST", r"/v3/projects/(?P<project>[^/:]+):testIamPermissions"),
    "projects.getIamPolicy": ("POST", r"/v3/projects/(?P<project>[^/:]+):getIamPolicy"),
    "serviceAccounts.testIamPermissions": (
        "POST",
        r"/v1/projects/-/serviceAccounts/(?P<account>[^/:]+):testIamPermissions",
    ),
    "serviceAccounts.generateAccessToken": (
        "POST",
        r"/v1/projects/-/serviceAccounts/(?P<account>[^/:]+):generateAccessToken",
    ),
    "token": ("POST", r"/token"),
}


class Projects(Service):
    """One project, PROJECT."""

    name = "projects"

    def __init__(self, faults: FaultPlan | None = None) -> None:
        super().__init__(faults)
        #: Permissions that the caller does not have.
        self.denied: set[str] = set()
        #: APIs that are not enabled, as in "dataflow.googleapis.com".
        self.disabled: set[str] = set()
        #: Service accounts that do not exist.
        self.unknown: set[str] = set()
        #: The project's roles: role → members.
        worker = f"serviceAccount:{NUMBER}-compute@developer.gserviceaccount.com"
        self.roles: dict[str, list[str]] = {"roles/dataflow.worker": [worker]}
        #: Whether a service account's key is still good.
        self.good_keys = True

    def environment(self) -> Mapping[str, str]:
        """Return the variables with which bin/doctor finds these services."""
        return dict.fromkeys(_VARIABLES, self.url)

    def call_of(self, request: Request) -> str:
        return next((call for call in _CALLS if _found(call, request)), "unknown")

    def has_effect(self, request: Request) -> bool:
        return False

    def handle(self, request: Request) -> Response:
        found = _found(request.call, request) if request.call in _CALLS else None
        if found is None:
            return error_response(501, f"the local projects have no {request.method} {request.path}")
        named = found.groupdict()
        if named.get("project", PROJECT) != PROJECT:
            return error_response(403, f"Permission denied on resource project {named['project']}.")
        if named.get("account") in self.unknown:
            return error_response(404, f"Unknown service account {named['account']}")
        return self._answer(request)

    def _answer(self, request: Request) -> Response:
        if request.call == "services.batchGet":
            return self._permitted("serviceusage.services.get", {"services": self._services(request)})
        if request.call == "projects.get":
            return self._permitted("resourcemanager.projects.get", {"name": f"projects/{NUMBER}", "projectId": PROJECT})
        if request.call == "projects.getIamPolicy":
            bindings = [{"role": role, "members": members} for role, members in self.roles.items()]
            return self._permitted("resourcemanager.projects.getIamPolicy", {"version": 1, "bindings": bindings})
        if request.call == "serviceAccounts.generateAccessToken":
            token = {"accessToken": "fake", "expireTime": "2099-01-01T00:00:00Z"}
            return self._permitted("iam.serviceAccounts.getAccessToken", token)
        if request.call == "token":
            if self.good_keys:
                return json_response({"access_token": "fake", "expires_in": 3600, "token_type": "Bearer"})
            return json_response({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, 400)
        granted = [each for each in request.json()["permissions"] if each not in self.denied]
        return json_response({"permissions": granted} if granted else {})

    def _services(self, request: Request) -> list[dict[str, str]]:
        asked = parse_qs(urlsplit(request.target).query)["names"]  # one name several times
        names = [each.rpartition("/")[2] for each in asked]
        state = {True: "DISABLED", False: "ENABLED"}
        return [{"name": f"projects/{NUMBER}/services/{each}", "state": state[each in self.disabled]} for each in names]

    def _permitted(self, permission: str, answer: Any) -> Response:
        if permission in self.denied:
            return error_response(403, f"Permission '{permission}' denied on resource (or it may not exist).")
        return json_response(answer)


def _found(call: str, request: Request) -> "re.Match[str] | None":
    method, path = _CALLS[call]
    return re.fullmatch(path, request.path) if request.method == method else None
