"""What a person sees of a luigi run: a line a stage, one sentence an error, and the scheduler that was meant.

What is logged, and what this module prints, is safe to show: texts of servers and posts can't act on a terminal.
"""

import contextlib
import fcntl
import gc
import logging
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from typing import Any

import luigi
from luigi.configuration import get_config
from luigi.parameter import UnconsumedParameterWarning

from millrace import errors
from millrace.common.secrets import redacted
from millrace.common.text import one_line, plain
from millrace.core import resources
from millrace.core.stopping import Stopped
from millrace.tasks import ending, progress, scheduler, signals
from millrace.tasks.settings import in_luigi_command

_GONE = re.compile(r"^Unfulfilled dependenc(?:y|ies) at run time: (.*)", re.DOTALL)
_OURS_IN_TRACEBACK = re.compile(r"^millrace\.errors\.\w+: (.*)$", re.MULTILINE)
#: A nameless file with the sentences that this run, in whichever of its processes, has said, a line each.
_said: int | None = None
#: Of the handler that luigi makes where luigi.cfg does not say how to log.
_LUIGIS_FORMAT = "%(levelname)s: %(message)s"
_SCHEDULER_KEYS = (
    "scheduler_host",
    "default-scheduler-host",
    "default_scheduler_host",
    "scheduler_url",
    "default-scheduler-url",
)


#: What holds where luigi.cfg says nothing else. luigi's own defaults let a failed run exit 0, stop a second run of the
#: same command anywhere on the machine, where the ledger would let it wait for the first one's results, try again in a
#: long run what failed in it, and wait for a minute before a luigid that does not answer is given up.
_DEFAULTS = {
    "core": {"no_lock": "true", "rpc_retry_wait": "2"},
    "scheduler": {"retry_delay": "-1"},
    # A mail a failed run, by mail.py, is enough: luigi's own would be one a task, with the stack of each.
    "worker": {"check_complete_on_run": "true", "send_failure_email": "false"},
    "retcode": {
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
}


def install() -> None:
    """Set up the run of which this import is a part, once; do nothing outside a luigi command."""
    global _said
    if not in_luigi_command() or _said is not None:
        return
    with tempfile.TemporaryFile() as nameless:
        _said = os.dup(nameless.fileno())
    # What is imported and scheduled stays to the end: the collector would look through it many times for nothing, and
    # its last look would be a tenth of a short command. It works again from when tasks run (workers.py).
    gc.disable()
    gc.freeze()
    progress.install()
    interface = logging.getLogger("luigi-interface")
    interface.addFilter(_of_luigi)
    interface.propagate = False
    logging.getLogger("apache_beam.runners.common").addFilter(_not_ours)
    ours = logging.getLogger("millrace")
    if not ours.handlers:
        handler = Lines()
        handler.setFormatter(Safe("%(asctime)s  %(message)s", "%H:%M:%SZ"))
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)
        ours.propagate = False
    config = get_config()
    for section, values in _DEFAULTS.items():
        for key, value in values.items():
            if not (config.has_option(section, key) or config.has_option(section, key.replace("_", "-"))):
                config.set(section, key, value)
    if logging.lastResort:
        logging.lastResort.setFormatter(Safe(keep="\n\t"))
    # Settings raises an error for such a key, or knows that somebody else reads it.
    warnings.filterwarnings("ignore", category=UnconsumedParameterWarning)
    # luigi warns of its own ranges' default.
    warnings.filterwarnings("ignore", 'Parameter "param_name" with value "None"', UserWarning)
    _choose_scheduler()
    scheduler.install()
    luigi.Task.event_handler(luigi.Event.PROCESS_FAILURE)(_died)  # luigi alone would keep that for its log
    signals.install()
    ending.install(_sentences)


def _choose_scheduler() -> None:
    """Choose the scheduler in this process unless a server is named, because luigi asks for a server unless told
    otherwise.
    """
    config = get_config()
    named = any(config.has_option("core", key) for key in _SCHEDULER_KEYS)
    flagged = any(argument.startswith(("--scheduler-", "--core-scheduler-")) for argument in sys.argv[1:])
    if not config.has_option("core", "local_scheduler") and not config.has_option("core", "local-scheduler"):
        config.set("core", "local_scheduler", str(not (named or flagged)).lower())


class Safe(logging.Formatter):
    """A log's lines with nothing in them that acts on a terminal or forges a line, their times in UTC.

    keep: control characters that are the log's own, and not only of the traceback of a bug.
    """

    def __init__(self, fmt: str | None = None, datefmt: str | None = None, *, keep: str = "") -> None:
        super().__init__(fmt, datefmt)
        self.converter = time.gmtime
        self._keep = keep

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record), keep="\n\t" if record.exc_info else self._keep)


class _OfLuigi(Safe):
    """What luigi says, with its level only where something is wrong."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text.strip() if record.levelno < logging.WARNING else f"{record.levelname}: {text}"


class Lines(logging.StreamHandler[Any]):
    """Writes to standard error, above the line that shows how far the run is where that is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(progress.above(self.format(record) + "\n"))
            self.flush()
        except Exception:
            self.handleError(record)


def _of_luigi(record: logging.LogRecord) -> bool:
    """Return whether what luigi says is shown: its summary, and what is wrong."""
    progress.follow(record)
    _take_over()
    shown = _one_sentence(record)
    if "Luigi Execution Summary" in record.getMessage():
        progress.end()
        return record.module == ending.__name__.rpartition(".")[2]  # luigi's own words come a moment before ours
    return shown and record.levelno >= logging.WARNING


def _take_over() -> None:
    """Put our handler in place of the one that luigi makes, some time after install(), where luigi.cfg names none."""
    interface = logging.getLogger("luigi-interface")
    for handler in interface.handlers:
        if type(handler) is logging.StreamHandler and handler.formatter and handler.formatter._fmt == _LUIGIS_FORMAT:
            lines = Lines()
            lines.setLevel(handler.level)
            lines.setFormatter(_OfLuigi(keep="\n\t"))
            interface.handlers = [lines if other is handler else other for other in interface.handlers]


def _one_sentence(record: logging.LogRecord) -> bool:
    """Show an error that is meant for people as it is, without the stack that led to it; return whether to show the
    record.
    """
    error = raised = record.exc_info[1] if record.exc_info else None
    task = record.args[-1] if isinstance(record.args, tuple) and record.args else None
    shown, about = "", f"{task}: " if task is not None else ""
    while error is not None and not isinstance(error, errors.MillraceError | Stopped):
        error = error.__cause__
    if error is not None:
        shown = one_line(str(error))
        record.msg, record.args = about + shown, ()
        record.exc_info = record.exc_text = None
    elif found := _GONE.findall(str(raised)):
        shown = f"{about}what it needs has gone since the run began: {one_line(found[0])}; run again"
        record.msg, record.args = shown, ()
        record.exc_info = record.exc_text = None
    elif found := _OURS_IN_TRACEBACK.findall(record.getMessage()):
        shown = one_line(found[-1])
        record.msg, record.args = shown, ()
        record.levelno, record.levelname = logging.ERROR, "ERROR"
    elif record.levelno >= logging.WARNING and (bug := _bug(record)):
        _first_time(f"{one_line(about + bug)} (a bug, or an input that nobody thought of: the log has its traceback)")
        if record.exc_info and task is not None:
            record.msg, record.args = f"{about}{bug}", ()
    elif record.levelno >= logging.ERROR:
        _first_time(one_line(record.getMessage()))
    return not shown or _first_time(shown)  # what stops many tasks is said once; the summary names them


def _bug(record: logging.LogRecord) -> str:
    """Return the last line of the traceback that a record shows, if any, without the secrets of a URL in it."""
    text = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else record.getMessage()
    last = text.rstrip().rpartition("\n")[2]
    return one_line(redacted(last), 500) if "Traceback (most recent call last)" in text else ""


def _not_ours(record: logging.LogRecord) -> bool:
    """Return whether a record is none of those in which Beam shows a worker's stack, before it raises the same error
    again.
    """
    error = record.exc_info[1] if record.exc_info else None
    return error is None or not (isinstance(error, errors.MillraceError) or resources.exhausted(error))


def _first_time(sentence: str) -> bool:
    """Return whether no process of this run has said this yet."""
    if _said is None:
        return True
    fcntl.lockf(_said, fcntl.LOCK_EX)
    try:
        if sentence in _sentences():
            return False
        with contextlib.suppress(OSError):  # on a full disk it is said more than once
            os.pwrite(_said, f"{sentence}\n".encode(), os.fstat(_said).st_size)
        return True
    finally:
        fcntl.lockf(_said, fcntl.LOCK_UN)


def _sentences() -> list[str]:
    """Return what went wrong so far in this run, in whichever of its processes."""
    return os.pread(_said, os.fstat(_said).st_size, 0).decode().split("\n")[:-1] if _said is not None else []


def print_error(error: BaseException) -> int:
    """Print an error as one sentence, or as it is if it is a bug; return the exit code, 1. For commands of our own."""
    if isinstance(error, errors.MillraceError):
        sentence = one_line(str(error))
        _first_time(sentence)  # for the mail, where this is what a run ended with
        print(f"error: {sentence}", file=sys.stderr)
    else:
        print(plain("".join(traceback.format_exception(error)), keep="\n\t"), file=sys.stderr, end="")
    return 1


def _died(task: luigi.Task, message: str) -> None:
    found = re.search(r"exit code (-?\d+)", message)
    what = resources.killed(int(found[1])) if found else message
    logging.getLogger("luigi-interface").error("%s: its process %s; run again", task, what)
