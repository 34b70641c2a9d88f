"""Gates: where a flow waits for a person, or for an event from outside, and what was answered there.

    _approvals/publish/date=2026-11-19/0001.json   asked: the first run that came to the gate
                                       0002.json   rejected, by ann, because …
                                       0003.json   reopened, by bob: from here on ann's answer does not count
                                       0004.json   approved, by ann

What happens at a gate is an event, and events are small files, numbered. Each is written if there is none of its
number yet, and none is ever changed or deleted. So of two answers at once one is the first, and the second is refused
by what the first has written; a process that dies has written its event whole or not at all; and what was said before
a gate was opened again is not lost.

A token is a secret that answers one gate once. Only its digest is stored, as an event of the gate. An answer ends all
tokens of the gate, and so does opening the gate again: no token is older than what it answers.
"""

import dataclasses
import datetime
import difflib
import hashlib
import hmac
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.common import folders
from millrace.common.text import moment, one_line
from millrace.core.ledger import now
from millrace.core.storage import Storage, crc32c, read_all
from millrace.errors import Command, ConflictError, DamagedError, ManifestError, RejectedError, SettingError

FOLDER = "_approvals"
FORMAT = 1
#: What can happen at a gate.
ASKED, TOKEN, APPROVED, REJECTED, REOPENED = "asked", "token made", "approved", "rejected", "reopened"
ANSWERS = (APPROVED, REJECTED)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
ALLOWED = "a word of letters, digits, '.', '_' and '-', at most 63 of them, the first one a letter or a digit"
#: The folder of a gate without a day, and what stands for the day in its tokens.
_NO_DATE = "no-date"
_FILE = re.compile(r"(\d{4,9})\.json")
_LONGEST_NAME, _LONGEST_REASON = 200, 2000
#: How many of the gates that wait a sentence names.
_FEW = 5


def name_of(text: str) -> str:
    """Return the name of a gate. Raises ValueError for a text that is none."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"allowed is {ALLOWED}")
    return text


@dataclass(frozen=True, order=True)
class Gate:
    """A gate: its name, and its day if it has one."""

    name: str
    date: datetime.date | None = None

    @property
    def folder(self) -> str:
        """Where its events lie. A name of a gate is safe in a path, and none is the folder of another gate."""
        return f"{FOLDER}/{self.name}/{folders.of(self.date) if self.date else _NO_DATE}"

    @property
    def arguments(self) -> list[str]:
        """What bin/approve takes for it."""
        return [self.name, *(["--date", str(self.date)] if self.date else [])]

    def __str__(self) -> str:
        return f"{self.name} of {self.date}" if self.date else self.name


@dataclass(frozen=True)
class Event:
    """Something that happened at a gate.

    by: the person, or what else answered; of ASKED the task that the run was for. at: UTC, ISO 8601. host, pid: where
    that was written. digest: the SHA-256 (hex) of the token that was made, or that answered. expires: until when a
    token answers. allows: the answers that a token gives. id: what tells an event from one that says the same.
    """

    name: str
    date: str
    kind: str
    by: str
    at: str
    reason: str = ""
    host: str = ""
    pid: int = 0
    digest: str = ""
    expires: str = ""
    allows: Sequence[str] = ()
    id: str = ""
    format: int = FORMAT

    def __str__(self) -> str:
        """Return what happened, in words: approved by ann at 2026-11-20 07:12:03Z: looks right."""
        by = {ASKED: "asked for by", TOKEN: f"token made, to {allowed(self)} until {moment(self.expires)}, by"}
        means = " with a token" if self.digest and self.kind in ANSWERS else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{by.get(self.kind, f'{self.kind} by')} {self.by}{means} at {moment(self.at)}{reason}"


@dataclass(frozen=True)
class State:
    """What has happened at a gate, by the numbers of the events."""

    gate: Gate
    events: Mapping[int, Event] = field(default_factory=dict)

    @property
    def answer(self) -> Event | None:
        """The answer that counts: the first one since the gate was last opened again."""
        return next((event for event in self._round() if event.kind in ANSWERS), None)

    @property
    def asked(self) -> Event | None:
        """What first asked."""
        return next((event for event in self.events.values() if event.kind == ASKED), None)

    @property
    def waits(self) -> bool:
        """Whether somebody has asked, and nobody has answered."""
        return self.asked is not None and self.answer is None

    @property
    def since(self) -> str:
        """Since when it waits: UTC, ISO 8601; "" where nobody has asked."""
        opened = [event.at for event in self._round()[:1] if event.kind == REOPENED]
        return max([self.asked.at, *opened]) if self.asked else ""

    def _round(self) -> list[Event]:
        """Return what has happened since the gate was last opened again, and that."""
        found: list[Event] = []
        for event in self.events.values():
            found = [event] if event.kind == REOPENED else [*found, event]
        return found

    def token(self, digest: str) -> Event | None:
        """Return the event of the token that has a digest, however old."""
        made = [event for event in self.events.values() if event.kind == TOKEN]
        # All are compared, each in constant time, so that how long that takes tells nothing of a digest.
        found = [event for event in made if hmac.compare_digest(event.digest, digest)]
        return found[0] if found else None

    def is_void(self, token: Event) -> bool:
        """Return whether the gate was opened again since a token was made."""
        return token not in self._round()

    def __str__(self) -> str:
        """Return how the gate stands, in words."""
        if self.answer:
            return f"{self.gate}: {self.answer}"
        if self.asked:
            return f"{self.gate}: waiting since {moment(self.since)}, asked for by {self.asked.by}"
        return f"{self.gate}: nobody has asked"


def read(storage: Storage, gate: Gate) -> State:
    """Return what has happened at a gate. Raises ManifestError for what is no event of it."""
    numbers = sorted(int(found[1]) for each in storage.names(gate.folder) if (found := _FILE.fullmatch(each)))
    return _state(storage, gate, [_path(gate, number) for number in numbers])


def gates(storage: Storage, name: str = "") -> Iterator[State | ManifestError]:
    """Yield what has happened at all gates, or at those of a name; the error that says what is wrong in place of one.

    They come in the order of how long they wait, or have been answered.
    """
    paths: dict[Gate, list[str]] = {}
    for path in storage.list(f"{FOLDER}/{name}".rstrip("/")):
        if gate := _gate_of(path):
            paths.setdefault(gate, []).append(path)
    states: list[State] = []
    for gate, each in paths.items():
        try:
            states.append(_state(storage, gate, each))
        except ManifestError as error:
            yield error
    yield from sorted(states, key=lambda state: (state.since, state.gate.name, str(state.gate.date)))


def ask(storage: Storage, gate: Gate, by: str) -> State:
    """Note that a run has come to a gate, if that is not known yet; return how the gate stands. by: what the run is
    for.
    """

    def asked(state: State) -> Event | None:
        return None if state.answer or state.asked else _event(gate, ASKED, by)

    return _happen(storage, gate, asked)


def answer(
    storage: Storage, gate: Gate, kind: str, by: str, reason: str = "", *, ahead: bool = False
) -> tuple[Event, bool]:
    """Approve or reject a gate; return the answer that counts, and whether it is a new one.

    ahead: whether that may be before anybody has asked. Raises ConflictError where somebody else, or another answer,
    was first, SettingError where nobody waits.
    """
    event = _event(gate, kind, by, reason=reason)

    def answered(state: State) -> Event | None:
        if _is_given(state, event):
            return None
        if not ahead:
            _check_asked(storage, state, _answering(event))
        return event

    return _answered(_happen(storage, gate, answered), event)


def reopen(storage: Storage, gate: Gate, by: str, reason: str = "") -> tuple[State, Event | None]:
    """Open a gate again; return how it stands, and the answer that does not count any more, None where there was none.

    Raises SettingError where nobody has asked or answered.
    """
    before: list[Event | None] = []

    def reopened(state: State) -> Event | None:
        before[:] = [state.answer]
        if state.answer is None:
            _check_asked(storage, state)
            return None
        return _event(gate, REOPENED, by, reason=reason)

    return _happen(storage, gate, reopened), before[0]


def make_token(
    storage: Storage,
    gate: Gate,
    by: str,
    lasts: datetime.timedelta,
    allows: Sequence[str] = ANSWERS,
    *,
    ahead: bool = False,
) -> tuple[str, Event]:
    """Return a secret that answers a gate once, and what is known of it; nobody can be told the secret again.

    It names the gate, and holds nothing that a link would not. Raises ConflictError where the gate has been answered,
    SettingError where nobody waits.
    """
    secret = f"{gate.name}.{gate.date or _NO_DATE}.{secrets.token_urlsafe(32)}"
    expires = (datetime.datetime.now(datetime.UTC) + lasts).isoformat(timespec="milliseconds")
    event = _event(gate, TOKEN, by, digest=_digest(secret), expires=expires, allows=tuple(allows))

    def made(state: State) -> Event:
        if state.answer:
            raise _was_answered(state)
        if not ahead:
            more = ["--token", *(["--allows", _TO[allows[0]]] if len(allows) == 1 else [])]
            _check_asked(storage, state, more)
        return event

    _happen(storage, gate, made)
    return secret, event


def look_up(storage: Storage, secret: str) -> tuple[State, Event]:
    """Return how the gate of a token stands, and what is known of the token. Raises SettingError for an unknown one."""
    gate = _gate_of_token(secret)
    state = read(storage, gate) if gate else None
    token = state.token(_digest(secret)) if state else None
    if state is None or token is None:
        raise SettingError(
            "this token opens nothing in this storage; copy all of it, and see that the storage is the one that it was "
            "made for"
        )
    return state, token


def answer_with_token(storage: Storage, secret: str, kind: str, by: str, reason: str = "") -> tuple[Event, bool]:
    """Approve or reject the gate of a token; return the answer that counts, and whether it is a new one.

    Raises SettingError for a token that is unknown, expired, or for something else; ConflictError where somebody else,
    or another answer, was first.
    """
    gate, digest = look_up(storage, secret)[0].gate, _digest(secret)
    event = _event(gate, kind, by, reason=reason, digest=digest)

    def answered(state: State) -> Event | None:
        token = state.token(digest)
        if _is_given(state, event):
            return None
        check_token(state, token, kind)
        return event

    return _answered(_happen(storage, gate, answered), event)


def check_token(state: State, token: Event | None, kind: str = "") -> None:
    """Raise SettingError for a token that does not answer its gate any more, or not in this way."""
    if token is None or state.is_void(token):
        raise SettingError(
            f"this token is of no use any more: gate {state.gate} was opened again after the token was made",
            Command("approve", [*state.gate.arguments, "--token"]),
            mend="{0} makes another",
        )
    if datetime.datetime.now(datetime.UTC) >= datetime.datetime.fromisoformat(token.expires):
        raise SettingError(
            f"this token for gate {state.gate} has expired at {moment(token.expires)}",
            Command("approve", [*state.gate.arguments, "--token"]),
            mend="{0} makes another",
        )
    if kind and kind not in token.allows:
        raise SettingError(f"this token was made to {allowed(token)} gate {state.gate}, and for nothing else")


def check(state: State) -> bool:
    """Return whether a gate was approved. Raises RejectedError where it was rejected."""
    if state.answer and state.answer.kind == REJECTED:
        raise RejectedError(
            f"gate {state.gate} was {state.answer}",
            Command("approve", [*state.gate.arguments, "--reopen"]),
            mend="{0} opens it again",
        )
    return state.answer is not None


# --- how an event comes about

#: What a token, or a person, does by an answer.
_TO = {APPROVED: "approve", REJECTED: "reject"}


def allowed(token: Event) -> str:
    """Return what a token does, in words: approve or reject."""
    return " or ".join(_TO.get(kind, kind) for kind in token.allows)


def _event(gate: Gate, kind: str, by: str, **about: Any) -> Event:
    """Return an event of now. Raises SettingError for one that nobody has brought about."""
    who, reason = one_line(by, _LONGEST_NAME), one_line(about.pop("reason", ""), _LONGEST_REASON)
    if not who:
        raise SettingError(f"nobody is named for gate {gate}", mend="say who it is with --by")
    day = str(gate.date or "")
    here: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "id": secrets.token_hex(8)}
    return Event(gate.name, day, kind, who, now(), reason, **here, **about)


def _happen(storage: Storage, gate: Gate, what: Callable[[State], Event | None]) -> State:
    """Write the event that follows from how a gate stands, None for none; return how it stands then.

    Where somebody else writes in between, what follows is asked anew.
    """
    state = read(storage, gate)
    while (event := what(state)) is not None:
        number = max(state.events, default=0) + 1
        try:
            storage.create(_path(gate, number), _to_json(event))
        except ConflictError:
            before, state = state, read(storage, gate)
            if len(state.events) == len(before.events):  # what is there is no event, and will be there again
                raise
            continue
        return State(gate, {**state.events, number: event})
    return state


def _is_given(state: State, event: Event) -> bool:
    """Return whether a gate has the same answer, by the same person, already. Raises ConflictError for another one."""
    if state.answer and (state.answer.kind, state.answer.by) != (event.kind, event.by):
        raise _was_answered(state)
    return state.answer is not None


def _was_answered(state: State) -> ConflictError:
    return ConflictError(
        f"gate {state.gate} was {state.answer}; nothing was changed",
        Command("approve", [*state.gate.arguments, "--reopen"]),
        mend="{0} opens it again",
    )


def _answered(state: State, event: Event) -> tuple[Event, bool]:
    assert state.answer is not None
    return state.answer, state.answer.id == event.id


def _check_asked(storage: Storage, state: State, ahead: Sequence[str] = ()) -> None:
    """Raise SettingError where no run has come to a gate yet, because most likely the name is misspelt.

    ahead: what bin/approve takes besides, to do all the same what was asked for.
    """
    if state.asked:
        return
    others = [each.gate for each in gates(storage) if isinstance(each, State) and each.waits]
    near = _nearest(state.gate, others)
    meant = f"did you mean {near}? Waiting" if near else "waiting"
    named = ", ".join(map(str, others[:_FEW])) + (f" and {len(others) - _FEW} more" if others[_FEW:] else "")
    raise SettingError(
        f"nobody waits at gate {state.gate}: {meant} in {storage.uri('').rstrip('/')} "
        + (f"{'are' if others[1:] else 'is'} {named}" if others else "is none"),
        *([Command("approve", [*state.gate.arguments, *ahead, "--ahead"])] if ahead else []),
        mend="{0} does it before anybody asks" if ahead else "",
    )


def _nearest(gate: Gate, others: Sequence[Gate]) -> Gate | None:
    """Return the gate that was most likely meant."""
    names = {each.name.lower(): each.name for each in others}
    for near in difflib.get_close_matches(gate.name.lower(), names, 1):
        alike = [each for each in others if each.name.lower() == near]
        return next((each for each in alike if each.date == gate.date), alike[0])
    return None


def _answering(event: Event) -> list[str]:
    """Return what bin/approve takes for an answer, besides the gate."""
    reject = ["--reject"] if event.kind == REJECTED else []
    return [*reject, "--by", event.by, *(["--reason", event.reason] if event.reason else [])]


# --- how an event is written


def _path(gate: Gate, number: int) -> str:
    return f"{gate.folder}/{number:04}.json"


def _gate_of(path: str) -> Gate | None:
    """Return the gate that a file is an event of; None for any other file."""
    parts = path.split("/")
    if len(parts) != 4 or not _NAME.fullmatch(parts[1]) or not _FILE.fullmatch(parts[3]):
        return None
    try:
        gate = Gate(parts[1], folders.date_of(parts[2]))
    except ValueError:
        return None
    return gate if path.startswith(f"{gate.folder}/") else None


def _gate_of_token(secret: str) -> Gate | None:
    """Return the gate that a token names; None for what can be no token."""
    name, date = secret.rsplit(".", 2)[:2] if secret.count(".") > 1 else ("", "")
    try:
        return Gate(name_of(name), None if date == _NO_DATE else datetime.date.fromisoformat(date))
    except ValueError:
        return None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _to_json(event: Event) -> bytes:
    value = dataclasses.asdict(event)
    return json.dumps({**value, "checksum": _checksum(value)}, indent=1, sort_keys=True).encode() + b"\n"


def _checksum(value: Mapping[str, Any]) -> str:
    return crc32c(json.dumps(value, sort_keys=True).encode())


def _state(storage: Storage, gate: Gate, paths: Sequence[str]) -> State:
    found = zip(paths, read_all(storage, paths), strict=True)
    return State(gate, {_number(path): _parsed(storage, gate, path, file.data) for path, file in found if file})


def _number(path: str) -> int:
    return int(path.rpartition("/")[2].partition(".")[0])


def _parsed(storage: Storage, gate: Gate, path: str, data: bytes) -> Event:
    """Return an event as it was written. Raises ManifestError for what is none, or one of another gate.

    Neither may pass for an answer.
    """
    where, mend = storage.uri(path), "take that file away, then look with {0} what is to be said anew"
    show = Command("approve", [*gate.arguments, "--show"])
    try:
        value: dict[str, Any] = json.loads(data)
        written = value.get("format")
        if written != FORMAT:
            raise ManifestError(f"{where} has format {written}; this Millrace reads {FORMAT}")
        if value.pop("checksum") != _checksum(value):
            raise DamagedError(f"{where} is damaged: it is not as it was written", show, mend=mend)
        # A later version may have written more: what this one knows still holds.
        known = {key: each for key, each in value.items() if key in Event.__dataclass_fields__}
        event = Event(**{**known, "allows": tuple(known["allows"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DamagedError(f"{where} is damaged: it is no event of a gate", show, mend=mend) from None
    if (event.name, event.date) != (gate.name, str(gate.date or "")):
        other = Gate(event.name, datetime.date.fromisoformat(event.date) if event.date else None)
        raise ManifestError(f"{where} is of gate {other}, and so no event of {gate}", show, mend=mend)
    return event
