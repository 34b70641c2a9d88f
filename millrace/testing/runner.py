"""The contract of `Runner`, as tests."""

import json
import secrets
from collections.abc import Callable

import pytest

from millrace.core.storage import Storage
from millrace.errors import JobCancelledError, JobFailedError, MillraceError
from millrace.runners.runner import Job, Progress, Runner, Ticket

#: Whose options of Beam hold for these runs: nobody's, since no task is called so.
TASK = "Contract"
#: Begins a run of pipeline.py: what to do, with what values, as which ticket.
Begin = Callable[[str, list[object], Ticket], Job]


class RunnerContract:
    """What every Runner does with a pipeline, be it in this process or a job that outlives it.

    Fixtures: `runner`; `storage`, empty, where its workers can write.
    """

    @pytest.fixture
    def ticket(self, runner: Runner) -> Ticket:
        """Return a ticket that no run has had."""
        return Ticket(f"millrace-contract-{secrets.token_hex(4)}", secrets.token_hex(8), runner.place())

    @pytest.fixture
    def begin(self, runner: Runner, storage: Storage) -> Begin:
        """Return what begins a run; nobody has to wait for its turn."""

        def start(what: str, values: list[object], ticket: Ticket) -> Job:
            waited: list[str] = []
            arguments = {"input": json.dumps([what, values]), "output": storage.uri("out/rows")}
            job = runner.start("millrace.testing.pipeline", arguments, TASK, ticket, waited.append)
            assert waited == []
            return job

        return start

    def test_a_run_writes_and_counts(self, runner: Runner, storage: Storage, ticket: Ticket, begin: Begin) -> None:
        """It is called as its ticket says, comes to its end while it is watched, and tells what it counted."""
        runner.check(TASK)
        job = begin("count", [1, 2, 39], ticket)
        assert (job.name, job.finished) == (ticket.name, False)
        told: list[Progress] = []
        done = runner.watch(job, told.append)
        assert (done.name, done.state, done.finished, done.id) == (ticket.name, "DONE", True, job.id)
        assert not told or told[-1].state == "DONE"
        run = runner.result(done)
        assert run.counters["rows_read"] == 42
        assert run.job_id == (job.id or None)
        found = [storage.read(path) for path in storage.list("out")]
        assert sorted(line for each in found if each for line in each.data.split()) == [b"1", b"2", b"39"]

    def test_what_a_worker_fails_of_is_told(
        self, runner: Runner, storage: Storage, ticket: Ticket, begin: Begin
    ) -> None:
        """The run is over without a result; the error is one of ours, with the worker's own sentence, in one line."""
        pattern = storage.uri("none/*")
        done = runner.watch(begin("expand", [pattern], ticket), lambda progress: None)
        assert done.finished
        assert done.state != "DONE"
        with pytest.raises(MillraceError) as raised:
            runner.result(done)
        assert f"{pattern} matches no file" in str(raised.value)
        assert "\n" not in str(raised.value)

    def test_a_run_that_outlives_its_process_is_found_again(self, runner: Runner, ticket: Ticket, begin: Begin) -> None:
        """The same ticket is the same run, begun once, also when it is over; another request or name is none of it."""
        job = begin("count", [1], ticket)
        if not runner.outlives:
            assert runner.find(ticket) is None
            return
        found = runner.find(ticket)
        assert found is not None
        assert begin("count", [1], ticket).id == found.id == job.id
        assert runner.watch(found, lambda progress: None).state == "DONE"
        for known in (ticket, Ticket(ticket.name, ticket.request_id, ticket.place, job.id)):
            again = runner.find(known)
            assert again is not None
            assert (again.id, again.state, again.finished) == (job.id, "DONE", True)
            assert runner.result(again).counters == {"rows_read": 1}
        assert runner.find(Ticket(ticket.name, "another", ticket.place)) is None
        assert runner.find(Ticket(f"{ticket.name}-x", ticket.request_id, ticket.place)) is None

    def test_a_run_can_be_stopped(self, runner: Runner, ticket: Ticket, begin: Begin) -> None:
        """What outlives its process ends soon, cancelled; all else ends with its process. Neither has a result."""
        job = begin("sleep", [600], ticket)
        stopped = runner.stop(job)
        assert stopped.finished == runner.outlives
        with pytest.raises(JobCancelledError if runner.outlives else JobFailedError, match=ticket.name):
            runner.result(stopped)
        if runner.outlives:
            assert runner.stop(stopped).state == stopped.state  # to stop what has ended is no error
