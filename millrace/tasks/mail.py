"""The mail of a run that failed: one, with what the run said, by luigi's own settings ([email] and [smtp])."""

import logging
import socket
import warnings
from collections.abc import Sequence

from luigi import notifications

log = logging.getLogger("millrace")


def send(task: str, sentences: Sequence[str]) -> None:
    """Send the mail to whom luigi.cfg says: to nobody where it names none, or where a person sees the run on a
    terminal.

    task: what was to be run. sentences: what went wrong, each said once.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # luigi warns of its own defaults
        _send(task, sentences)


def _send(task: str, sentences: Sequence[str]) -> None:
    if not notifications.email().receiver:
        return
    host = socket.gethostname()
    body = [
        f"{task} failed on {host}:",
        "",
        *(sentences or ["no task said why; the end of the log may tell"]),
        "",
        "When that is mended, the same command goes on from here. What the messages mean: docs/operation.md.",
    ]
    try:
        notifications.send_error_email(f"{task} failed on {host}", "\n".join(body) + "\n")
    except Exception as error:  # whatever a mail server answers, the run has failed for another reason
        log.warning("the mail about it could not be sent ([email], [smtp]): %s", error)
