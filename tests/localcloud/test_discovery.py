"""Each service answers with the discovery document of its API, by which bq and googleapiclient know its methods."""

import pytest
import requests
import running

from localcloud import discovery
from localcloud.bigquery import BigQuery
from localcloud.storage import Storage


def test_the_document_leads_to_this_machine(storage: Storage) -> None:
    """Its methods are Google's, its address is the one that was asked; without a document that is said."""
    with BigQuery(storage_url=storage.worker_url) as bigquery:
        answer = requests.get(f"{bigquery.url}/$discovery/rest", {"version": "v2"}, timeout=10)
    if answer.status_code == 404:
        assert "google-api-python-client" in answer.json()["error"]["message"]
        running.absent("neither google-api-python-client nor the Cloud SDK is installed")
    found = answer.json()
    assert found["baseUrl"] == f"{bigquery.url}/bigquery/v2/"
    assert found["rootUrl"] == f"{bigquery.url}/"
    assert found["resources"]["jobs"]["methods"]["insert"]["httpMethod"] == "POST"


def test_another_api_s_document_is_not_there(storage: Storage) -> None:
    """404, with both names; and what only looks like such a path is left to the service."""
    answer = requests.get(f"{storage.url}/discovery/v1/apis/compute/v1/rest", timeout=10)
    assert answer.status_code == 404
    assert "compute v1 is not of this service: storage v1" in answer.json()["error"]["message"]
    assert not discovery.asked("/storage/v1/b", {}, "storage", "v1")
    with pytest.raises(LookupError, match="storage v2 is not of this service"):
        discovery.asked("/$discovery/rest", {"version": "v2"}, "storage", "v1")
