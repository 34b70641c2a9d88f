"""The templates built from the window's pipeline, launched by other people's tools, agree with plain Python.

Each is built once and launched with different timestamps. A few launches are tried; with MILLRACE_TEST_ALL=1 each.
"""

import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import cloud_running
import oracle
import posts_cases as cases
import pyarrow.parquet as pq
import pytest
import requests
import running
from cloud_running import Place
from window_oracle import NAMES, expected

from localcloud import BUCKET, PROJECT, REGION, Cloud

MODULE = "pipelines.posts.window"
IMAGE = "gcr.io/p/window:1"
#: Two ends: in the midst of the 70 minutes of the posts, and when nearly all have left a window of one day.
ENDS = ("2017-08-27 04:30:00", "2017-08-28 04:45:00.000001")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with the posts and both templates of them."""
    with Cloud() as cloud:
        place = Place(cloud, tmp_path_factory.mktemp("templates"))
        cloud.dataflow.images[IMAGE] = str(running.ROOT / "flex_template.py")
        cloud_running.upload(cloud, cases.real("mayweather_2017.jsonl"), "in")
        for kind, more in (("classic", ()), ("flex", ("--image", IMAGE))):
            built = place.run("millrace", "build-template", MODULE, f"--{kind}", template(kind), *more)
            assert built.code == 0, built
        yield place


def template(kind: str) -> str:
    return f"gs://{BUCKET}/templates/window-{kind}"


def parameters(place: Place, name: str, end: str) -> dict[str, str]:
    output = f"gs://{BUCKET}/out/{name}"
    return {"input": f"gs://{BUCKET}/in/*.jsonl", "timestamp": end, "days": "1", "rules": "classic", "output": output}


def by_gcloud(place: Place, kind: str, name: str, given: dict[str, str]) -> None:
    if not shutil.which("gcloud"):
        running.absent("gcloud is not installed (https://cloud.google.com/sdk/docs/install)")
    how = {
        "classic": ["jobs", "run", name, f"--gcs-location={template(kind)}"],
        "flex": ["flex-template", "run", name, f"--template-file-gcs-location={template(kind)}"],
    }
    joined = "^;^" + ";".join(f"{key}={value}" for key, value in given.items())
    ran = subprocess.run(
        ["gcloud", "dataflow", *how[kind], f"--region={REGION}", f"--parameters={joined}"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(place.folder),
            "CLOUDSDK_CONFIG": str(place.folder / "gcloud"),
            "CLOUDSDK_CORE_PROJECT": PROJECT,
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_DATAFLOW": f"{place.cloud.dataflow.url}/",
        },
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def by_rest(place: Place, kind: str, name: str, given: dict[str, str]) -> None:
    base = f"{place.cloud.dataflow.url}/v1b3/projects/{PROJECT}/locations/{REGION}"
    launch: dict[str, Any] = {"jobName": name, "parameters": given}
    if kind == "classic":
        asked = requests.post(f"{base}/templates:launch", json=launch, params={"gcsPath": template(kind)}, timeout=60)
    else:
        launch["containerSpecGcsPath"] = template(kind)
        asked = requests.post(f"{base}/flexTemplates:launch", json={"launchParameter": launch}, timeout=60)
    assert asked.status_code == 200, asked.text


LAUNCHERS: dict[str, Callable[[Place, str, str, dict[str, str]], None]] = {"gcloud": by_gcloud, "REST": by_rest}
EVERY = [(kind, by, end) for kind in ("classic", "flex") for by in LAUNCHERS for end in ENDS]
#: Both templates, both ends of one of them, and both launchers.
SOME = [("classic", "gcloud", ENDS[0]), ("classic", "REST", ENDS[1]), ("flex", "REST", ENDS[1])]


@pytest.mark.parametrize(
    ("kind", "by", "end"), [each if each in SOME else pytest.param(*each, marks=running.long) for each in EVERY]
)
def test_a_launch_gives_the_tables_of_plain_python(place: Place, kind: str, by: str, end: str) -> None:
    name = f"{kind}-{by.lower()}-{ENDS.index(end)}"
    LAUNCHERS[by](place, kind, name, parameters(place, name, end))
    (job,) = (job for job in place.jobs if job.name == name)
    place.wait_for(lambda: job.over, 120)
    assert job.state == "JOB_STATE_DONE", job.error
    assert_tables(place, name, end)


def assert_tables(place: Place, name: str, end: str) -> None:
    (path,) = cases.real("mayweather_2017.jsonl")
    wanted = expected(oracle.read_source(path), end, 1, "classic")
    for table in NAMES:
        blob = cloud_running.bucket(place.cloud).blob(f"out/{name}/{table}.parquet")
        rows = pq.read_table(io.BytesIO(blob.download_as_bytes())).drop_columns(["ts", "date"]).to_pylist()
        assert [list(row.values()) for row in rows] == cases.near(wanted[table]), table
        assert len(rows) > 100


def test_rows_go_to_bigquery_when_asked_and_replace_those_of_the_same_end(place: Place) -> None:
    """Twice the same end leaves its rows once; another end's stay."""
    given = {"bigquery": f"{PROJECT}.{place.dataset}"}
    for number, end in enumerate([ENDS[0], ENDS[1], ENDS[0]]):
        by_rest(place, "classic", f"loaded-{number}", {**parameters(place, f"loaded-{number}", end), **given})
        place.wait_for(lambda: all(job.over for job in place.jobs), 120)
        assert [job.error for job in place.jobs if job.error] == []
    for table in NAMES:
        rows = place.cloud.bigquery.rows(f"{place.dataset}.{table}")
        written = {
            json.loads(line)["ts"]: 0
            for number in (0, 1)
            for line in _lines(place, f"out/loaded-{number}/{table}.jsonl")
        }
        assert {f"{row['ts']:%Y-%m-%dT%H:%M:%S.%fZ}".replace(".000000", "") for row in rows} == set(written)
        assert len(rows) == sum(len(_lines(place, f"out/loaded-{number}/{table}.jsonl")) for number in (0, 1))


def _lines(place: Place, name: str) -> list[str]:
    return list(cloud_running.bucket(place.cloud).blob(name).download_as_text().splitlines())


def test_the_service_refuses_what_the_metadata_does_not_allow(place: Place) -> None:
    base = f"{place.cloud.dataflow.url}/v1b3/projects/{PROJECT}/locations/{REGION}"
    given = {"timestamp": "yesterday", "output": "gs://b/o", "minutes": "4"}
    asked = requests.post(
        f"{base}/templates:launch",
        json={"jobName": "wrong", "parameters": given},
        params={"gcsPath": template("classic")},
        timeout=60,
    )
    assert asked.status_code == 400
    message = asked.json()["error"]["message"]
    for said in ("minutes: Unrecognized parameter", "input: Missing required parameter", "timestamp: Unmatched regex"):
        assert said in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([MODULE], "say what to build of pipelines.posts.window: --classic gs://… or --flex gs://…, one of them"),
        ([MODULE, "--flex", "gs://b/x"], "--flex gs://b/x needs --image"),
        ([MODULE, "--classic", "window"], "--classic window: a template is an object, gs://BUCKET/NAME"),
        (["pipelines.posts.windows", "--classic", "gs://b/x"], "there is no pipeline pipelines.posts.windows"),
        (["pipelines.posts.count", "--classic", "gs://b/x"], "pipelines.posts.count is no template"),
    ],
)
def test_what_can_not_be_built_is_one_sentence(place: Place, arguments: list[str], said: str) -> None:
    ran = place.run("millrace", "build-template", *arguments)
    assert ran.code != 0
    assert said in ran.err
    assert ran.err.count("\n") == 1
