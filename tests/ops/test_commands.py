"""bin/query, bin/clear and bin/run, and cron calling bin/run, each as a real process in a project's root of its own."""

import csv
import datetime
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
import running
from running import Ran


def call(project: Path, name: str, *arguments: object, **env: str) -> Ran:
    """A command of a project, called from elsewhere; it has to find its own folder and settings."""
    return running.run([project / "bin" / name, *arguments], Path("/"), bare(project) | env)


def bare(project: Path) -> dict[str, str]:
    """An environment that names no settings; the packages are the project's own, as an installation has them."""
    env = running.environment(PYTHONPATH=str(project))
    del env["LUIGI_CONFIG_PATH"]
    return env


@pytest.fixture
def filled(project: Path, undisturbed: Path) -> Path:
    """A project whose storage is like the undisturbed run's."""
    shutil.copytree(undisturbed, project / "data")
    return project


def today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


# ------------------------------------------------------------------------------------------------------------ query

SQL = f"SELECT w1, w2, count FROM word_cooccur WHERE date = DATE '{running.DAY}' ORDER BY count DESC, w1, w2 LIMIT 3"


def test_query_formats_hold_the_same_rows(filled: Path) -> None:
    """--format csv, json and table show the same rows, those of the warehouse."""
    expected = running.select(filled / "data", SQL)
    as_json = call(filled, "query", SQL, "--format", "json")
    assert [json.loads(line) for line in as_json.out.splitlines()] == expected
    as_csv = call(filled, "query", SQL, "--format", "csv")
    assert list(csv.DictReader(as_csv.out.splitlines())) == [{k: str(v) for k, v in row.items()} for row in expected]
    as_table = call(filled, "query", SQL)
    lines = [line.split() for line in as_table.out.splitlines()]
    assert lines == [["w1", "w2", "count"], *([str(v) for v in row.values()] for row in expected)]
    assert (as_json.code, as_csv.code, as_table.code) == (0, 0, 0)
    assert as_json.err + as_csv.err + as_table.err == ""


def test_query_speaks_bigquerys_dialect(filled: Path) -> None:
    """Functions, types and quotes of BigQuery work: COUNTIF, SAFE_DIVIDE, backticks, TIMESTAMP literals."""
    sql = f"""
        WITH day AS (SELECT * FROM `posts` WHERE date = DATE '{running.DAY}')
        SELECT COUNTIF(lang = 'en') AS en, SAFE_DIVIDE(1, 0) AS nothing, COUNT(*) AS n,
               COUNTIF(created_at >= TIMESTAMP '{running.DAY} 12:00:00+00:00') AS afternoon,
               DATE_TRUNC(MAX(date), MONTH) AS month, CAST(COUNT(*) AS STRING) AS text
        FROM day
    """
    ran = call(filled, "query", sql, "--format", "json")
    assert ran.code == 0, ran
    (row,) = map(json.loads, ran.out.splitlines())
    assert row["nothing"] is None
    assert 0 < row["en"] < row["n"]
    assert 0 < row["afternoon"] < row["n"]
    assert row["month"].startswith("2026-11-01")
    assert row["text"] == str(row["n"])


def test_query_without_sql_lists_the_tables(filled: Path) -> None:
    """bin/query alone lists the tables."""
    ran = call(filled, "query")
    assert ran.code == 0
    assert {*running.KEYS, "posts", "posts_rejected"} <= set(ran.out.split())


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT", "not a query|can't be run"),
        ("SELEKT 1", "not a query|a query is one SELECT"),
        ("SELECT * FROM nowhere", "there is no table nowhere; there are: .*word_counts"),
        ("SELECT nothing FROM posts", "can't be run: .*nothing"),
        ("SELECT 1; SELECT 2", "a query is one SELECT"),
        ("DROP TABLE posts", "a query is one SELECT"),
        ("DELETE FROM posts WHERE true", "a query is one SELECT"),
        ("SELECT * FROM read_text('/etc/passwd')", "can't be run: .*"),
        ("SELECT * FROM `/etc/passwd`", "no table|can't be run"),
        ("", "a query is one SELECT"),
    ],
)
def test_query_that_is_none_is_one_sentence(sql: str, said: str, filled: Path) -> None:
    """What is no query of the tables is one sentence, exit code 1, and nothing is read but the tables."""
    ran = call(filled, "query", sql)
    assert ran.code == 1, ran
    assert ran.out == ""
    assert re.fullmatch(rf"error: .*({said}).*\n", ran.err), ran.err


def test_query_before_any_run_is_one_sentence(project: Path) -> None:
    """Where no run has been yet, there are no tables, and that is what is said."""
    ran = call(project, "query", "SELECT * FROM posts")
    assert (ran.code, ran.err) == (1, "error: there is no table posts; there are: none yet\n")


@pytest.mark.parametrize("command", ["query", "clear", "doctor"])
def test_settings_that_can_t_be_read_are_one_sentence(command: str, project: Path) -> None:
    """A luigi.cfg that is none stops luigi's import, before anything of ours: still no traceback."""
    (project / "luigi.cfg").write_text("[millrace\nstorage = data\n")
    ran = call(project, command, *(["Report"] if command == "clear" else []))
    assert ran.code == 1
    assert ran.err.startswith("error: luigi.cfg can't be read: ")
    assert ran.err.count("\n") == 1


def test_query_whose_reader_goes_is_no_error(filled: Path) -> None:
    """bin/query … | head -1 says nothing of a broken pipe."""
    sql = "SELECT a.text, b.text AS other FROM posts AS a, (SELECT * FROM posts LIMIT 20) AS b"
    piped = f"'{filled}/bin/query' '{sql}' --format csv | head -1"
    ran = running.run(["sh", "-c", piped], filled, bare(filled))
    assert ran.err == ""
    assert ran.out == "text,other\n"


# ------------------------------------------------------------------------------------------------------------ clear


def gone(ran: Ran, storage: Path) -> set[str]:
    """The partitions that bin/clear says are, or would be, gone."""
    assert ran.code == 0, ran
    return {line.removeprefix(f"{storage}/") for line in ran.out.splitlines()[:-1]}


def test_clear_takes_what_was_made_from_it(filled: Path) -> None:
    """Clearing a day's Etl takes what was made from it, too; --dry-run says the same and touches nothing."""
    storage, day = filled / "data", "date=2026-10-31"
    there = running.files(storage)
    would = gone(call(filled, "clear", "Etl", "--to", "2026-10-31", "--dry-run"), storage)
    assert running.files(storage) == there
    window = {f"{table}/date={running.DAY}" for table in running.KEYS}
    expected = {f"posts/{day}", f"posts_rejected/{day}", f"counts/{day}", f"reports/date={running.DAY}", *window}
    assert would == expected
    before = set(running.complete(storage))
    assert gone(call(filled, "clear", "Etl", "--to", "2026-10-31", "--yes"), storage) == expected
    assert set(running.complete(storage)) == before - expected
    assert not [name for name in expected if (storage / name).exists()]


def test_run_after_clear_gives_the_same_tables(filled: Path, undisturbed: Path) -> None:
    """After clearing, the next run makes what is gone, and no more, and the tables are the same."""
    storage = filled / "data"
    call(filled, "clear", "Count", "--from", "2026-11-01")
    ran = call(filled, "run", "Report", "--date", running.DAY)
    assert ran.code == 0, ran
    said = (filled / "logs" / f"{today()}.log").read_text(encoding="utf-8").split("Luigi Execution Summary")[0]
    assert f"Count {running.DAY}" in said
    assert "Count 2026-10-31" not in said
    assert running.tables(storage) == running.tables(undisturbed)
    assert running.leftovers(storage) == []


# -------------------------------------------------------------------------------------------------------------- run


class _Slow(BaseHTTPRequestHandler):
    """A web server that answers only when it may."""

    asked = Event()
    may_answer = Event()
    body = b""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        _Slow.asked.set()
        _Slow.may_answer.wait(120)
        self.send_response(200)
        self.send_header("Content-Length", str(len(_Slow.body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(_Slow.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def slow() -> Iterator[str]:
    """The address of a source that answers only when it may."""
    _Slow.asked.clear()
    _Slow.may_answer.clear()
    _Slow.body = json.dumps({"id": 1, "created_at": f"{running.DAY}T01:00:00Z", "text": "snow on the pier"}).encode()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Slow) as web:
        Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_address[1]}/all.jsonl"
        _Slow.may_answer.set()
        web.shutdown()


def test_one_run_of_a_task_at_a_time(slow: str, project: Path) -> None:
    """While one bin/run works another of the same task ends with 10 and says so; the first ends with 0."""
    arguments = [str(project / "bin/run"), "Report", "--posts-source", slow, "--date", str(running.DAY)]
    first = subprocess.Popen(arguments, cwd="/", env=bare(project), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert _Slow.asked.wait(60)
        second = call(project, *["run", *arguments[1:]])
        assert second.code == 10
        assert "another run of Report is at work" in second.err
        _Slow.may_answer.set()
        _, err = first.communicate(timeout=120)
        assert first.returncode == 0, err
    finally:
        first.kill()
        first.wait()
    assert (project / f"data/reports/date={running.DAY}/index.html").exists()
    said = (project / "logs" / f"{today()}.log").read_text(encoding="utf-8")
    assert "another run of Report is at work" in said
    assert re.search(r"^\S+Z bin/run Report .*: exit code 0$", said, re.MULTILINE)


def test_failed_run_does_not_exit_0_and_shows_why(project: Path) -> None:
    """A run that fails exits not 0; what it said is in the log and, for cron's mail, its end on stderr."""
    ran = call(project, "run", "Report", "--posts-source", project / "none-{date:%Y%m%d}.jsonl", "--date", running.DAY)
    assert ran.code == 30
    log = project / "logs" / f"{today()}.log"
    assert f"has nothing for {running.DAY} yet" in log.read_text(encoding="utf-8")
    assert f"ended with 30; see {log}" in ran.err
    assert f"has nothing for {running.DAY} yet" in ran.err
    assert ran.out == ""


def test_run_with_a_wrong_setting_does_not_exit_0(project: Path) -> None:
    """A wrong setting, an unknown task and no task at all are not 0 either."""
    assert call(project, "run", "Report", "--posts-rules", "clasic").code not in (0, 10)
    assert call(project, "run", "Raport").code not in (0, 10)
    none = call(project, "run")
    assert (none.code, none.err) == (2, "usage: bin/run TASK [flags of luigi]; with --help they are listed\n")


def test_run_without_an_environment_says_what_to_do(project: Path) -> None:
    """Where make has not been yet, bin/run says so."""
    (project / ".venv").unlink()
    ran = call(project, "run", "Report")
    assert ran.code == 2
    assert "run make report once" in ran.err


# ------------------------------------------------------------------------------------------------------------- cron


def _cron() -> str:
    """Where cron is; as root it is installed if it is missing, else the test is skipped."""
    if os.geteuid() != 0:
        running.absent("cron is tried as root only, not with a person's own crontab")
    if shutil.which("cron") is None and shutil.which("apt-get") is not None:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "cron"]):
            subprocess.run(["apt-get", *arguments], env=env, capture_output=True, check=False, timeout=300)
    return running.need("cron")


@pytest.fixture
def crontab() -> Iterator[Callable[[str], None]]:
    """Adds lines to root's crontab and sees to it that cron is at work; after the test all is as it was."""
    cron = _cron()
    there = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
    daemons = []

    def install(lines: str) -> None:
        # cron reads the crontabs when it starts, and again when their folder's time, in whole seconds, has changed.
        subprocess.run(["crontab", "-"], input=there.stdout + lines, text=True, check=True)
        daemons.append(subprocess.Popen([cron, "-f"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    try:
        yield install
    finally:
        for daemon in daemons:
            daemon.terminate()  # where cron was at work already, this one has ended by itself
            daemon.wait(30)
        if there.returncode == 0:
            subprocess.run(["crontab", "-"], input=there.stdout, text=True, check=True)
        else:
            subprocess.run(["crontab", "-r"], check=False, capture_output=True)


def test_cron_makes_the_report(crontab: Callable[[str], None], project: Path) -> None:
    """A line of crontab.example, its time the next minute, makes yesterday's report from cron's bare environment."""
    example = (running.ROOT / "crontab.example").read_text(encoding="utf-8")
    command = re.search(r"^30 4 \* \* \* +(/srv/millrace/bin/run Report)$", example, re.MULTILINE)
    assert command is not None
    soon = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=63)
    then = soon + datetime.timedelta(minutes=1)
    lines = ['MAILTO=""', f"PYTHONPATH={project}"]
    # The next minute, and the one after it should cron have just looked; a run that finds all complete is none.
    for moment in (soon, then):
        lines.append(f"{moment:%M %H %d %m} * {command[1].replace('/srv/millrace', str(project))}")
    crontab("".join(line + "\n" for line in lines))
    ended = re.compile(r"^\S+Z bin/run Report: exit code (\d+)$", re.MULTILINE)

    def logged() -> str:
        return "".join(path.read_text(encoding="utf-8") for path in (project / "logs").glob("*.log"))

    running.wait_for(lambda: ended.search(logged()), 240)
    found = ended.search(logged())
    assert found is not None, logged()
    assert found[1] == "0", logged()
    pages = list((project / "data/reports").glob("date=*/index.html"))
    assert [page.parent.name for page in pages] == [f"date={today() - datetime.timedelta(days=1)}"]
