"""bin/on-event without a cloud: what is no event, which graphs there are, and jobs that say they are of others."""

import dataclasses
import datetime
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import running

from millrace.core.ledger import Entry
from millrace.errors import SettingError
from millrace.ops import on_event
from millrace.runners.dataflow.jobs import Job
from millrace.tasks import session
from millrace.tasks.job_graph import JobGraph
from millrace.tasks.session import Session

GRAPH = "name: {}\njobs: {{a: {{template: 'gs://bucket/template'}}}}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two graphs, in which the test works."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "one.yaml").write_text(GRAPH.format("one"))
    (tmp_path / "graphs" / "two.yml").write_text(GRAPH.format("two"))
    (tmp_path / "graphs" / "notes.md").write_text("none")
    return tmp_path


@pytest.mark.parametrize(
    ("event", "code", "said"),
    [
        (b"Worker pool stopped.", 65, "error: the event is no JSON: 'Worker pool stopped.'\n"),
        (b"", 65, "error: the event is no JSON: ''\n"),
        (
            b"\xff" * (17 << 20),
            65,
            "error: the event has more than 16 MiB, and Pub/Sub sends none of more than 10 MB\n",
        ),
        (
            b'{"logName": "projects/p/logs/dataflow.googleapis.com%2Fjob-message",'
            b' "resource": {"type": "dataflow_step", "labels": {}}}',
            65,
            "error: the event is one of Dataflow's, and names no job\n",
        ),
        (b'{"messageId": "1"}', 0, "ignored: a message without data tells of no Dataflow job\n"),
        (b'{"logName": "\\u001b[2J"}', 0, "ignored: an entry of '\\x1b[2J' about None tells of no Dataflow job\n"),
    ],
    ids=["text", "nothing", "large", "nameless", "empty", "hostile"],
)
def test_what_is_no_event_of_a_job(
    event: bytes, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no event is one sentence and exit code 65; what is about no job is ignored in one line, with 0."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(event)))
    assert on_event.command.main([], standalone_mode=False) == code
    printed = capsys.readouterr()
    assert printed.out + printed.err == said


def test_a_locale_that_has_no_such_letters_is_no_matter(folder: Path) -> None:
    """Without a locale, a home or a time zone the line is written all the same, what it can't spell as an escape."""
    event = folder / "event.json"
    event.write_text('{"logName": "projekte/ü", "resource": {"type": "東京"}}', encoding="utf-8")
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(running.ROOT), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    ran = running.run(["sh", "-c", f"{running.python()} -m millrace on-event <{event}"], folder, env)
    assert (ran.code, ran.err) == (0, ""), ran
    assert ran.out == "ignored: an entry of 'projekte/\\xfc' about '\\u6771\\u4eac' tells of no Dataflow job\n"


def test_graphs_are_those_that_are_named_or_lie_in_their_folder(folder: Path) -> None:
    """The files of graphs/, of either ending, or those of the command line; what is no graph is named with its line."""
    assert {name: graph.document.path for name, graph in on_event._known([]).items()} == {
        "one": "graphs/one.yaml",
        "two": "graphs/two.yml",
    }
    assert [*on_event._known(["graphs/two.yml"])] == ["two"]
    (folder / "twin.yaml").write_text(GRAPH.format("two"))
    with pytest.raises(SettingError, match=r"^graphs/two.yml and twin.yaml are both called two; rename one$"):
        on_event._known(["graphs/two.yml", "twin.yaml"])
    with pytest.raises(SettingError, match=r"nowhere.toml can't be read: No such file or directory"):
        on_event._known(["nowhere.toml"])
    (folder / "broken.yaml").write_text("name: x\njobs: {a: {tempalte: 'gs://b/t'}}\n")
    with pytest.raises(SettingError, match=r"^broken.yaml has .*line 2: "):
        on_event._known(["broken.yaml"])


def test_a_misspelt_graph_is_said_whatever_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all events would be ignored, with exit code 0, until one comes that is of the graph."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"messageId": "1"}')))
    with pytest.raises(SettingError, match=r"nowhere.toml can't be read: No such file or directory"):
        on_event.command.main(["nowhere.toml"], standalone_mode=False)


def test_a_folder_without_graphs_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no graph at all, and none is named, the error says where one was looked for."""
    (empty := tmp_path / "empty").mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(SettingError, match=rf"^there is no graph in {empty}/graphs; name the file of one$"):
        on_event._known([])


def job(**labels: str) -> Job:
    """A job with labels, as Dataflow tells of one."""
    spelt = {f"millrace-{name}": value for name, value in labels.items()}
    none: Any = None
    return Job("2026-11-19_00_00_00-1", "a-job", "DONE", "", ("p", "r"), none, labels=spelt)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({}, r"job \S+ \(a-job\) is of no graph"),
        ({"graph": "", "date": "", "job": "a"}, r"job \S+ \(a-job\) is of no graph"),
        (
            {"graph": "three", "date": "2026-11-19"},
            "of the graph three, and there is none such in graphs/one.yaml, graphs/two",
        ),
        ({"graph": "../one", "date": "2026-11-19"}, "there is none such"),
        ({"graph": "one"}, "is of the graph one, and of no day: ''"),
        ({"graph": "one", "date": "2026-11-31"}, "and of no day: '2026-11-31'"),
        (
            {"graph": "one", "date": "2026-11-19", "job": "b"},
            "is not the last one that the ledger has for one of 2026-11-19",
        ),
        ({"graph": "one", "date": "2026-11-19", "job": "../a"}, "is not the last one that the ledger has"),
        ({"graph": "one", "date": "2026-11-19", "job": "a"}, "is not the last one that the ledger has"),
        ({"graph": "one", "date": "2026-11-19", "task": "etl"}, "is not the last one that the ledger has"),
    ],
)
def test_labels_that_lead_nowhere(labels: dict[str, str], why: str, folder: Path) -> None:
    """Labels of no graph, of an unknown one, of no day, of an unknown job, and right ones without an entry: ignored."""
    with pytest.raises(on_event.Ignored, match=why):
        on_event._of_graph(job(**labels), [])


@pytest.mark.parametrize(
    ("id", "request_id", "label", "made"),
    [
        ("2026-11-19_00_00_00-1", "other", "other", True),  # Beam gives a flex template's job a request of its own
        (None, "request", "", True),
        (None, "other", "request", True),
        (None, "other", "other", False),
        ("2026-11-19_00_00_00-2", "", "", False),
        (None, "", "", False),
    ],
)
def test_whose_a_job_is(id: str | None, request_id: str, label: str, made: bool) -> None:
    """A job is an attempt's by its id; while the ledger has none, by its request, which a template's has as a label."""
    entry = Entry("t", 1, "attempt-001", "a-job", "request", "running", "host", 1, "", job_id=id)
    asked = dataclasses.replace(job(request=label), request_id=request_id)
    assert on_event._made(asked, entry) is made
    assert not on_event._made(asked, None)


def test_a_run_of_several_days_labels_no_stage_s_job() -> None:
    """The jobs of a run's stages have the graph and the day in their labels, unless the run is of several of either."""
    first, second = (datetime.date(2026, 11, day) for day in (19, 20))
    with session.use(Session()):
        google = session.current().google
        told = {"millrace-graph": "one", "millrace-date": "2026-11-19"}
        for _ in range(2):
            JobGraph(spec="graphs/one.yaml", date=first).requires()
            assert google.labels == told
        for date in (second, first):
            JobGraph(spec="graphs/one.yaml", date=date).requires()
            assert google.labels == {"millrace-graph": "", "millrace-date": ""}


def test_help_tells_of_every_exit_code() -> None:
    """--help says what each exit code means."""
    told = running.run([running.ROOT / "bin/on-event", "--help"], running.ROOT)
    assert told.code == 0
    assert all(code in told.out for code in ("65", "75", "12", "13", "30"))
