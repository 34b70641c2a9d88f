"""What a person sees of a luigi run: a line a stage, one sentence an error, and the scheduler that was meant."""

import fcntl
import hashlib
import logging
import os
import re
import sys
import tempfile
import traceback
import warnings

from luigi.configuration import get_config
from luigi.parameter import UnconsumedParameterWarning

from pipelines import errors
from workflows.engine import scheduler, staleness, stopping
from workflows.engine.settings import in_luigi_command

_OURS_IN_TRACEBACK = re.compile(r"^pipelines\.errors\.\w+: (.*)$", re.MULTILINE)
#: A nameless file with the digests of the sentences that this run, in whichever of its processes, has said.
_said: int | None = None
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
    "worker": {"check_complete_on_run": "true"},
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
    """Sets up the run of which this import is a part; does nothing outside a luigi command."""
    if not in_luigi_command():
        return
    global _said
    with tempfile.TemporaryFile() as nameless:
        _said = os.dup(nameless.fileno())
    interface = logging.getLogger("luigi-interface")
    interface.addFilter(_one_sentence)
    interface.addFilter(_summary_and_trouble)
    interface.propagate = False
    logging.getLogger("apache_beam.runners.common").addFilter(_not_ours)
    ours = logging.getLogger("millrace")
    if not ours.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)
        ours.propagate = False
    config = get_config()
    for section, values in _DEFAULTS.items():
        for key, value in values.items():
            if not (config.has_option(section, key) or config.has_option(section, key.replace("_", "-"))):
                config.set(section, key, value)
    # Settings says it with an error, or knows that it is somebody else's key.
    warnings.filterwarnings("ignore", category=UnconsumedParameterWarning)
    _choose_scheduler()
    scheduler.install()
    stopping.install()
    staleness.install()


def _choose_scheduler() -> None:
    """luigi asks for a server unless told otherwise; we ask for one only where it is named."""
    config = get_config()
    named = any(config.has_option("core", key) for key in _SCHEDULER_KEYS)
    flagged = any(argument.startswith(("--scheduler-", "--core-scheduler-")) for argument in sys.argv[1:])
    if not config.has_option("core", "local_scheduler") and not config.has_option("core", "local-scheduler"):
        config.set("core", "local_scheduler", str(not (named or flagged)).lower())


def _one_sentence(record: logging.LogRecord) -> bool:
    """An error that is meant for people is shown as it is, without the stack that led to it."""
    error = record.exc_info[1] if record.exc_info else None
    shown = ""
    while error is not None and not isinstance(error, errors.MillraceError | stopping.Stopped):
        error = error.__cause__
    if error is not None:
        task = record.args[-1] if isinstance(record.args, tuple) and record.args else None
        shown = str(error)
        record.msg, record.args = f"{task}: {shown}" if task is not None else shown, ()
        record.exc_info = record.exc_text = None
    elif found := _OURS_IN_TRACEBACK.findall(record.getMessage()):
        shown = found[-1]
        record.msg, record.args = shown, ()
        record.levelno, record.levelname = logging.ERROR, "ERROR"
    return not shown or _first_time(shown)  # what stops many tasks is said once; the summary names them


def _not_ours(record: logging.LogRecord) -> bool:
    """Beam shows the stack of whatever a worker raises, before it raises that again."""
    return not (record.exc_info and isinstance(record.exc_info[1], errors.MillraceError))


def _first_time(sentence: str) -> bool:
    """Whether no process of this run has said this yet."""
    if _said is None:
        return True
    mark = hashlib.sha256(sentence.encode()).digest()
    fcntl.lockf(_said, fcntl.LOCK_EX)
    try:
        size = os.fstat(_said).st_size
        marks = os.pread(_said, size, 0)
        if mark in (marks[at : at + len(mark)] for at in range(0, size, len(mark))):
            return False
        os.pwrite(_said, mark, size)
        return True
    finally:
        fcntl.lockf(_said, fcntl.LOCK_UN)


def _summary_and_trouble(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or "Luigi Execution Summary" in record.getMessage()


def print_error(error: BaseException) -> int:
    """For commands of our own: shows an error as one sentence, or as it is if it is a bug; the exit code, 1."""
    if isinstance(error, errors.MillraceError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    return 1
