"""bin/clear: what it takes, what it leaves, what it says of it, and when it asks. In this process, on real storages."""

import io
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import running
from running import DAY, Ran

from millrace.core.ledger import Claim
from millrace.core.storage import LocalStorage
from millrace.ops import clear

Clear = Callable[..., Ran]
BEFORE = "2026-10-31"

#: The task of docs/engine.md, and one that fills nothing that bin/clear knows.
OWN_TASKS = """
import datetime
import luigi
from millrace.common.tables import Table
from workflows import Aggregate
from millrace import BigQueryTarget, GCSTarget

LONG_WORDS = Table({"word": "STRING", "date": "DATE"})

class OwnWords(luigi.Task):
    date = luigi.DateParameter()

    def requires(self):
        return Aggregate(date=self.date, days=1)

    def output(self):
        return BigQueryTarget("own_words", self.date)

    def run(self):
        sql = "SELECT word, date FROM word_counts WHERE date = @date AND LENGTH(word) > 10"
        self.output().write(BigQueryTarget("word_counts", self.date).query(sql), LONG_WORDS)

class OwnFile(luigi.Task):
    def output(self):
        return GCSTarget("exports/words.csv")

class OwnFlags(luigi.Task):
    # Parameters that have the names of this command's flags, and of a setting.
    module = luigi.Parameter()
    yes = luigi.Parameter()
    detach = luigi.Parameter()

for _ in range(2):
    class OwnTwin(luigi.Task):
        task_namespace = "twin"

class OwnTopic(OwnWords):
    topic = luigi.Parameter()

    def output(self):
        return BigQueryTarget(f"own_{self.topic}", self.date)
"""


@pytest.fixture
def storage(tmp_path: Path, undisturbed: Path) -> Path:
    """A storage like the undisturbed run's: two days, and the window of the second."""
    return Path(shutil.copytree(undisturbed, tmp_path / "data"))


@pytest.fixture
def call(storage: Path, capsys: pytest.CaptureFixture[str]) -> Clear:
    """Calls bin/clear over that storage."""

    def call(*arguments: object) -> Ran:
        code = clear.main([*map(str, arguments), "--millrace-storage", str(storage)])
        return Ran(code, *capsys.readouterr())

    return call


def shown(ran: Ran, storage: Path) -> set[str]:
    """The partitions that are said to go."""
    return {line.removeprefix(f"{storage}/") for line in ran.out.splitlines() if line.startswith(f"{storage}/")}


def test_more_than_a_day_is_not_deleted_unasked(call: Clear, storage: Path) -> None:
    """Without a person to ask and without --yes more than one day's results stay, all of them; one sentence says so."""
    there = running.files(storage)
    ran = call("Fetch")
    assert ran.code == 1
    assert re.search(
        r"^error: \d+ partitions of 2 days, 2026-10-31 to 2026-11-01 .*: nothing was deleted; say --yes", ran.err, re.M
    )
    assert running.files(storage) == there
    assert call("Fetch", "--dry-run").code == 0
    assert running.files(storage) == there
    assert call("Fetch", "--yes").code == 0
    assert running.complete(storage) == []


class _Terminal(io.StringIO):
    """A person's answers."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "goes"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_person_is_asked(
    answer: str, goes: bool, call: Clear, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal the question says how much goes; only a yes is one, the end of the input is none."""
    there = running.files(storage)
    monkeypatch.setattr(sys, "stdin", _Terminal(answer))
    ran = call("Fetch")
    assert f"2 days, 2026-10-31 to 2026-11-01 in {storage}: delete them? [y/N] " in ran.err
    assert (ran.code == 0) is goes
    assert (running.files(storage) == there) is not goes


def test_one_day_s_results_are_not_asked_for(call: Clear, storage: Path) -> None:
    """What is one day's goes unasked, and no day but that."""
    before = set(running.complete(storage))
    ran = call("Count", "--from", DAY, "--to", DAY)
    assert ran.code == 0, ran
    assert {partition.partition("date=")[2] for partition in shown(ran, storage)} == {str(DAY)}
    assert set(running.complete(storage)) == before - shown(ran, storage)


def test_what_can_t_be_had_again_is_said(call: Clear) -> None:
    """Windows that a day is part of go too, and records that only the source has are lost with it: both are said."""
    ran = call("Fetch", "--to", BEFORE, "--dry-run")
    further, outside = re.findall(r"^note: (.*)$", ran.err, re.M)
    assert further.startswith("with that goes what was made from it: ")
    assert "reports of 2 days, 2026-10-31 to 2026-11-01" in further
    assert re.fullmatch(r"this can't be had again where the source .* has it no more: raw of 2026-10-31", outside)
    assert "can't be had again" not in call("Count", "--dry-run").err


def test_what_was_made_goes_first(call: Clear, storage: Path) -> None:
    """Nothing goes before what was made from it: a clear that dies half-way leaves no result without its inputs."""
    lines = call("Fetch", "--dry-run").out.splitlines()[:-1]
    order = [Path(line).relative_to(storage).parts[0] for line in lines]
    chain = ["reports", "word_counts", "counts", "posts", "raw"]
    assert [name for name in dict.fromkeys(order) if name in chain] == chain


def test_what_has_no_day_is_more_than_a_day_s(call: Clear, storage: Path) -> None:
    """An archive's split holds many days: it is not deleted unasked, and never by days, of which it has none."""
    (raw,) = [partition for partition in running.complete(storage) if re.match(f"raw/.*{DAY}", partition)]
    archive = storage / "archives/source=x/version=1"
    shutil.copytree(storage / raw, archive)
    assert call("SplitArchive", "--to", DAY).out == "0 partitions gone\n"
    refused = call("SplitArchive")
    assert refused.code == 1
    assert "nothing was deleted" in refused.err
    assert archive.exists()
    assert call("SplitArchive", "--yes").out.endswith("\n1 partition gone\n")
    assert not archive.exists()


def test_days_outside_are_left_alone(call: Clear, storage: Path) -> None:
    """--from and --to leave the days outside alone."""
    there = running.files(storage)
    ran = call("Fetch", "Etl", "--from", "2026-12-01", "--to", "2026-12-31")
    assert (ran.code, ran.out, ran.err) == (0, "0 partitions gone\n", "")
    assert running.files(storage) == there


def test_one_source_of_several_goes_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --source only that source's records go, although all sources' are of one task."""
    storage = tmp_path / "data"
    sources: list[str] = []
    for name in ("one", "other"):
        post = {"id": len(sources), "created_at": f"{DAY}T01:00:00Z", "text": f"snow on the {name}"}
        running.write_posts(tmp_path / f"{name} {DAY}.jsonl", [post])
        sources.append(f"{tmp_path}/{name} {{date:%Y-%m-%d}}.jsonl")
    quoted = " ".join(f"'{source}'" for source in sources)
    running.succeed("Etl", "--date", DAY, "--posts-source", quoted, storage=storage)
    raw = {partition for partition in running.complete(storage) if partition.startswith("raw/")}
    assert len(raw) == 2
    assert clear.main(["Fetch", "--source", sources[0], "--millrace-storage", str(storage)]) == 0
    left = running.complete(storage)
    assert len(left) == 1
    assert re.match("raw/source=.*other", left[0])
    assert clear.main(["Fetch", "--days", "7", "--millrace-storage", str(storage)]) == 1
    assert "error: --days is no parameter of Fetch\n" in capsys.readouterr().err


def test_a_partition_can_be_named(call: Clear, storage: Path) -> None:
    """A partition's path, as messages and the command itself show it, names it; its stage's others go with it."""
    ran = call(f"{storage}/posts_rejected/date={DAY}", "--dry-run")
    assert {f"posts/date={DAY}", f"posts_rejected/date={DAY}", f"reports/date={DAY}"} <= shown(ran, storage)
    assert not [partition for partition in shown(ran, storage) if not partition.endswith(str(DAY))]
    assert shown(call(f"reports/date={DAY}/", "--dry-run"), storage) == {f"reports/date={DAY}"}
    none = call("reports/date=2020-01-01")
    assert (none.code, none.err) == (1, f"error: there is no partition reports/date=2020-01-01 in {storage}\n")


def test_links_to_pages_that_are_gone_go_too(call: Clear, storage: Path) -> None:
    """The page that lists all days leads to no page that bin/clear has deleted, also where a clear was cut off."""
    index = storage / "reports/index.html"
    link = f"date={DAY}/index.html"
    assert link in index.read_text(encoding="utf-8")
    assert call("Report", "--dry-run").code == 0
    assert link in index.read_text(encoding="utf-8")
    shutil.rmtree(storage / f"reports/date={DAY}")
    assert call("Report").out == "0 partitions gone\n"
    assert link not in index.read_text(encoding="utf-8")


@pytest.fixture
def own_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of tasks of one's own."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/own_tasks.py").write_text(OWN_TASKS)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    return "own_tasks"


def test_tasks_of_one_s_own(own_tasks: str, call: Clear, storage: Path, tmp_path: Path) -> None:
    """Plain luigi tasks of another module are known by --module: by their name, and as what is made from a stage's."""
    env = running.environment()
    env["PYTHONPATH"] += f":{tmp_path}/modules"
    command = running.command("OwnWords", "--date", DAY, "--millrace-storage", storage, module=own_tasks)
    assert (made := running.run(command, tmp_path, env)).code == 0, made
    mine = f"own_words/date={DAY}"
    assert mine in running.complete(storage)
    assert mine not in shown(call("Aggregate", "--dry-run"), storage)
    ran = call("Aggregate", "--module", own_tasks, "--dry-run")
    assert {mine, f"word_counts/date={DAY}", f"reports/date={DAY}"} <= shown(ran, storage)
    assert f"only the tasks of your own that wrote it can make this again: own_words of {DAY}\n" in ran.err
    for arguments, said in {
        ("OwnFile",): "OwnFile fills no table or dataset",
        ("OwnTopic",): "OwnTopic has a parameter without a value; say --topic",
        ("Ownwords",): "there is no task Ownwords; did you mean OwnWords?",
        ("OwnWords", "--topic", "x"): "--topic is no parameter of OwnWords",
    }.items():
        refused = call(*arguments, "--module", own_tasks)
        assert refused.code == 1
        assert refused.err.startswith(f"error: {said}"), refused
    assert shown(call("OwnTopic", "--topic", "words", "--module", own_tasks, "--dry-run"), storage) == {mine}
    ran = call("OwnWords", "--module", own_tasks)
    assert (ran.code, shown(ran, storage)) == (0, {mine})
    assert not (storage / mine).exists()


def test_failures_are_told_of_as_long_as_they_count(call: Clear, storage: Path) -> None:
    """What keeps no job from being submitted, or is forgotten already, is no failure that could be forgotten."""
    for day, counts in (("2026-11-01", True), ("2026-11-02", False)):
        claim = Claim(LocalStorage(str(storage)), f"Count_counts.date={day}")
        claim.begin("millrace-count")
        claim.close("no CPUs are left", counts=counts)
    ran = call("Count", "--yes")
    assert "\nfailures of Count_counts.date=2026-11-01\n" in ran.out, ran
    assert "failures of Count_counts.date=2026-11-02" not in ran.out, ran
    assert "failures" not in call("Count", "--yes").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Raport"], "there is no task Raport; did you mean Report? There are "),
        (["Report", "--module", "nowhere"], "there is no module nowhere (--module) where Python looks"),
        (["Report", "--from", "yesterday"], "--from = 'yesterday': allowed is a day as YYYY-MM-DD"),
        (["Report", "--from", "2026-11-02", "--to", "2026-11-01"], "--from = 2026-11-02 is after --to = 2026-11-01"),
        (["Report", "--days", "many"], "Report.days = 'many', from the flag --days: allowed is a whole number"),
        (["Approval", "--name", "look"], "Approval is a gate, which fills no table or dataset; "),
        (["JobGraph", "--spec", "graphs/nightly.toml"], "JobGraph fills no table or dataset; "),
        (["GraphJob", "--spec", "nowhere.toml"], f"{Path('nowhere.toml').absolute()} can't be read: No such file"),
        (["GraphJob", "--name", "clean"], "GraphJob --name clean is a job of a graph; name the graph's file too, by "),
        (
            ["GraphJob", "--spec", "graphs/nightly.toml", "--name", "clena"],
            "graphs/nightly.toml has no job clena; did ",
        ),
        (
            ["GraphJob", "--spec", "graphs/archive.toml", "--name", "words"],
            "words of graphs/archive.toml is no template but the task WordCount, which is cleared by that name",
        ),
        (["Report", "--millrace-runner", "Spork"], "millrace.runner = 'Spork', from the flag --millrace-runner"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str], said: str, call: Clear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name, day or setting that is none is one sentence, with the nearest task, and nothing goes."""
    monkeypatch.setattr(sys, "argv", ["clear", *arguments])
    ran = call(*arguments)
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith(f"error: {said}"), ran.err
    assert ran.err.count("\n") == 1
