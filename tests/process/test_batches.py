"""Several days of a stage are one batch, each with a fate of its own: with luigid and without, whatever goes wrong."""

import datetime
import json
import os
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import running
from luigid_asking import ask, free_port, listed, start_luigid
from running import Ran
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

FIRST = datetime.date(2026, 11, 1)
HERE = ("--scheduler-host", "localhost", "--scheduler-port")


def day(number: int) -> datetime.date:
    """A day of November."""
    return datetime.date(2026, 11, number)


def start(at: Path, first: int, last: int, *flags: object, of: str = "Read", **environ: str) -> "subprocess.Popen[str]":
    """RangeDaily over a stage, from the first to the last day of November; it looks for work again at once."""
    days = ("--of", of, "--start", day(first), "--stop", day(last + 1), "--millrace-storage", at / "data")
    return subprocess.Popen(
        running.command("RangeDaily", *days, "--worker-wait-jitter", 0, *flags, module="day_tasks"),
        cwd=at,
        env=running.environment(AT=str(at), **environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]") -> Ran:
    """What a process said, and its exit code."""
    out, _ = process.communicate(timeout=120)
    return Ran(process.returncode, out, "")


def run(at: Path, first: int, last: int, *flags: object, of: str = "Read", **environ: str) -> Ran:
    """Runs such a range to its end."""
    return end(start(at, first, last, *flags, of=of, **environ))


def control(at: Path, stage: str, number: int, ending: str) -> Path:
    """One of the files by which a day of a stage goes."""
    return at / f"{stage}-{day(number)}.{ending}"


def runs(at: Path, stage: str, number: int) -> int:
    """How often a day of a stage ran."""
    noted = control(at, stage, number, "runs")
    return len(noted.read_text().splitlines()) if noted.exists() else 0


def processes(at: Path, stage: str) -> list[list[int]]:
    """The days of a stage, by the processes that did them last, in the order of their first days."""
    found = defaultdict(list)
    for path in sorted(at.glob(f"{stage}-*.runs")):
        found[path.read_text().splitlines()[-1]].append(int(path.stem[-2:]))
    return sorted(found.values())


def done(at: Path, stage: str) -> list[int]:
    """The days of a stage that are complete."""
    return [int(name[-2:]) for name in running.complete(at / "data") if name.startswith(f"{stage.lower()}/")]


def tasks_of(luigid: int, at: Path, *stages: str) -> dict[str, Any]:
    """The tasks of a test that a luigid knows, by id; of all stages unless some are named."""
    found = ask(luigid, "task_list", status="", upstream_status="", search="").items()
    own = {id: task for id, task in found if task["params"].get("place") == at.name}
    return {id: task for id, task in own.items() if not stages or task["name"] in stages}


def wait_for(path: Path) -> None:
    """Waits until a file is there."""
    running.wait_for(path.exists, 30)
    assert path.exists()


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of luigi's own luigid, which soon misses who has died and tries again what failed."""
    port = free_port()
    settings = "[scheduler]\nretry_delay = 0\nworker_disconnect_delay = 2\n"
    process = start_luigid(tmp_path_factory.mktemp("eager"), port, settings)
    yield port
    process.terminate()
    process.wait(30)


@pytest.mark.parametrize(
    ("workers", "cut"), [(1, [[1, 2, 3, 4, 5, 6]]), (2, [[1], [2, 3], [4, 5, 6]]), (3, [[1], [2], [3, 4], [5, 6]])]
)
def test_bad_day_fails_alone_and_what_follows_from_the_others_is_done(
    workers: int, cut: Sequence[Sequence[int]], tmp_path: Path
) -> None:
    """All workers get a batch, and smaller ones after it. A day that fails is one failure, what needs it is left; the
    next run does these two.
    """
    control(tmp_path, "Made", 3, "broken").touch()
    ran = run(tmp_path, 1, 6, "--workers", workers)
    assert ran.code == 30, ran
    assert processes(tmp_path, "Made") == cut
    assert (done(tmp_path, "Made"), done(tmp_path, "Read")) == ([1, 2, 4, 5, 6], [1, 2, 4, 5, 6])
    assert ran.errors == ["ERROR: Made 2026-11-03: Made 2026-11-03 is broken"]
    for line in ("* 10 ran successfully:", "* 1 failed:", "* 2 had failed dependencies:"):
        assert line in ran.out, ran
    assert f"Made {tmp_path.name} 2026-11-{cut[-1][0]:02} to 2026-11-06: {len(cut[-1])} days in one batch" in ran.out
    control(tmp_path, "Made", 3, "broken").unlink()
    ran = run(tmp_path, 1, 6, "--workers", workers)
    assert ran.code == 0, ran
    assert [runs(tmp_path, "Made", number) for number in range(1, 7)] == [1, 1, 2, 1, 1, 1]
    assert [runs(tmp_path, "Read", number) for number in range(1, 7)] == [1] * 6


def test_what_a_stage_needs_is_imported_while_others_run(tmp_path: Path) -> None:
    """The process that waits for a day's first stage prepares the second, once; that this can't be done is the second
    stage's own affair. With one worker that process does the first stage itself.
    """
    luigi = start(tmp_path, 3, 3, "--workers", 2)
    assert end(luigi).code == 0
    assert control(tmp_path, "Read", 3, "preloads").read_text() == f"{luigi.pid}\n"
    assert control(tmp_path, "Read", 3, "runs").read_text() != f"{luigi.pid}\n"
    assert run(tmp_path, 4, 4, "--workers", 1).code == 0
    assert not control(tmp_path, "Read", 4, "preloads").exists()


def test_no_worker_is_idle_while_days_are_left(tmp_path: Path) -> None:
    """Where a batch takes long, the other worker does all the rest, by batches of at least half its size."""
    control(tmp_path, "Made", 14, "held").touch()
    process = start(tmp_path, 1, 14, "--workers", 2)
    running.wait_for(lambda: done(tmp_path, "Read") == [1, 2, 3, 4, 5, 6, 7], 30)
    control(tmp_path, "Made", 14, "held").unlink()
    ran = end(process)
    assert ran.code == 0, ran
    assert processes(tmp_path, "Made") == [[1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14]]


def test_batches_are_no_larger_than_the_setting_says(tmp_path: Path) -> None:
    """[millrace] batch; 1: each day has a process of its own. So has a stage that says that it is done alone."""
    assert run(tmp_path, 1, 5, "--millrace-batch", 2, "--workers", 2, of="Alone").code == 0
    assert processes(tmp_path, "Made") == [[1], [2, 3], [4, 5]]
    assert processes(tmp_path, "Alone") == [[1], [2], [3], [4], [5]]
    ran = run(tmp_path, 6, 8, "--millrace-batch", 1, "--workers", 2)
    assert ran.code == 0, ran
    assert "one batch" not in ran.out
    assert processes(tmp_path, "Made")[-3:] == [[6], [7], [8]]
    ran = run(tmp_path, 1, 1, "--millrace-batch", 367)
    assert ran.code == 35, ran
    [line] = ran.errors
    assert "millrace.batch = '367', from the flag --millrace-batch: allowed is a whole number from 1 to 366" in line


def test_day_that_failed_is_tried_again_by_itself_where_the_scheduler_says_so(tmp_path: Path) -> None:
    """With [scheduler] retry_delay a day that failed is done again within the run, and no other day of its batch."""
    control(tmp_path, "Made", 2, "once").touch()
    settings = (running.ROOT / "luigi.cfg").read_text(encoding="utf-8")
    (tmp_path / "own.cfg").write_text(settings.replace("retry_delay = -1", "retry_delay = 0"), encoding="utf-8")
    ran = run(tmp_path, 1, 4, "--workers", 2, "--worker-keep-alive", LUIGI_CONFIG_PATH=str(tmp_path / "own.cfg"))
    assert ran.code == 0, ran
    assert [runs(tmp_path, "Made", number) for number in range(1, 5)] == [1, 2, 1, 1]


@pytest.mark.parametrize("luigid", [False, True])
def test_process_of_a_batch_is_killed(luigid: bool, eager: int, tmp_path: Path) -> None:
    """Kill -9 of the process: the days that are complete count, the others failed; the next run does those alone."""
    control(tmp_path, "Made", 2, "killed").touch()
    flags = ("--workers", 2, *((*HERE, eager) if luigid else ()))
    ran = run(tmp_path, 1, 6, *flags)
    assert ran.code == 30, ran
    assert done(tmp_path, "Read") == [1, 4, 5, 6]
    killed = [line for line in ran.errors if "was killed" in line]
    assert [line.partition(":")[2][:16] for line in killed] == [" Made 2026-11-02", " Made 2026-11-03"]
    control(tmp_path, "Made", 2, "killed").unlink()
    ran = run(tmp_path, 1, 6, *flags)
    assert ran.code == 0, ran
    assert [runs(tmp_path, "Made", number) for number in range(1, 7)] == [1, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("of", ["Read", "Alone"])
def test_what_a_day_needs_goes_before_the_day_begins(of: str, tmp_path: Path) -> None:
    """In a batch and by itself: one sentence, what went is made anew in the same run, and the other days go on."""
    assert run(tmp_path, 1, 2, of="Made").code == 0
    control(tmp_path, "Made", 3, "held").touch()
    process = start(tmp_path, 1, 3, "--workers", 1, of=of)
    wait_for(control(tmp_path, "Made", 3, "runs"))
    shutil.rmtree(tmp_path / "data" / "made" / f"date={day(1)}")
    control(tmp_path, "Made", 3, "held").unlink()
    ran = end(process)
    assert ran.code == 0, ran
    assert "Traceback" not in ran.out
    [said] = ran.errors
    assert "what it needs has gone since the run began" in said
    assert done(tmp_path, of) == [1, 2, 3]
    assert [runs(tmp_path, "Made", number) for number in (1, 2, 3)] == [2, 1, 1]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_run_is_stopped_or_killed_during_a_batch(sent: signal.Signals, eager: int, tmp_path: Path) -> None:
    """Luigi and its processes end at SIGTERM, telling luigid so, or by SIGKILL; the next run does what is left."""
    control(tmp_path, "Made", 2, "held").touch()
    process = start(tmp_path, 1, 6, "--workers", 2, *HERE, eager)
    wait_for(control(tmp_path, "Made", 2, "runs"))
    running.wait_for(lambda: done(tmp_path, "Read") == [1, 4, 5, 6], 30)
    os.killpg(process.pid, sent)
    stopped = end(process)
    if sent == signal.SIGTERM:
        assert stopped.code in (130, -signal.SIGINT), stopped
        assert listed(eager, "RUNNING") == {}
        assert listed(eager, "BATCH_RUNNING") == {}
    control(tmp_path, "Made", 2, "held").unlink()
    ran = run(tmp_path, 1, 6, "--workers", 2, *HERE, eager)
    assert ran.code == 0, ran
    assert [runs(tmp_path, "Made", number) for number in range(1, 7)] == [1, 2, 1, 1, 1, 1]
    assert done(tmp_path, "Read") == [1, 2, 3, 4, 5, 6]


def test_overlapping_ranges_of_two_runs_at_one_luigid(eager: int, tmp_path: Path) -> None:
    """Both end well, and each day is done once, though the batches of the one hold days of the other."""
    control(tmp_path, "Made", 4, "held").touch()
    one = start(tmp_path, 1, 6, "--workers", 2, *HERE, eager)
    wait_for(control(tmp_path, "Made", 4, "runs"))
    other = start(tmp_path, 3, 8, "--workers", 2, *HERE, eager)
    running.wait_for(lambda: done(tmp_path, "Read")[-2:] == [7, 8], 30)
    control(tmp_path, "Made", 4, "held").unlink()
    ran = end(one), end(other)
    assert [each.code for each in ran] == [0, 0], ran
    for stage in ("Made", "Read"):
        assert [runs(tmp_path, stage, number) for number in range(1, 9)] == [1] * 8
    assert "waiting for another run (host" in ran[1].out


def test_days_that_failed_are_not_tried_again_within_a_run(eager: int, tmp_path: Path) -> None:
    """Also where luigid gives them to the same run again, as a batch; luigid shows them as failed, the others done."""
    for number in (1, 2):
        control(tmp_path, "Made", number, "broken").touch()
    control(tmp_path, "Made", 4, "held").touch()
    process = start(tmp_path, 1, 4, "--workers", 2, *HERE, eager)
    for number in (2, 4):
        wait_for(control(tmp_path, "Made", number, "runs"))
    end_of_wait = time.monotonic() + 4
    while time.monotonic() < end_of_wait:
        ask(eager, "prune")  # then it tries again what failed
        time.sleep(0.2)
    control(tmp_path, "Made", 4, "held").unlink()
    ran = end(process)
    assert ran.code == 30, ran
    assert [runs(tmp_path, "Made", number) for number in range(1, 5)] == [1, 1, 1, 1]
    ended = {task["params"]["date"][-1]: task["status"] for task in tasks_of(eager, tmp_path, "Made").values()}
    assert {number: ended[number] for number in "34"} == {"3": "DONE", "4": "DONE"}
    assert {ended[number] for number in "12"} <= {"FAILED", "PENDING"}


def test_batch_takes_of_a_resource_what_one_of_its_days_takes(tmp_path: Path) -> None:
    """With one unit of it, one batch runs at a time, and a batch of three runs."""
    ran = run(tmp_path, 1, 6, "--workers", 2, API="1")
    assert ran.code == 0, ran
    assert processes(tmp_path, "Made") == [[1], [2, 3], [4, 5, 6]]


@running.long
def test_each_day_of_a_batch_has_the_time_of_a_task(tmp_path: Path) -> None:
    """[worker] timeout: a batch may take so long for each of its days; those that are not done then have failed."""
    for number in (1, 2, 3):
        control(tmp_path, "Made", number, "slow").touch()
    alone = ("--workers", 1, "--worker-force-multiprocessing", "--worker-timeout")
    ran = run(tmp_path, 1, 3, *alone, 4)
    assert ran.code == 0, ran
    assert processes(tmp_path, "Made") == [[1, 2, 3]]
    control(tmp_path, "Made", 5, "held").touch()
    ran = run(tmp_path, 4, 6, *alone, 3)
    assert ran.code == 30, ran
    assert (done(tmp_path, "Made"), done(tmp_path, "Read")) == ([1, 2, 3, 4], [1, 2, 3, 4]), ran
    control(tmp_path, "Made", 5, "held").unlink()
    assert run(tmp_path, 4, 6, *alone, 4).code == 0
    assert done(tmp_path, "Read") == [1, 2, 3, 4, 5, 6]


def test_page_of_luigid_shows_every_day(eager: int, chromium: webdriver.Chrome, tmp_path: Path) -> None:
    """Each day of a batch is there, running, with a link, a message and a progress of its own, and no task besides.

    A message to any of the days reaches the batch, and is answered.
    """
    control(tmp_path, "Made", 3, "held").touch()
    process = start(tmp_path, 1, 3, "--workers", 1, *HERE, eager)
    wait_for(control(tmp_path, "Made", 3, "runs"))

    made = {task["params"]["date"]: id for id, task in tasks_of(eager, tmp_path, "Made").items()}
    assert sorted(made) == [str(day(number)) for number in (1, 2, 3)]
    for number in (1, 2, 3):
        task = tasks_of(eager, tmp_path, "Made")[made[str(day(number))]]
        assert task["status"] == "RUNNING"
        assert task["tracking_url"] == f"http://jobs.example/Made {day(number)}"
        assert task["status_message"] == f"Made {day(number)} is at work"
        assert task["progress_percentage"] == number
    chromium.get(f"http://127.0.0.1:{eager}/static/visualiser/index.html#tab=tasks&statuses=%5B%22RUNNING%22%5D")

    # In one go, because the page draws its table again at times.
    rows = "return [...document.querySelectorAll('#taskTable tbody tr')].map(row => row.innerText)"

    def shown(page: webdriver.Chrome) -> list[str]:
        found: list[str] = page.execute_script(rows)
        return [row for row in found if "RUNNING" in row and tmp_path.name in row]

    WebDriverWait(chromium, 30).until(lambda page: len(shown(page)) == 3)
    assert [str(day(number)) in "".join(shown(chromium)) for number in (1, 2, 3)] == [True] * 3
    second = made["2026-11-02"]
    worker = tasks_of(eager, tmp_path, "Made")[second]["worker_running"]
    ask(eager, "send_scheduler_message", worker=worker, task=second, content="cancel")
    wait_for(control(tmp_path, "Made", 3, "message"))
    assert json.loads(control(tmp_path, "Made", 3, "message").read_text()) == ["cancel", second]
    control(tmp_path, "Made", 3, "held").unlink()
    ran = end(process)
    assert ran.code == 0, ran
    assert [task["status"] for task in tasks_of(eager, tmp_path, "Made", "Read").values()] == ["DONE"] * 6
    assert {task["name"] for task in tasks_of(eager, tmp_path).values()} == {"Made", "Read"}


def test_day_of_posts_with_too_many_rejects_fails_alone(tmp_path: Path) -> None:
    """Three days of posts in one batch: of the bad one nothing is published, the others are counted in the same run."""
    for number in (1, 2, 3):
        post = {"id": number, "text": "calm seas", "created_at": f"{day(number)}T12:00:00Z"}
        running.write_posts(tmp_path / f"posts-{day(number)}.jsonl", [post] if number != 2 else [post, "{"])
    source = ("--posts-source", f"{tmp_path}/posts-{{date:%Y-%m-%d}}.jsonl", "--workers", 1)
    days = ("--of", "Count", "--start", day(1), "--stop", day(4))
    ran = running.luigi("RangeDaily", *days, *source, storage=tmp_path / "data")
    assert ran.code == 30, ran
    [error] = ran.errors
    assert error.startswith("ERROR: Etl 2026-11-02: posts/date=2026-11-02: 1 of 2 records were rejected"), ran
    assert "Etl 2026-11-01 to 2026-11-03: 3 days in one batch" in ran.err
    assert (done(tmp_path, "posts"), done(tmp_path, "counts")) == ([1, 3], [1, 3])
    running.write_posts(tmp_path / f"posts-{day(2)}.jsonl", [post])
    ran = running.luigi("RangeDaily", *days, *source, "--posts-max-dead-letter-share", 1, storage=tmp_path / "data")
    assert ran.code == 0, ran
    assert "one batch" not in ran.err
    assert done(tmp_path, "counts") == [1, 2, 3]


def test_luigis_own_worker_makes_no_batches(tmp_path: Path) -> None:
    """From Python, with luigi.build, each day is a task of its own, as luigi's worker has it."""
    program = (
        "import datetime, luigi, day_tasks as d\n"
        "days = [d.Read(date=datetime.date(2026, 11, n)) for n in (1, 2, 3)]\n"
        "assert luigi.build(days, local_scheduler=True, workers=1)\n"
    )
    env = running.environment(AT=str(tmp_path))
    ran = running.run([running.python(), "-c", program], tmp_path, env)
    assert ran.code == 0, ran
    assert done(tmp_path, "Read") == [1, 2, 3]
