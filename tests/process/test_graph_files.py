"""Graphs of jobs as luigi's command runs them from a file: drawn, refused, and run with plain tasks and no cloud."""

import datetime
import re
import shlex
from pathlib import Path

import pytest
import running
from luigid_asking import listed
from running import Ran

DAY = datetime.date(2026, 11, 19)
DIAMOND = """
[common]
folder = "FOLDER/out"
more = "{date-1}"

[jobs.join]
after = ["left", "right"]
task = "Write"
common = ["folder"]
parameters = { date = "{date}", name = "join", text = "{jobs.left.output} {jobs.right.output}" }

[jobs.left]
after = ["top"]
task = "Needs"
common = ["folder"]
parameters = { date = "{date}", name = "left", text = "{{{jobs.top.output}}} {run}" }

[jobs.right]
after = ["top"]
task = "Write"
common = ["folder"]
output = "{folder}/mine"
parameters = { date = "{date}", name = "right", text = "{more}" }

[jobs.top]
task = "Write"
common = ["folder"]
parameters = { date = "{date}", name = "top" }
"""


def graph(tmp_path: Path, text: str, *flags: object, name: str = "diamond.toml", **env: str) -> Ran:
    """Runs the graph of a file, with the tasks of graph_tasks."""
    if text:
        (tmp_path / name).write_text(text.replace("FOLDER", str(tmp_path)), encoding="utf-8")
    environment = {**running.environment(), **env}
    for gone in [each for each, value in env.items() if not value]:
        del environment[gone]
    command = running.command("JobGraph", "--spec", name, "--millrace-storage", tmp_path / "data", *flags)
    command[2] = "graph_tasks"
    return running.run(command, tmp_path, environment)


def written(tmp_path: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (tmp_path / "out" / str(DAY)).glob("*") if path.is_file()}


def test_graph_of_tasks_runs_in_order_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The right arm fails: the left one completes, with what it requires, and the join waits for the next run."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "right.fails").touch()
    ran = graph(tmp_path, DIAMOND, "--date", DAY, "--workers", 2)
    assert ran.code == 30, ran
    out = f"{tmp_path}/out/{DAY}"
    left = {"top": "", "left-before": "", "left": f"{{{out}/top}} diamond-{DAY}"}
    assert written(tmp_path) == left
    (tmp_path / "out" / "right.fails").unlink()
    ran = graph(tmp_path, "", "--date", DAY)
    assert ran.code == 0, ran
    join = f"{out}/left {tmp_path}/out/mine"
    assert written(tmp_path) == {**left, "right": str(DAY - datetime.timedelta(days=1)), "join": join}
    assert "GraphTask diamond.join 2026-11-19" in ran.out + ran.err
    assert len(re.findall("ran successfully", str(ran))) == 1
    again = graph(tmp_path, "", "--date", DAY)
    assert again.code == 0, again
    assert "1 complete ones were encountered" in str(again)


def test_luigid_shows_each_job_by_its_name(tmp_path: Path, server: int) -> None:
    """With its state, below its graph: what failed, what waits for that, what is done; the next run heals all of it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "right.fails").touch()
    flags = ("--date", DAY, "--scheduler-host", "127.0.0.1", "--scheduler-port", server)
    ran = graph(tmp_path, DIAMOND, *flags)
    assert ran.code == 30, ran

    def names(status: str) -> set[str]:
        return {task["name"] for task in listed(server, status).values()}

    assert names("DONE") == {"diamond.top", "diamond.left", "Needs", "Write"}
    assert (names("FAILED"), names("PENDING")) == ({"Write"}, {"diamond.right", "diamond.join", "JobGraph"})
    (tmp_path / "out" / "right.fails").unlink()
    ran = graph(tmp_path, "", *flags)
    assert ran.code == 0, ran
    assert (names("FAILED"), names("PENDING")) == (set(), set())


def test_days_of_a_graph_are_made_by_rangedaily(tmp_path: Path) -> None:
    """JobGraph is a task of a day: its first parameter is the day."""
    graph(tmp_path, DIAMOND, "--date", DAY, "--dry-run")
    of = f'{{"spec": "{tmp_path}/diamond.toml"}}'
    flags = ("--of", "JobGraph", "--of-params", of, "--start", DAY, "--stop", DAY + datetime.timedelta(days=2))
    command = running.command("RangeDaily", *flags, "--millrace-storage", tmp_path / "data", module="graph_tasks")
    ran = running.run(command, tmp_path)
    assert ran.code == 0, ran
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["2026-11-19", "2026-11-20"]
    assert (tmp_path / "out" / "2026-11-20" / "right").read_text() == "2026-11-19"


TREE = """\
diamond 2026-11-19, 4 jobs
└─ top: task Write
   │    folder = FOLDER/out
   │    date = 2026-11-19
   │    name = top
   ├─ left: task Needs
   │  │    folder = FOLDER/out
   │  │    date = 2026-11-19
   │  │    name = left
   │  │    text = {{jobs.top.output}} diamond-2026-11-19
   │  └─ join, which comes after more: see below
   └─ right: task Write
      │    folder = FOLDER/out
      │    date = 2026-11-19
      │    name = right
      │    text = 2026-11-18
      └─ join (after left, right): task Write
              folder = FOLDER/out
              date = 2026-11-19
              name = join
              text = {jobs.left.output} FOLDER/out/mine
"""
FLOW = """\
flowchart TD
    job1(["top<br/>Write"])
    job2(["left<br/>Needs"])
    job3(["right<br/>Write"])
    job4(["join<br/>Write"])
    job1 --> job2
    job1 --> job3
    job2 --> job4
    job3 --> job4
"""


@pytest.mark.parametrize(("how", "drawn"), [((), TREE), (("mermaid",), FLOW)])
def test_dry_run_draws_and_does_nothing(tmp_path: Path, how: tuple[str, ...], drawn: str) -> None:
    """On standard output alone, with neither an account nor a home; what only a run can know stays in its braces."""
    ran = graph(
        tmp_path, DIAMOND, "--date", DAY, "--dry-run", *how, HOME="", LANG="C", GOOGLE_APPLICATION_CREDENTIALS="/none"
    )
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == drawn.replace("FOLDER", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["diamond.toml"]


def test_drawing_that_nobody_reads_to_its_end_is_no_error(tmp_path: Path) -> None:
    """As behind `| head`: no traceback, and 0; where a terminal has no such signs, others stand for them."""
    (tmp_path / "wide.toml").write_text("".join(f'[jobs.j{n}]\ntask = "Pair"\n' for n in range(3000)), encoding="utf-8")
    line = shlex.join([*running.command("JobGraph", "--spec", "wide.toml", "--dry-run", module="graph_tasks")])
    env = running.environment(PYTHONIOENCODING="latin-1")
    ran = running.run(["bash", "-o", "pipefail", "-c", f"{line} | head -n 2"], tmp_path, env)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1] == "?? j0: task Pair"


def test_all_that_is_wrong_with_a_file_is_said_before_anything_runs(tmp_path: Path) -> None:
    """Of tasks too: names and values of parameters, and those that are missing; the exit code is that of scheduling."""
    wrong = """
[jobs.first]
task = "Write"
parameters = { folder = "FOLDER/out", name = "first", date = "{date}" }

[jobs.a]
task = "Writ"

[jobs.b]
task = "Write"
parameters = { folder = "x", nmae = "y", date = "{date-1}" }

[jobs.c]
task = "Values"
parameters.whole = "{date}"
parameters.share = 1
parameters.flag = true
parameters.many = [1, "{date}"]
parameters.table = { a = "{run}" }
parameters.colour = "BLUE"
parameters.moment = "now"
parameters.file = "f"

[jobs.d]
task = "Numbers"
after = ["first"]

[jobs.e]
task = "Numbers"
parameters = { date = "tomorrow" }

[jobs.f]
task = "JobGraph"
parameters = { spec = "diamond.toml" }

[jobs.g]
task = "Approval"
parameters = { name = "g" }
"""
    ran = graph(tmp_path, wrong, "--date", DAY)
    assert ran.code == 35, ran
    [error] = ran.errors
    head, _, said = error.partition(" has 10 mistakes: ")
    assert head.endswith("diamond.toml")
    assert said.replace("; line ", "\nline ").splitlines() == [
        "line 7: there is no task Writ for a graph; did you mean Write?",
        "line 10: Write needs the parameter name, which the job b does not say",
        "line 11: Write has no parameter nmae; did you mean name?",
        "line 15: whole = '2026-11-19' is none for Values: invalid literal for int() with base 10: '2026-11-19'",
        "line 20: colour = 'BLUE' is none for Values: Invalid enum value - could not be parsed",
        "line 21: moment = 'now' is none for Values: time data 'now' does not match format '%Y-%m-%dT%H%M'",
        "line 25: Numbers needs the parameter date, which the job d does not say",
        "line 30: date = 'tomorrow' is none for Numbers: allowed is a day as YYYY-MM-DD",
        "line 33: there is no task JobGraph for a graph; there are Needs, Numbers, Pair, Plus, Values, Write",
        "line 37: Approval needs the parameter date, which the job g does not say",
    ]
    assert not (tmp_path / "out").exists()
    assert graph(tmp_path, "", "--date", DAY, "--dry-run").errors == ran.errors


def test_values_reach_a_task_as_those_of_a_command_line_do(tmp_path: Path) -> None:
    """Numbers, true, lists and tables, in YAML as in TOML, filled in wherever a text stands."""
    text = """
common: {n: 7, yes_: true}
jobs:
  only:
    task: Values
    parameters:
      whole: "{n}"
      share: 1.5
      flag: "{yes_}"
      many: [1, "{date}", {a: "}}"}]
      table: {a: "{run}"}
      colour: RED
      moment: "{date}T1230"
      file: FOLDER/values
"""
    ran = graph(tmp_path, text, "--date", DAY, name="values.yml")
    assert ran.code == 0, ran
    found = (tmp_path / "values").read_text()
    assert found == (
        "[7, 1.5, True, (1, '2026-11-19', {'a': '}'}), {'a': 'values-2026-11-19'}, "
        "<Colour.RED: 1>, datetime.datetime(2026, 11, 19, 12, 30)]"
    )


@pytest.mark.parametrize(
    ("task", "parameters", "said"),
    [
        ("Numbers", 'date = "{date}"', "FOLDER/data/numbers/date=2026-11-19/attempt-001-"),
        ("Pair", "", "diamond.toml, line 1: a is Pair(), which does not make one file; say its output: output = …"),
    ],
)
def test_output_of_a_task_is_that_of_its_finished_attempt_or_its_one_file(
    tmp_path: Path, task: str, parameters: str, said: str
) -> None:
    """Of a task that makes several files the graph has to say it."""
    text = f"""[jobs.a]
task = "{task}"
parameters = {{ {parameters} }}
[jobs.b]
after = ["a"]
task = "Write"
parameters = {{ folder = "FOLDER/out", name = "b", text = "{{jobs.a.output}}", date = "{{date}}" }}
"""
    for name in ("one", "two"):
        (tmp_path / name).touch()
    ran = graph(tmp_path, text, "--date", DAY)
    if task == "Numbers":
        assert ran.code == 0, ran
        assert written(tmp_path)["b"].startswith(said.replace("FOLDER", str(tmp_path)))
    else:
        assert ran.code == 35, ran
        assert ran.errors == [f"ERROR: {said}"]


def test_values_of_flows_and_gates_stand_in_a_graph_as_any_task_does(tmp_path: Path) -> None:
    """What comes after a gate waits for a person, without a process; the rest goes on; a flow hands on its value."""
    text = """
[jobs.one]
task = "Plus"
parameters = { number = 1 }
[jobs.two]
after = ["one"]
task = "Plus"
parameters = { number = "{jobs.one.output}" }
[jobs.gate]
after = ["one"]
task = "Approval"
parameters = { name = "publish", date = "{date}" }
[jobs.told]
after = ["gate", "two"]
task = "Write"
parameters = { folder = "FOLDER/out", name = "told", text = "{jobs.two.output}", date = "{date}" }
"""
    for _ in range(2):
        ran = graph(tmp_path, text, "--date", DAY)
        assert ran.code == 13, ran
        assert "GraphTask diamond.told 2026-11-19" in str(ran)
    by = [running.python(), "-m", "millrace", "approve", "publish", "--date", DAY, "--by", "me@example.org"]
    approved = running.run([*by, "--millrace-storage", tmp_path / "data"], tmp_path)
    assert approved.code == 0, approved
    ran = graph(tmp_path, "", "--date", DAY)
    assert ran.code == 0, ran
    assert written(tmp_path) == {"told": "3"}
