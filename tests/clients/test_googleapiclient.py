"""googleapiclient: Google's client that is made of an API's discovery document, in a Python without Millrace."""

import json
from pathlib import Path
from typing import Any

from client_running import Given, Program, Templates

from localcloud import DATASET

PROGRAM = Path(__file__).with_name("program_googleapiclient.py")


def ask(client: Program, function: str, *arguments: object) -> Any:
    return json.loads(client.succeed(PROGRAM, function, *arguments).splitlines()[-1])


def test_classic_templates(given: Given, client: Program, templates: Templates) -> None:
    """Dataflow: a classic template launched; its job's views, messages, metrics; all jobs of the project."""
    source, target = given.put("in.txt", "one\ntwo\n"), given.gs("out.txt")
    seen = ask(client, "classic", given.cloud.dataflow.url, templates.classic, given.name, source, target)
    assert given.lines("out.txt") == ["ONE", "TWO"]
    assert (seen["state"], seen["last"], seen["listed"]) == ("JOB_STATE_DONE", "Worker pool stopped.", True)
    assert seen["metrics"] > 0
    assert "environment" not in seen["views"]["JOB_VIEW_SUMMARY"]
    assert "environment" in seen["views"]["JOB_VIEW_ALL"]


def test_flex_templates(given: Given, client: Program, templates: Templates) -> None:
    """Dataflow: a flex template launched, whose image is a program of this machine."""
    source, target = given.put("in.txt", "one\ntwo\n"), given.gs("out.txt")
    assert ask(client, "flex", given.cloud.dataflow.url, templates.flex, given.name, source, target) == "JOB_STATE_DONE"
    assert given.lines("out.txt") == ["ONE", "TWO"]


def test_errors(given: Given, client: Program) -> None:
    """Dataflow: the error of a job that is not there, as googleapiclient reads it."""
    status, reason = ask(client, "refused", given.cloud.dataflow.url)
    assert status == 404
    assert "Information about job nothing could not be found" in reason


def test_objects(given: Given, client: Program) -> None:
    """Cloud Storage: uploads at once and resumable, pages, compose, rewrite, a download in pieces, delete."""
    seen = ask(client, "objects", given.cloud.storage.url, given.name)
    assert seen == [[["a", "b"], ["c"]], 2, True, "aaabbb", 404]


def test_tables(given: Given, client: Program) -> None:
    """BigQuery: tables.insert, a resumable load, insertAll, a query in pages."""
    (given.folder / "rows.csv").write_text("a,1\nb,2\n")
    seen = ask(client, "tables", given.cloud.bigquery.url, DATASET, given.folder / "rows.csv")
    assert seen == ["2", None, [["1", "2"], ["3"]]]


def test_discovery(given: Given, client: Program) -> None:
    """BigQuery: a client built of the discovery document that the service itself answers with."""
    assert DATASET in ask(client, "discovered", given.cloud.bigquery.url)
