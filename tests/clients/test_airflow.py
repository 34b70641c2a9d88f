"""Airflow's hooks and operators of Google Cloud, in a Python without Millrace."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client_running import Given, Program, Templates

from localcloud import DATASET, PROJECT

FOLDER = Path(__file__).parent
CONNECTION = json.dumps({"conn_type": "google_cloud_platform", "extra": {"project": PROJECT}})
Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's own folder, with its settings and its database."""
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture
def airflow(client: Program, home: Path) -> Program:
    """Airflow's Python, with a connection that names the project and nothing else."""
    client.more = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": CONNECTION,
        "AIRFLOW_CONN_GOOGLE_CLOUD_BIGQUERY_DEFAULT": CONNECTION,
    }
    return client


@pytest.fixture
def ask(airflow: Program) -> Ask:
    def ask(function: str, *arguments: object) -> Any:
        return json.loads(airflow.succeed(FOLDER / "program_airflow.py", function, *arguments).splitlines()[-1])

    return ask


def test_gcs_hook(given: Given, ask: Ask) -> None:
    """GCSHook: upload, list, copy, compose, download, rewrite, delete."""
    assert ask("gcs", given.name) == [["a", "b", "c", "whole"], 6, "aaabbb", False, True]


def test_buckets(given: Given, ask: Ask) -> None:
    """GCSHook: a bucket made, synchronised with a prefix, deleted with what is in it."""
    assert ask("buckets", given.name) == ["a"]


def test_bigquery_hook(given: Given, ask: Ask) -> None:
    """BigQueryHook: create_table, insert_all, insert_job, list_rows, delete_table."""
    assert ask("bigquery", DATASET) == [True, [[3]], 1, False]


def test_dataflow_hook(given: Given, ask: Ask, templates: Templates) -> None:
    """DataflowHook: a classic template launched and waited for, its environment, messages, metrics."""
    source, target = given.put("in.txt", "one\ntwo\n"), given.gs("out.txt")
    seen = ask("classic", given.cloud.dataflow.url, templates.classic, source, target)
    assert seen == ["JOB_STATE_DONE", True, True]
    assert given.lines("out.txt") == ["ONE", "TWO"]


def test_flex_templates(given: Given, ask: Ask, templates: Templates) -> None:
    """DataflowHook: a flex template launched and waited for."""
    source, target = given.put("in.txt", "one\ntwo\n"), given.gs("out.txt")
    assert ask("flex", given.cloud.dataflow.url, templates.flex, source, target) == "JOB_STATE_DONE"
    assert given.lines("out.txt") == ["ONE", "TWO"]


def test_cancelled_jobs(given: Given, ask: Ask, templates: Templates) -> None:
    """DataflowHook: a job cancelled that runs."""
    given.cloud.dataflow.hold("airflow-held")
    source, target = given.put("in.txt", "one\n"), given.gs("out.txt")
    assert ask("cancel", given.cloud.dataflow.url, templates.classic, source, target) == "JOB_STATE_CANCELLED"


def test_a_workflow_of_operators(given: Given, home: Path, airflow: Program, templates: Templates) -> None:
    """A DAG: GCSToBigQuery, BigQueryInsertJob (UPDATE), BigQueryToGCS, DataflowTemplatedJobStart."""
    given.put("rows.csv", "a,1\nb,2\n")
    program = home / "dags" / "measure.py"
    program.parent.mkdir(exist_ok=True)
    shutil.copy(FOLDER / "program_airflow_dag.py", program)
    values = {"URL": given.cloud.dataflow.url, "TEMPLATE": templates.classic, "PREFIX": given.name, "DATASET": DATASET}
    airflow.more = {**airflow.more, **{f"MEASURE_{key}": value for key, value in values.items()}}
    airflow.succeed("-m", "airflow", "db", "migrate")
    airflow.succeed("-m", "airflow", "dags", "reserialize")
    ran = airflow(program)
    assert ran.code == 0, str(ran)
    states = json.loads(ran.out.splitlines()[-1])
    assert states == dict.fromkeys(("load", "update", "extract", "transform"), "success"), str(ran)
    assert given.lines("upper.csv") == ["A,10", "B,20"]
