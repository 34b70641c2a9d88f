"""Google's system parameters: what any client may send with any call."""

import pytest
import requests

from localcloud import PROJECT, LocalCloud
from localcloud.parameters import ParameterError, mask, partial


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("kind", {"kind": "demo"}),
        ("items/title", {"items": [{"title": "a"}, {}]}),
        ("items(title,author/uri)", {"items": [{"title": "a", "author": {"uri": "u"}}, {}]}),
        ("kind, items/author(name)", {"kind": "demo", "items": [{"author": {"name": "n"}}, {}]}),
        ("items/*/uri", {"items": [{"title": "a", "author": {"uri": "u"}}, {"id": 2}]}),
        ("*", {"kind": "demo", "items": [{"title": "a", "author": {"name": "n", "uri": "u"}}, {"id": 2}]}),
        ("nothing", {}),
    ],
)
def test_fields_name_what_is_answered(fields: str, expected: object) -> None:
    """The examples of Google's documentation of partial responses, over such a value."""
    value = {"kind": "demo", "items": [{"title": "a", "author": {"name": "n", "uri": "u"}}, {"id": 2}]}
    assert partial(value, mask(fields)) == expected


@pytest.mark.parametrize("fields", ["a(b", "a)b", "a//b", "a,", "(a)", "a()", "/a", "a/", "a(b))"])
def test_a_mask_with_an_end_missing_is_refused(fields: str) -> None:
    with pytest.raises(ParameterError, match="Invalid field selection"):
        mask(fields)


SENT = {
    "alt": "json",
    "prettyPrint": "true",
    "key": "AIza",
    "quotaUser": "me",
    "userIp": "10.0.0.1",
    "access_token": "x",
    "oauth_token": "x",
    "$.xgafv": "2",
    "upload_protocol": "raw",
}


def test_every_service_takes_them() -> None:
    """What googleapiclient and gcloud add to a call changes no answer, and `fields` does in each service."""
    with LocalCloud() as cloud:
        calls = {
            f"{cloud.storage.url}/storage/v1/b": "kind",
            f"{cloud.bigquery.url}/bigquery/v2/projects/{PROJECT}/datasets": "kind",
            f"{cloud.bigquery.url}/bigquery/v2/projects/{PROJECT}/jobs": "kind",
            f"{cloud.dataflow.url}/v1b3/projects/{PROJECT}/locations/us-central1/jobs": "jobs",
            f"{cloud.projects.url}/v3/projects/{PROJECT}": "name",
        }
        for url, field in calls.items():
            plain = requests.get(url, timeout=10)
            assert plain.status_code == 200, plain.text
            assert requests.get(url, SENT, timeout=10).json() == plain.json()
            some = requests.get(url, {**SENT, "fields": field}, timeout=10).json()
            assert some == {key: value for key, value in plain.json().items() if key == field}
            assert requests.get(url, {"fields": "a("}, timeout=10).status_code == 400
            for key, value in {"alt": "proto", "callback": "f"}.items():
                refused = requests.get(url, {key: value}, timeout=10)
                assert refused.status_code == 400
                assert "local cloud" in refused.json()["error"]["message"]
