"""Answer at a gate (a task Approval), where a flow waits for a person, or for an event from outside.

    bin/approve publish --date 2026-11-19 --by ann
    bin/approve publish --date 2026-11-19 --by ann --reject --reason 'half of the posts are missing'

The first answer counts, and the next run goes by it. Without --by it is yours, by your login name. All times are UTC.
"""

import datetime
import getpass
import re
import sys
from collections.abc import Sequence

import click

from millrace.common.text import moment, one_line, plain
from millrace.core import approvals
from millrace.core.approvals import APPROVED, REJECTED, Event, Gate, State
from millrace.errors import Command, SettingError
from millrace.ops import arguments
from millrace.tasks import advice, session

#: What a token lets people do, as the flag has it.
_ALLOWS = {"either": approvals.ANSWERS, "approve": (APPROVED,), "reject": (REJECTED,)}
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_SHORTEST, _LONGEST = datetime.timedelta(minutes=1), datetime.timedelta(days=30)


#: The examples as they are typed here, and as they stand.
_HELP = __doc__.replace("bin/", arguments.called()).replace("\n\n    ", "\n\n\b\n    ")


@click.command("approve", cls=arguments.Command, help=_HELP)
@click.argument("name", required=False)
@click.option("--date", metavar="DATE", help="the gate's day, YYYY-MM-DD; none for a gate without a day")
@click.option("--by", metavar="WHO", help="who answers; your login name unless given")
@click.option("--reject", is_flag=True, help="say no: what depends on the gate fails, until the gate is opened again")
@click.option("--reason", default="", metavar="TEXT", help="why; kept, and shown with the answer")
@click.option("--ahead", is_flag=True, help="also where no run has come to the gate yet")
@click.option("--reopen", is_flag=True, help="open a gate again that was answered; what was said is kept")
@click.option("--show", is_flag=True, help="only say how the gate stands, and all that happened at it")
@click.option("--list", "listed", is_flag=True, help="only say which gates wait; with a NAME those of that name")
@click.option("--token", is_flag=True, help="print a secret that answers the gate once, for a mail or a link")
@click.option("--expires", metavar="TIME", help="how long the secret answers, as in 90m, 48h or 7d; 48h unless given")
@click.option("--allows", type=click.Choice([*_ALLOWS]), help="what the secret may do; either unless given")
@click.option("--with-token", "secret", metavar="SECRET", help="answer the gate of a secret; - reads it from the input")
def command(
    name: str | None,
    date: str | None,
    by: str | None,
    reject: bool,
    reason: str,
    ahead: bool,
    reopen: bool,
    show: bool,
    listed: bool,
    token: bool,
    expires: str | None,
    allows: str | None,
    secret: str | None,
) -> int:
    """Do what the command line says; return the exit code."""
    given = {
        "--reject": reject,
        "--reason": reason,
        "--ahead": ahead,
        "--expires": expires,
        "--allows": allows,
        "--by": by,
    }
    modes = {"--reopen": reopen, "--show": show, "--list": listed, "--token": token, "--with-token": secret is not None}
    mode = _mode(modes, {flag for flag, value in given.items() if value})
    day = None if date is None else arguments.day(date, "--date", datetime.date.min)
    if mode == "--with-token":
        if name or day:
            raise click.UsageError("--with-token takes no NAME and no --date, because the secret names its gate")
        return _answer_with(str(secret), reject, _who(by), reason)
    if mode == "--list":
        return _list(name and _named(name), day)
    if not name:
        raise click.UsageError("no gate is named; --list says which wait")
    gate = Gate(_named(name), day)
    if mode == "--show":
        return _show(gate)
    if mode == "--reopen":
        return _reopen(gate, _who(by), reason)
    if mode == "--token":
        return _token(gate, _who(by), _lasting(expires or "48h"), _ALLOWS[allows or "either"], ahead)
    kind = REJECTED if reject else APPROVED
    return _tell(gate, *approvals.answer(session.current().storage, gate, kind, _who(by), reason, ahead=ahead))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    return arguments.run(command, argv)


#: What each mode takes besides the gate; "" is to answer.
_TAKES = {
    "": {"--by", "--reject", "--reason", "--ahead"},
    "--with-token": {"--by", "--reject", "--reason"},
    "--reopen": {"--by", "--reason"},
    "--token": {"--by", "--expires", "--allows", "--ahead"},
    "--show": set[str](),
    "--list": set[str](),
}


def _mode(modes: dict[str, bool], given: set[str]) -> str:
    """Return which of some flags, of which one at most makes sense, is given. Raises click.UsageError."""
    chosen = [flag for flag, is_given in modes.items() if is_given]
    if chosen[1:]:
        raise click.UsageError(f"{chosen[0]} and {chosen[1]} exclude each other")
    mode = chosen[0] if chosen else ""
    if others := sorted(given - _TAKES[mode]):
        raise click.UsageError(f"{others[0]} means nothing {f'with {mode}' if mode else 'here'}")
    return mode


def _named(name: str) -> str:
    try:
        return approvals.name_of(name)
    except ValueError as error:
        raise SettingError(f"{name!r} is no name of a gate: {error}") from None


def _who(by: str | None) -> str:
    """Return who answers. Raises SettingError where nobody is named."""
    if by is None:
        try:
            return getpass.getuser()
        except (OSError, KeyError, ImportError):  # a container's user that has no name
            return ""
    return by


def _lasting(text: str) -> datetime.timedelta:
    """Return how long a token answers. Raises SettingError."""
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text.strip())
    lasting = datetime.timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else datetime.timedelta()
    if not _SHORTEST <= lasting <= _LONGEST:
        raise SettingError(f"--expires = {text!r}: allowed is a time from 1m to 30d, as in 90m, 48h or 7d")
    return lasting


def _tell(gate: Gate, answer: Event, new: bool) -> int:
    """Print the answer that counts; return 0, because what was asked for is so, by now or since before."""
    print(plain(f"{gate}: {answer}"))
    if not new:
        print("note: this was said before; nothing was changed", file=sys.stderr)
    return 0


def _answer_with(secret: str, reject: bool, by: str, reason: str) -> int:
    if secret == "-":  # so that nobody sees it in the list of processes
        secret = sys.stdin.readline() if sys.stdin else ""
    kind, storage, secret = REJECTED if reject else APPROVED, session.current().storage, secret.strip()
    answer, new = approvals.answer_with_token(storage, secret, kind, by, reason)
    return _tell(approvals.look_up(storage, secret)[0].gate, answer, new)


def _reopen(gate: Gate, by: str, reason: str) -> int:
    state, before = approvals.reopen(session.current().storage, gate, by, reason)
    print(plain(f"{gate}: opened again" if before else str(state)))
    if before:
        print(plain(f"note: it was {before}, which does not count any more"), file=sys.stderr)
    else:
        print("note: it was open; nothing was changed", file=sys.stderr)
    return 0


def _token(gate: Gate, by: str, lasts: datetime.timedelta, allows: Sequence[str], ahead: bool) -> int:
    secret, event = approvals.make_token(session.current().storage, gate, by, lasts, allows, ahead=ahead)
    print(secret)
    use = advice.spelled(Command("approve", ["--with-token", "-"]))
    what = f"to {approvals.allowed(event)} gate {gate}, once, until {moment(event.expires)}"
    print(plain(f"note: it is {what}, and can't be shown again; {use} reads it from its input"), file=sys.stderr)
    return 0


def _list(name: str | None, day: datetime.date | None) -> int:
    """Print the gates that wait; return 0, or 1 where one can't be read.

    Where nothing waits that is told at a terminal alone, because cron mails whatever is printed.
    """
    waiting, wrong = 0, 0
    for each in approvals.gates(session.current().storage, name or ""):
        if not isinstance(each, State):
            wrong = 1
            print(f"error: {one_line(str(each))}", file=sys.stderr)
        elif each.waits and day in (None, each.gate.date):
            waiting += 1
            print(plain(str(each)))
    if not waiting and sys.stdout.isatty():
        print("nothing waits")
    return wrong


def _show(gate: Gate) -> int:
    state = approvals.read(session.current().storage, gate)
    print(plain(str(state)))
    for event in state.events.values():
        print(plain(f"  {event} ({event.host}, process {event.pid})"))
    return 0
