"""What luigid shows of a task's Dataflow job, and what can be said to it there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloud_running
import pytest
import running
from cloud_running import Place, state_of
from luigid_asking import ask, listed
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import WebDriverWait

from localcloud import PROJECT, REGION, LocalCloud

DATE = ("--date", running.DAY)
FETCH = ("Fetch", "--source", "sample://", *DATE)


@pytest.fixture
def place(cloud: LocalCloud, server: int, tmp_path: Path) -> Iterator[Place]:
    """A place of the test's own, whose runs are seen by luigid."""
    named = {"scheduler_host": "127.0.0.1", "scheduler_port": str(server)}
    made = Place(cloud, tmp_path / "place", tmp_path.name, {"core": named})
    yield made
    made.close()


def shown(server: int) -> tuple[str, dict[str, Any]]:
    """The one task that luigid shows as running, and its id; it may take a moment."""
    found: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        found.update(listed(server, "RUNNING"))
        return found

    running.wait_for(look, 30)
    [only] = found.items()
    return only


def waiting(place: Place, server: int, *command: object) -> "subprocess.Popen[str]":
    """A luigi process whose one job is held, and shown as RUNNING by luigid."""
    process = place.hold(str(command[0]), *command[1:])
    place.wait_for(lambda: any(task["status_message"] == "RUNNING" for task in listed(server, "RUNNING").values()))
    return process


def said(place: Place, server: int, word: str) -> str:
    """What is answered when somebody types a word into "send message" of the running task."""
    id, task = shown(server)
    message = ask(server, "send_scheduler_message", worker=task["worker_running"], task=id, content=word)["message_id"]
    answers: list[str] = []

    def answered() -> bool:
        got = ask(server, "get_scheduler_message_response", task_id=id, message_id=message)["response"]
        answers.extend([got] if got else [])
        return bool(answers)

    place.wait_for(answered)
    return answers[0]


def test_job_is_shown(place: Place, server: int) -> None:
    """The link leads to the job's page in the console; state, workers and errors are told, as text and never as markup.

    Fetch's total is unknown, so that there is no percentage.
    """
    process = waiting(place, server, *FETCH)
    [job] = place.jobs
    _, task = shown(server)
    assert task["tracking_url"] == f"https://console.cloud.google.com/dataflow/jobs/{REGION}/{job.id}?project={PROJECT}"
    assert task["progress_percentage"] is None
    assert task["accepts_messages"] is True
    job.workers.append((job.created, 3))
    place.wait_for(lambda: shown(server)[1]["status_message"] == "RUNNING, 3 workers")
    job.say("JOB_MESSAGE_ERROR", "Traceback (most recent call last):\n  …\nOSError: <img onerror=alert(1)>\x1b[2J")
    place.wait_for(lambda: "OSError: ‹img onerror=alert(1)›" in shown(server)[1]["status_message"])
    assert not {"<", ">", "\x1b"} & set(shown(server)[1]["status_message"])
    place.cloud.dataflow.release()
    assert cloud_running.end(process).code == 0
    [done] = listed(server, "DONE").values()
    assert done["progress_percentage"] is None
    assert done["status_message"].startswith("DONE")


@pytest.mark.parametrize("stage", ["Etl", pytest.param("Count", marks=running.long)])
def test_progress_is_the_share_of_the_rows_that_were_read(place: Place, server: int, stage: str) -> None:
    """Etl and Count know the rows that they have to read: 0 % before, half of them 50 %, at the end 100 %."""
    for before in {"Etl": ["Fetch"], "Count": ["Fetch", "Etl"]}[stage]:
        place.succeed(before, *(FETCH[1:] if before == "Fetch" else DATE))
    dataset = {"Etl": f"raw/source=sample-9a75ee8a/date={running.DAY}", "Count": f"posts/date={running.DAY}"}[stage]
    rows = sum(file.rows for file in place.manifests()[dataset].files if file.path.startswith(f"{dataset}/"))
    process = waiting(place, server, stage, *DATE)
    place.wait_for(lambda: shown(server)[1]["progress_percentage"] == 0)
    place.jobs[-1].metrics = {"counters": [["Read", "millrace.beam.files", "rows_read", rows // 2, True]]}
    place.wait_for(lambda: shown(server)[1]["progress_percentage"] == 100 * (rows // 2) // rows)
    place.cloud.dataflow.release()
    ran = cloud_running.end(process)
    assert ran.code == 0, ran
    assert {task["name"]: task["progress_percentage"] for task in listed(server, "DONE").values()}[stage] == 100


def test_words_that_are_sent(place: Place, server: int) -> None:
    """`drain` is passed on, and Dataflow's refusal for a batch job is the answer; so are the words that there are."""
    process = waiting(place, server, *FETCH)
    [job] = place.jobs
    assert "can be cancelled but not drained" in said(place, server, "drain")
    assert said(place, server, "stop it") == "'stop it' is no command; there are cancel and drain"
    assert state_of(job) == "RUNNING"
    place.cloud.dataflow.release()
    assert cloud_running.end(process).code == 0


def test_cancel_is_typed_into_the_page(place: Place, server: int, chromium: webdriver.Chrome, tmp_path: Path) -> None:
    """A person opens luigid's page, sees the job, sends it `cancel`, and reads the answer; the run fails, naming it."""
    process = waiting(place, server, *FETCH)
    [job] = place.jobs
    chromium.set_window_size(1400, 700)
    chromium.get(f"http://127.0.0.1:{server}/")
    wait = WebDriverWait(chromium, 30)

    def click(selector: str) -> None:
        wait.until(expected.element_to_be_clickable((By.CSS_SELECTOR, selector))).click()

    wait.until(
        lambda page: [row for row in page.find_elements(By.CSS_SELECTOR, "#taskTable tr") if "Fetch" in row.text]
    )
    link = chromium.find_element(By.CSS_SELECTOR, "#taskTable a[href*='console.cloud.google.com']")
    assert job.id in str(link.get_attribute("href"))
    chromium.save_screenshot(str(tmp_path / "running.png"))
    click("#taskTable .statusMessage")
    wait.until(lambda page: page.find_element(By.CSS_SELECTOR, "#statusMessageModal pre").text == "RUNNING")
    chromium.save_screenshot(str(tmp_path / "status.png"))
    click("#statusMessageModal button.close, #statusMessageModal [data-dismiss=modal]")
    wait.until(expected.invisibility_of_element_located((By.ID, "statusMessageModal")))
    click("#taskTable .schedulerMessage")
    field = wait.until(expected.element_to_be_clickable((By.ID, "schedulerMessageInput")))
    field.send_keys("cancel")
    click("#schedulerMessageAwaitResponse")
    click("#schedulerMessageButton")
    answer = f"asked Dataflow to cancel {job.name}"
    wait.until(lambda page: answer in page.find_element(By.ID, "schedulerMessageResponse").text)
    chromium.save_screenshot(str(tmp_path / "answered.png"))
    ran = cloud_running.end(process)
    assert ran.code == 30, ran
    assert f"{job.name} was cancelled" in ran.out, ran
    assert state_of(job) == "CANCELLED"


def test_luigid_that_is_gone_costs_no_job(place: Place, luigid: tuple["subprocess.Popen[bytes]", int]) -> None:
    """Where luigid no longer answers, the task waits for its job and publishes what it made; then the run ends."""
    place.set("core", rpc_retry_attempts="1", rpc_retry_wait="1", rpc_connect_timeout="2")
    server, port = luigid
    process = waiting(place, port, *FETCH)
    server.terminate()
    server.wait(30)
    asked = place.asked(place.jobs[0].id)
    place.jobs[0].workers.append((place.jobs[0].created, 3))  # something to tell
    place.wait_for(lambda: place.asked(place.jobs[0].id) > asked + 1)
    place.cloud.dataflow.release()
    ran = cloud_running.end(process)
    assert ran.code == 45, ran
    assert [state_of(job) for job in place.jobs] == ["DONE"], ran
    assert place.entry("Fetch").state == "done"
    assert len(place.manifests()) == 1


def test_a_service_is_shown_while_there_is_nothing_to_do(
    place: Place, server: int, chromium: webdriver.Chrome, tmp_path: Path
) -> None:
    """After a run that found it running, luigid has its link, its state and its lag; then, that it was stopped."""
    place.cloud.dataflow.hold("*")

    def ran(task: str) -> dict[str, Any]:
        process = place.start(task, module="service_tasks")
        assert (end := cloud_running.end(process)).code == 0, end
        [found] = [each for each in listed(server, "DONE").values() if each["name"] == task]
        return dict(found)

    begun = ran("Stream")
    [job] = place.jobs
    job.behind = (4, 75)
    for seen, lag in ((begun, "system 0 s, data 0 s"), (ran("Stream"), "system 4 s, data 75 s")):
        assert f"/jobs/{REGION}/{job.id}?project={PROJECT}" in seen["tracking_url"]
        assert f"job {job.id} is RUNNING" in seen["status_message"]
        assert lag in seen["status_message"]
    chromium.set_window_size(1400, 700)
    chromium.get(f"http://127.0.0.1:{server}/")
    wait = WebDriverWait(chromium, 30)
    wait.until(lambda page: page.find_element(By.CSS_SELECTOR, f"#taskTable a[href*='{job.id}']").is_displayed())
    chromium.save_screenshot(str(tmp_path / "service.png"))
    wait.until(expected.element_to_be_clickable((By.CSS_SELECTOR, "#taskTable .statusMessage"))).click()
    wait.until(lambda page: "lag: system 4 s" in page.find_element(By.CSS_SELECTOR, "#statusMessageModal pre").text)
    chromium.save_screenshot(str(tmp_path / "service-status.png"))
    ran("EndStream")
    assert ran("Stream")["status_message"].startswith("stopped by EndStream at ")
    assert state_of(job) == "DRAINED"
