"""Graphs of jobs as files say them: order, what stands in braces, and all that is wrong with a file, by its lines."""

import datetime
from pathlib import Path

import pytest

from millrace.core import drawing, graphs
from millrace.core.graphs import Graph
from millrace.errors import SettingError

DAY = datetime.date(2026, 3, 1)
NAMES = "a name is a small letter and small letters, digits, - and _, at most 40"


def read(folder: Path, text: str, name: str = "nightly.toml") -> Graph:
    (folder / name).write_text(text, encoding="utf-8")
    graph, mistakes = graphs.read(str(folder / name))
    mistakes.check()
    return graph


def mistakes(folder: Path, text: str, name: str = "nightly.toml") -> list[str]:
    """What is said to be wrong with a file, a mistake each."""
    with pytest.raises(SettingError) as raised:
        read(folder, text, name)
    head, _, said = str(raised.value).partition(": ")
    found = said.replace("; line ", "\nline ").split("\n")
    assert head == f"{folder}/{name} has " + (f"{len(found)} mistakes" if len(found) > 1 else "a mistake")
    return found


DIAMOND = """
description = "a diamond"

[common]
bucket = "b"
folder = "gs://{bucket}/{date}"
days = 7
exact = true

[environment]
max_workers = 4
labels = { team = "{bucket}" }

[jobs.join]
after = ["right", "left"]
task = "Join"
common = ["days"]
parameters = { of = ["{jobs.left.output}", "{jobs.top.output}"], exact = "{exact}" }

[jobs.left]
after = ["top"]
template = "gs://{bucket}/left"
environment = { max_workers = 1, numWorkers = "{days}" }
parameters = { output = "{folder}/left", week = "{date-7}", text = "{{date}} {date:%d.%m.%Y} }}{{" }

[jobs.right]
after = ["top"]
template = "gs://{bucket}/right"
region = "europe-west4"
version = "2"

[jobs.top]
template = "gs://{bucket}/top"
output = "{folder}/top/{run}"
"""
#: The same as YAML, its common text said once more by an alias.
DIAMOND_YAML = """
description: a diamond
common: {bucket: b, folder: "gs://{bucket}/{date}", days: 7, exact: true}
environment: {max_workers: 4, labels: {team: "{bucket}"}}
jobs:
  join:
    after: [right, left]
    task: Join
    common: [days]
    parameters: {of: ["{jobs.left.output}", "{jobs.top.output}"], exact: "{exact}"}
  left:
    after: &top [top]
    template: gs://{bucket}/left
    environment: {max_workers: 1, numWorkers: "{days}"}
    parameters: {output: "{folder}/left", week: "{date-7}", text: "{{date}} {date:%d.%m.%Y} }}{{"}
  right:
    after: *top
    template: gs://{bucket}/right
    region: europe-west4
    version: "2"
  top:
    template: gs://{bucket}/top
    output: "{folder}/top/{run}"
"""


@pytest.mark.parametrize(("text", "name"), [(DIAMOND, "nightly.toml"), (DIAMOND_YAML, "nightly.yaml")])
def test_a_graph_is_what_its_file_says(tmp_path: Path, text: str, name: str) -> None:
    """Jobs stand after those before them; a graph without a name is called after its file."""
    graph = read(tmp_path, text, name)
    assert (graph.name, graph.description) == ("nightly", "a diamond")
    assert list(graph.jobs) == ["top", "left", "right", "join"]
    assert [graph.before(name) for name in graph.jobs] == [[], ["top"], ["top"], ["top", "left", "right"]]
    assert [graph.after(name) for name in graph.jobs] == [["left", "right"], ["join"], ["join"], []]
    assert graph.ledger_name("left", DAY) == "GraphJob.nightly.left.date=2026-03-01"
    assert graphs.of_ledger("GraphJob.nightly.left.date=2026-03-01") == ("nightly", "left", DAY)
    assert graphs.of_ledger("GraphJob.left.date=2026-03-01") is None
    top, left, right, join = graph.jobs.values()
    assert (top.template, top.task, join.template, join.task) == ("gs://{bucket}/top", "", "", "Join")
    assert (right.region, right.version, list(join.after)) == ("europe-west4", "2", ["right", "left"])
    outputs = {"top": "gs://o/top", "left": "gs://o/left"}

    def filled(value: object) -> object:
        return graph.filled(value, DAY, outputs.__getitem__)

    assert filled(graphs.output_of(top)) == "gs://b/2026-03-01/top/nightly-2026-03-01"
    assert filled(graphs.output_of(left)) == "gs://b/2026-03-01/left"
    assert graphs.output_of(right) is None
    assert filled(left.parameters) == {
        "output": "gs://b/2026-03-01/left",
        "week": "2026-02-22",
        "text": "{date} 01.03.2026 }{",
    }
    assert filled(left.environment) == {"max_workers": 1, "numWorkers": "7", "labels": {"team": "b"}}
    assert filled(right.environment) == {"max_workers": 4, "labels": {"team": "b"}}
    assert filled(join.parameters) == {"days": "7", "of": ["gs://o/left", "gs://o/top"], "exact": "true"}
    assert (graphs.outputs_in(join.parameters), join.environment) == (["left", "top"], {})


def test_the_run_of_a_day_has_one_name_and_days_go_over_the_ends_of_years(tmp_path: Path) -> None:
    graph = read(tmp_path, '[jobs.a]\ntemplate = "{run} {date+1} {date-400:%Y/%j}"\n', "a-b_c.toml")
    new_year = datetime.date(2026, 12, 31)
    assert graph.filled(graph.jobs["a"].template, new_year, str) == "a-b_c-2026-12-31 2027-01-01 2025/330"


def test_all_that_is_wrong_is_said_at_once_by_its_lines(tmp_path: Path) -> None:
    """Whatever a graph may say, said wrongly."""
    text = """nme = "x"
[common]
run = 1
unused = "a"
b = "{jobs.a.output} {c}"
l = [1]
[jobs.a]
template = "gs://x/{b"
after = ["c", "nobody", "c"]
common = ["zz", "b"]
parameters = { x = [1], y = "{date-}", b = "" }
[jobs.b]
task = "Report"
template = "x"
[jobs.c]
after = ["a", "d"]
task = "Report"
parameters = { x = "{jobs.e.output}", y = "{jobs.f.output}" }
region = "x"
[jobs.d]
after = ["d", "e"]
task = "Report"
parameters = { of = "{jobs.e.output}" }
[jobs.E]
[jobs.e]
template = ""
output = 1
[jobs]
g = 1
"""
    assert mistakes(tmp_path, text) == [
        "line 1: a graph has no nme; did you mean name?",
        "line 3: no common parameter may be called run; letters, digits, - and _ make a name",
        "line 4: the common parameter unused is used by no job",
        "line 5: the common parameter b names the output of a job; say it with a job",
        "line 5: {c} is none of {date}, {date-1}, {run}, {unused}",
        "line 6: the common parameter l is one text, number, true, false or time, not a list",
        "line 8: a brace is alone in 'gs://x/{b'; write {{ or }} for one that stands for itself",
        "line 9: c is there twice in after",
        "line 9: jobs come after each other in a circle: a after c after a (lines 9, 16)",
        "line 9: nobody is no job; there are a, b, c, d, E, e",
        "line 10: the job a has the parameter b itself, in line 11, and takes the common one besides",
        "line 10: zz is no common parameter; there are run, unused, b, l",
        "line 11: the parameter x is one text, number, true, false or time, not a list",
        "line 11: {date-} is none of {date}, {date-1}, {run}, {unused}, {b}, {jobs.NAME.output}",
        "line 12: the job b has both a template and a task; it is one of them",
        "line 18: {jobs.f.output}: f is no job; there are b, E, e, a, c, d",
        "line 19: region is for templates, and the job c is the task Report",
        "line 21: jobs come after each other in a circle: d after d (line 21)",
        "line 24: no job may be called E; a name is a small letter and small letters, digits, - and _, at most 40",
        "line 24: the job E has neither a template nor a task; it is one of them",
        "line 26: template is empty",
        "line 27: output is a text, not 1",
        "line 29: the job g is a table, not 1",
    ]


def test_outputs_are_those_of_jobs_before_that_say_one_and_values_are_there(tmp_path: Path) -> None:
    """A job beside another one does not know its output, however the file is ordered."""
    text = f"""
environment: {{max_workers: 1}}
jobs:
  a:
    task: A
    parameters: {{x: "{{jobs.b.output}}", y: }}
  b:
    task: B
  {"c" * 41}:
    task: C
"""
    assert mistakes(tmp_path, text, "g.yaml") == [
        "line 2: the environment is that of templates, and there is no template",
        "line 6: the parameter y is one text, number, true, false or time, not nothing",
        "line 6: {jobs.b.output}: a does not come after b; say so with after",
        f"line 9: no job may be called {'c' * 41}; {NAMES}",
    ]
    text = """
[jobs.a]
template = "gs://a"
[jobs.b]
after = ["a"]
template = "gs://b{jobs.a.output}"
"""
    said = "line 6: {jobs.a.output}: a (line 2) says no output, by `output` or as a parameter"
    assert mistakes(tmp_path, text) == [said]


def test_a_flowchart_has_any_text_as_it_is(tmp_path: Path) -> None:
    """What means something to Mermaid is written by its code; a job called end is none of Mermaid's own words."""
    graph = read(tmp_path, "[jobs.end]\ntemplate = 'gs://b/t/a\"<b>&c'\n")
    assert drawing.mermaid(graph) == 'flowchart TD\n    job1["end<br/>a#quot;#lt;b#gt;#amp;c"]'
