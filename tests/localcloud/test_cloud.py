"""The whole cloud: what it tells clients is enough for each of them to find it."""

import configparser
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import google.auth
import pytest
from google.api_core import exceptions
from google.cloud import bigquery, dataflow_v1beta3, storage
from luigid_asking import status

from localcloud import BUCKET, DATASET, LOCATION, PROJECT, REGION, LocalCloud
from localcloud.faults import Fault


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    with LocalCloud() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


def settings(cloud: LocalCloud) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string(cloud.settings())
    return parser


def dataflow_jobs(cloud: LocalCloud) -> dataflow_v1beta3.JobsV1Beta3Client:
    endpoint = settings(cloud)["dataflow"]["dataflow_endpoint"]
    return dataflow_v1beta3.JobsV1Beta3Client(transport="rest", client_options={"api_endpoint": endpoint})


def test_each_of_googles_clients_finds_its_service_by_the_environment(cloud: LocalCloud) -> None:
    with storage.Client() as client:
        assert client.project == PROJECT
        assert client.get_bucket(BUCKET).location == LOCATION
    with bigquery.Client() as tables:
        assert tables.get_dataset(DATASET).location == LOCATION
    with dataflow_jobs(cloud) as jobs:
        assert list(jobs.list_jobs({"project_id": PROJECT, "location": REGION})) == []
    assert {each.service for each in cloud.requests} == {"storage", "bigquery", "dataflow"}


def test_the_credentials_need_no_google(cloud: LocalCloud) -> None:
    credentials, project = google.auth.default()
    assert (credentials.valid, project) == (True, PROJECT)


def test_the_settings_name_the_bucket_and_the_dataset(cloud: LocalCloud) -> None:
    found = settings(cloud)
    assert found["millrace"]["storage"] == f"gs://{BUCKET}/data"
    assert found["millrace"]["warehouse"] == f"bigquery://{PROJECT}/{DATASET}"
    assert (found["gcp"]["project"], found["gcp"]["region"]) == (PROJECT, REGION)


@pytest.mark.parametrize("worker", [False, True])
def test_services_answer_to_their_own_names_only(cloud: LocalCloud, worker: bool) -> None:
    """A page of the web reaches none of them: not under a name that leads here, nor by what it sends itself."""
    for service in (cloud.storage, cloud.bigquery, cloud.dataflow, cloud.projects):
        port = urlsplit(service.worker_url if worker else service.url).port
        assert port is not None
        before = len(service.requests)
        for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "", "[::1", "10.0.0.1"):
            assert status(port, "/storage/v1/b", Host=host) == 403, host
        assert status(port, "/storage/v1/b", "POST", Host=f"localhost:{port}", Origin="http://evil.example") == 403
        assert status(port, "/storage/v1/b", "POST", Host=f"localhost:{port}", Origin="null") == 403
        assert len(service.requests) == before
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
            assert status(port, "/storage/v1/b", Host=host) != 403, host


def test_one_fault_plan_is_for_all_services(cloud: LocalCloud) -> None:
    cloud.faults.at(1, Fault("status", status=403), service="bigquery")
    with storage.Client() as client:
        client.bucket(BUCKET).blob("a").upload_from_string(b"1")
    with bigquery.Client() as tables, pytest.raises(exceptions.Forbidden):
        tables.get_dataset(DATASET)


def test_nothing_is_left_of_it() -> None:
    with LocalCloud() as cloud:
        credentials = cloud.environment()["GOOGLE_APPLICATION_CREDENTIALS"]
        assert os.path.exists(credentials)
        assert cloud.requests == []
    assert not os.path.exists(credentials)
