"""A fault plan, each kind of fault, and the floor of the services, over real connections."""

import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from localcloud.faults import Fault, FaultPlan
from localcloud.serving import Request, Response, Service, error_response, json_response


class Counter(Service):
    """A service that counts how often it was asked to."""

    name = "counter"

    def __init__(self, faults: FaultPlan | None = None) -> None:
        super().__init__(faults)
        self.count = 0
        self.asked = threading.Event()

    def call_of(self, request: Request) -> str:
        self.asked.set()
        return "counts.get" if request.method == "GET" else "counts.add"

    def handle(self, request: Request) -> Response:
        if request.path == "/bug":
            raise ZeroDivisionError
        if request.path == "/echo/a/b":
            answer = {"target": request.target, "query": request.query, "body": request.body.decode()}
            return json_response(answer, status=201, headers={"X-Mine": "1"})
        if request.method == "POST":
            self.count += 1
        return json_response(self.count)


@pytest.fixture
def counter() -> Iterator[Counter]:
    with Counter() as service:
        yield service


def add(service: Counter) -> requests.Response:
    return requests.post(service.url, timeout=10)


def test_status_is_answered_in_the_shape_of_googles_errors_and_nothing_is_done(counter: Counter) -> None:
    counter.faults.at(2, Fault("status", status=429), call="counts.add")
    assert [add(counter).status_code for _ in range(3)] == [200, 429, 200]
    assert counter.count == 2
    counter.faults.at(1, Fault("status", status=503))
    assert add(counter).json()["error"] == {
        "code": 503,
        "message": "the fault plan says so",
        "errors": [{"message": "the fault plan says so", "domain": "global", "reason": "backendError"}],
        "status": "UNAVAILABLE",
    }


def test_cut_closes_the_connection_and_nothing_is_done(counter: Counter) -> None:
    counter.faults.at(1, Fault("cut"))
    with pytest.raises(requests.ConnectionError):
        add(counter)
    assert counter.count == 0


def test_lost_does_it_and_closes_the_connection(counter: Counter) -> None:
    counter.faults.at(1, Fault("lost"))
    with pytest.raises(requests.ConnectionError):
        add(counter)
    assert counter.count == 1


def test_delay_answers_later(counter: Counter) -> None:
    counter.faults.at(1, Fault("delay", seconds=0.3))
    began = time.monotonic()
    assert add(counter).json() == 1
    assert time.monotonic() - began >= 0.3


def test_stopping_does_not_wait_for_a_delay() -> None:
    service = Counter()
    service.faults.at(1, Fault("delay", seconds=60))
    service.start()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(add, service)
        assert service.asked.wait(10)
        began = time.monotonic()
        service.stop()
    assert time.monotonic() - began < 10


def test_kill_does_it_and_kills_the_process_group_before_it_has_an_answer(counter: Counter) -> None:
    fault = Fault("kill")
    counter.faults.at(2, fault, effects_only=True)
    ask = f"import urllib.request as r; print(r.urlopen({counter.url!r}, b'').read().decode(), flush=True)"
    # What asks is a child of the shell: both are of the group.
    script = f"while {shlex.join([sys.executable, '-c', ask])}; do :; done; echo survived"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as process:
        fault.pid = process.pid
        out, _ = process.communicate(timeout=20)
    assert process.returncode == -9
    assert out == b"1\n"
    assert counter.count == 2


def test_a_kill_without_a_process_is_an_error_and_not_our_own_end() -> None:
    with pytest.raises(ValueError, match="before its pid"):
        Fault("kill").kill()


def test_calls_are_counted_by_service_call_and_effect() -> None:
    plan = FaultPlan()
    first, second, third = Fault("cut"), Fault("lost"), Fault("delay")
    plan.at(2, first, service="storage", call="objects.*")
    plan.at(2, second, effects_only=True)
    plan.at(5, third)
    assert plan.decide("storage", "objects.get", False) is None
    assert plan.decide("bigquery", "jobs.insert", True) is None
    assert plan.decide("storage", "buckets.get", False) is None
    assert plan.decide("storage", "objects.insert", True) is first  # the second effect as well: the first plan wins
    assert plan.decide("dataflow", "jobs.get", False) is third


def test_one_plan_counts_the_calls_of_several_services_together() -> None:
    plan = FaultPlan()
    plan.at(2, Fault("status", status=500))
    with Counter(plan) as one, Counter(plan) as other:
        assert [add(one).status_code, add(other).status_code, add(one).status_code] == [200, 500, 200]


def test_random_faults_are_the_seeds_and_the_share_is_kept() -> None:
    def kinds(seed: int) -> list[str]:
        plan = FaultPlan()
        plan.randomly(0.2, seed)
        return [fault.kind if (fault := plan.decide("s", "c", True)) else "" for _ in range(2000)]

    assert kinds(1) == kinds(1) != kinds(2)
    assert 300 < sum(map(bool, kinds(1))) < 500
    assert set(kinds(1)) == {"", "status", "cut", "delay", "lost"}


def test_a_cleared_plan_fails_nothing() -> None:
    plan = FaultPlan()
    plan.at(1, Fault("cut"))
    plan.randomly(1.0, 1)
    plan.clear()
    assert plan.decide("s", "c", True) is None


def test_the_worker_port_is_the_same_service_without_faults_and_log(counter: Counter) -> None:
    counter.faults.randomly(1.0, seed=1, kinds=("cut",))
    assert requests.post(counter.worker_url, timeout=10).json() == 1
    assert counter.count == 1
    assert counter.requests == []


def test_the_log_says_what_was_asked_what_was_answered_and_what_went_wrong(counter: Counter) -> None:
    counter.faults.at(2, Fault("lost"))
    requests.get(f"{counter.url}/a?b=c", timeout=10)
    with pytest.raises(requests.ConnectionError):
        add(counter)
    read, lost = counter.requests
    assert (read.service, read.call, read.method, read.path, read.query) == (
        "counter",
        "counts.get",
        "GET",
        "/a",
        {"b": "c"},
    )
    assert (read.status, read.effect, read.fault) == (200, False, None)
    assert (lost.status, lost.effect, lost.fault) == (0, True, Fault("lost"))


def test_requests_arrive_whole(counter: Counter) -> None:
    answer = requests.post(f"{counter.url}/echo/a%2Fb?x=1&y=", data=iter([b"in ", b"chunks"]), timeout=10)
    assert (answer.status_code, answer.headers["X-Mine"]) == (201, "1")
    assert answer.json() == {"target": "/echo/a%2Fb?x=1&y=", "query": {"x": "1", "y": ""}, "body": "in chunks"}


def test_a_connection_serves_many_requests_and_many_connections_are_served_at_once(counter: Counter) -> None:
    counter.faults.at(1, Fault("delay", seconds=0.5))

    def hundred(_: int) -> set[int]:
        with requests.Session() as session:
            return {session.get(counter.url, timeout=10).status_code for _ in range(20)}

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(hundred, range(8))) == {200}


def test_a_bug_of_a_service_is_an_answer_that_nobody_retries_and_that_shows_it(counter: Counter) -> None:
    answer = requests.get(f"{counter.url}/bug", timeout=10)
    assert answer.status_code == 501
    assert "ZeroDivisionError" in answer.json()["error"]["message"]


def test_an_errors_reason_can_be_told() -> None:
    assert b'"reason": "duplicate"' in error_response(409, "already there", "duplicate").body
