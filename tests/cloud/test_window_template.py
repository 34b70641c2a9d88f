"""The templates built from the window's pipeline, launched by other people's tools, agree with plain Python.

Each is built once and launched with different timestamps. A few launches are tried; with MILLRACE_TEST_ALL=1 each.
"""

import datetime
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import cloud_running
import oracle
import posts_cases as cases
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import running
from cloud_running import Place
from window_oracle import NAMES, expected

from localcloud import BUCKET, LOCATION, PROJECT, REGION, LocalCloud
from pipelines.posts.tables import TABLES

MODULE = "pipelines.posts.window"
IMAGE = "gcr.io/p/window:1"
#: Two ends: in the midst of the 70 minutes of the posts, and when nearly all have left a window of one day.
ENDS = ("2017-08-27 04:30:00", "2017-08-28 04:45:00.000001")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with the posts and both templates of them."""
    with LocalCloud() as cloud:
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
    running.need("gcloud")
    how = {
        "classic": ["jobs", "run", name, f"--gcs-location={template(kind)}"],
        "flex": ["flex-template", "run", name, f"--template-file-gcs-location={template(kind)}"],
    }
    joined = "^;^" + ";".join(f"{key}={value}" for key, value in given.items())
    command = ["gcloud", "dataflow", *how[kind], f"--region={REGION}", f"--parameters={joined}"]
    ran = running.run(command, place.folder, place.environment)
    assert ran.code == 0, ran


def by_rest(place: Place, kind: str, name: str, given: dict[str, str]) -> None:
    base = f"{place.cloud.dataflow.url}/v1b3/projects/{PROJECT}/locations/{REGION}"
    launch: dict[str, Any] = {"jobName": name, "parameters": given}
    if kind == "classic":
        asked = requests.post(f"{base}/templates:launch", json=launch, params={"gcsPath": template(kind)}, timeout=60)
    else:
        launch["containerSpecGcsPath"] = template(kind)
        asked = requests.post(f"{base}/flexTemplates:launch", json={"launchParameter": launch}, timeout=60)
    assert asked.status_code == 200, asked.text


Launcher = Callable[[Place, str, str, dict[str, str]], None]
LAUNCHERS: dict[str, Launcher] = {"gcloud": by_gcloud, "REST": by_rest}
EVERY = [(kind, by, end) for kind in ("classic", "flex") for by in LAUNCHERS for end in ENDS]
#: The other end than that of the documentation's commands, which are tried in any case.
SOME = [("flex", "REST", ENDS[1])]


@pytest.mark.parametrize(
    ("kind", "by", "end"), [each if each in SOME else pytest.param(*each, marks=running.long) for each in EVERY]
)
def test_a_launch_gives_the_tables_of_plain_python(place: Place, kind: str, by: str, end: str) -> None:
    name, before = f"{kind}-{by.lower()}-{ENDS.index(end)}", len(place.jobs)
    LAUNCHERS[by](place, kind, name, parameters(place, name, end))
    (job,) = place.jobs[before:]
    place.wait_for(lambda: job.over, 120)
    assert job.state == "JOB_STATE_DONE", job.error
    assert_tables(place, f"out/{name}", end)


TASKS = [(kind, end) for kind in ("classic", "flex") for end in ENDS]


@pytest.mark.parametrize(
    ("kind", "end"),
    [each if each == ("classic", ENDS[1]) else pytest.param(*each, marks=running.long) for each in TASKS],
)
def test_a_task_launches_it_to_the_same_tables(place: Place, kind: str, end: str) -> None:
    """TemplateJob, as a command of luigi's; where every case is tried, a second run launches nothing."""
    name = f"{kind}-task-{ENDS.index(end)}"
    given = ("--template", template(kind), "--parameters", json.dumps(parameters(place, name, end)))
    place.succeed("TemplateJob", *given)
    assert_tables(place, f"out/{name}", end)
    before = len(place.jobs)
    if running.WHOLE:
        place.succeed("TemplateJob", *given)
    assert len(place.jobs) == before


def assert_tables(place: Place, name: str, end: str) -> None:
    (path,) = cases.real("mayweather_2017.jsonl")
    wanted = expected(oracle.read_source(path), end, 1, "classic")
    for table in NAMES:
        blob = cloud_running.bucket(place.cloud).blob(f"{name}/{table}.parquet")
        rows = pq.read_table(io.BytesIO(blob.download_as_bytes())).drop_columns(["ts", "date"]).to_pylist()
        assert [list(row.values()) for row in rows] == cases.near(wanted[table]), table
        assert len(rows) > 100


@pytest.mark.timeout(300)
def test_the_documentations_commands_launch_it(place: Place) -> None:
    """gcloud and curl, both templates: each command of docs/templates.md, as written but for where Dataflow is."""
    running.need("gcloud")
    text = (running.ROOT / "docs" / "templates.md").read_text(encoding="utf-8").partition("## Launch it")[2]
    commands = re.findall(r"^```sh account\n(.*?)^```$", text.partition("## ")[0], re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    script = "".join(commands).replace("https://dataflow.googleapis.com", place.cloud.dataflow.url)
    end = "2017-08-27 04:30:00"
    script = script.replace("2026-11-19 05:00:00", end).replace("timestamp=", "days=1;rules=classic;timestamp=")
    script = script.replace('\\"timestamp\\"', '\\"days\\": \\"1\\", \\"rules\\": \\"classic\\", \\"timestamp\\"')
    for kind in ("classic", "flex"):
        blob = cloud_running.bucket(place.cloud).blob(template(kind).partition(f"{BUCKET}/")[2])
        name = "templates/window" + (".json" if kind == "flex" else "")
        cloud_running.bucket(place.cloud).blob(name).upload_from_string(blob.download_as_bytes())
    for path in cases.real("mayweather_2017.jsonl"):
        cloud_running.upload(place.cloud, [path], "posts")
    copied = cloud_running.bucket(place.cloud).blob("templates/window-classic_metadata").download_as_bytes()
    cloud_running.bucket(place.cloud).blob("templates/window_metadata").upload_from_string(copied)
    variables = {"BUCKET": BUCKET, "PROJECT": PROJECT, "REGION": REGION}
    ran = running.run(["bash", "-euo", "pipefail", "-c", script], place.folder, {**place.environment, **variables})
    assert ran.code == 0, ran
    jobs = {job.name: job for job in place.jobs if re.fullmatch(r"window-\d", job.name)}
    assert sorted(jobs) == [f"window-{n}" for n in range(1, 5)]
    place.wait_for(lambda: all(job.over for job in jobs.values()), 200)
    assert {job.error for job in jobs.values()} == {""}
    for number in range(1, 5):
        assert_tables(place, f"trends/{number}", end)


def test_the_line_of_the_crontab_launches_it(place: Place) -> None:
    """As cron runs it: with the shell sh, and without the backslashes before % that a crontab needs."""
    running.need("gcloud")
    text = (running.ROOT / "crontab.example").read_text(encoding="utf-8")
    (line,) = re.findall(r"^# 0 \*/5 \* \* \*  (gcloud .*)$", text, re.MULTILINE)
    before = len(place.jobs)
    command = line.replace("\\%", "%").replace("gs://BUCKET/templates/window", template("classic"))
    command = command.replace("gs://BUCKET/posts/*.jsonl", "sample://").replace("BUCKET", BUCKET)
    ran = running.run(["sh", "-c", command], place.folder, place.environment)
    assert ran.code == 0, ran
    (job,) = place.jobs[before:]
    assert re.fullmatch(r"window-\d{8}-\d\d", job.name)
    place.wait_for(lambda: job.over, 200)
    assert job.state == "JOB_STATE_DONE", job.error
    told = json.loads(cloud_running.bucket(place.cloud).blob(f"trends/{job.name[7:]}/window.json").download_as_bytes())
    assert told["days"] == "4"
    assert told["counters"]["posts"] > 1000


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


def test_a_step_that_is_tried_again_after_its_job_has_failed_makes_another_job(place: Place) -> None:
    """And none where an earlier try's job is done."""
    end = datetime.datetime(2026, 11, 19, 5, tzinfo=datetime.UTC)
    row = {"url": "https://a.org/", "count": 2, "ts": end, "date": end.date()}
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], TABLES["urls"].schema()), sink)
    cloud_running.bucket(place.cloud).blob("tried/urls.parquet").upload_from_string(sink.getvalue())
    dataset = f"{place.dataset}_tried"
    place.cloud.bigquery.create_dataset(dataset, LOCATION)
    program = (
        "import datetime; from millrace.beam.bigquery import replace_rows; from pipelines.posts.tables import TABLES; "
        f"replace_rows('{PROJECT}.{dataset}.urls', TABLES['urls'], 'gs://{BUCKET}/tried/urls.parquet', 'ts', "
        f"{end!r}, 'a-step')"
    )
    place.cloud.bigquery.fail_jobs("query", "backendError", 1)
    for wanted in (False, True, True):
        ran = running.run([running.python(), "-c", program], place.folder, place.environment)
        assert (ran.code == 0) == wanted, ran
        rows = place.cloud.bigquery.rows(f"{dataset}.urls")
        assert [found["count"] for found in rows] == [2] * wanted
    tried = [job for job in place.cloud.bigquery.jobs if job.id.startswith("a-step")]
    assert [(job.id, job.error is None) for job in tried] == [("a-step", False), ("a-step-2", True)]


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
        (["pipelines.posts.windows", "--classic", "gs://b/x"], "there is no pipeline 'pipelines.posts.windows'"),
        ([".window", "--classic", "gs://b/x"], "there is no pipeline '.window'"),
        (["pipelines.posts.count", "--classic", "gs://b/x"], "pipelines.posts.count is no template"),
    ],
)
def test_what_can_not_be_built_is_one_sentence(place: Place, arguments: list[str], said: str) -> None:
    ran = place.run("millrace", "build-template", *arguments)
    assert ran.code != 0
    assert said in ran.err
    assert ran.err.count("\n") == 1
