"""Work in a child process."""

import json
import os
import signal
import subprocess
import sys

import pytest
import running

from millrace.core import child
from millrace.errors import SourceError, TransientError


def test_errors_of_the_submitting_process_are_its_callers() -> None:
    def ours() -> None:
        raise SourceError("no such thing")

    def other() -> None:
        raise KeyError("bug")

    def secret() -> None:
        raise ValueError(json.dumps({"access_token": "ya29.abcdefgh"}))

    assert child.in_child(lambda: "fine") == "fine"
    with pytest.raises(SourceError, match=r"^no such thing$"):
        child.in_child(ours)
    with pytest.raises(RuntimeError, match="KeyError: 'bug'"):
        child.in_child(other)
    with pytest.raises(RuntimeError, match="ValueError: .*access_token.*…") as error:
        child.in_child(secret)
    assert "29.abcdefgh" not in str(error.value).splitlines()[-1]
    with pytest.raises(TransientError, match="was killed, as the kernel does where memory runs out"):
        child.in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(TransientError, match=r"without an answer \(3\)"):
        child.in_child(lambda: os._exit(3))


def test_an_answer_that_can_t_be_given_is_an_error() -> None:
    """Work that closes files which are not its own ends without an answer; a result that can't travel is said to."""
    with pytest.raises(TransientError, match=r"without an answer \(1\); run again"):
        child.in_child(lambda: os.closerange(3, 256))
    with pytest.raises(RuntimeError, match="pickle"):
        child.in_child(lambda: lambda: None)


def test_an_interrupt_ends_the_submitting_process() -> None:
    """Who is stopped while a child submits does not leave it behind to submit."""
    code = """
import os, signal, subprocess, sys, time
from millrace.core import child
def stop(*_): raise SystemExit(5)
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    child.in_child(lambda: time.sleep(60))
finally:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("no child")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=running.environment(), capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (5, "no child\n"), done


def run(code: str) -> "subprocess.CompletedProcess[str]":
    """A process of Python that runs some code, until all of its children have closed its output."""
    return subprocess.run(
        [sys.executable, "-c", code], env=running.environment(), capture_output=True, text=True, timeout=30
    )


def test_a_child_whose_parent_was_killed_does_not_go_on_in_its_place() -> None:
    """There is nobody to answer: the child ends, instead of becoming a second luigi in the middle of its work."""
    done = run("""
import os, signal
from millrace.core import child
def work():
    os.kill(os.getppid(), signal.SIGKILL)
    while os.getppid() == parent:
        pass
parent = os.getpid()
try:
    child.in_child(work)
finally:
    print("went on")
""")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")


def test_a_signal_in_the_moment_of_the_fork_only_ends_the_child() -> None:
    """Ctrl-C reaches both: the child does not do what its parent does then."""
    done = run("""
import os, signal
from millrace.errors import TransientError
from millrace.core import child
signal.signal(signal.SIGINT, lambda *_: print("handled by", "parent" if os.getpid() == parent else "child", flush=True))
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))
parent = os.getpid()
try:
    child.in_child(lambda: None)
except TransientError as error:
    print(error)
""")
    assert (done.returncode, done.stdout) == (0, "a process of this run ended without an answer (-2); run again\n"), (
        done
    )


def test_an_error_comes_alone_where_pickle_takes_along_what_came_before() -> None:
    """As it does in a process that has imported Dask, whose tblib teaches pickle so."""
    script = """
import tblib.pickling_support
from millrace.core import child
from millrace.errors import SourceError

tblib.pickling_support.install()

def work():
    try:
        error = ValueError("before")
        error.parser = lambda: None
        raise error
    except ValueError:
        raise SourceError("no such thing") from None

try:
    child.in_child(work)
except SourceError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("no such thing\n", 0), done.stderr
