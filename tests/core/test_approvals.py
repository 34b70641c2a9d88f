"""Gates without luigi: what counts as an answer, what does not, and what tokens are good for. On real files."""

import datetime
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import running

from millrace.common.text import moment
from millrace.core import approvals
from millrace.core.approvals import APPROVED, REJECTED, Gate
from millrace.core.storage import LocalStorage
from millrace.errors import ConflictError, DamagedError, ManifestError, MillraceError, RejectedError, SettingError

DAY = datetime.date(2026, 11, 19)
PUBLISH = Gate("publish", DAY)
TWO_DAYS = datetime.timedelta(days=2)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """An empty storage, in a folder whose name means something elsewhere."""
    return LocalStorage(str(tmp_path / "date=2020-01-01" / "it's {0} 50% data"))


@pytest.fixture
def asked(storage: LocalStorage) -> LocalStorage:
    """A storage in which a gate waits."""
    approvals.ask(storage, PUBLISH, "Report 2026-11-19")
    return storage


def kinds(storage: LocalStorage, gate: Gate = PUBLISH) -> list[str]:
    return [event.kind for event in approvals.read(storage, gate).events.values()]


def mended(error: MillraceError) -> str:
    """The command that an error carries, however commands are typed here, and what the error says of it."""
    [command] = error.commands
    return f"{' '.join([command.name, *command.arguments])}: {error.mend}"


def files(storage: LocalStorage) -> dict[str, bytes]:
    return running.files(Path(storage.uri("")))


# ---------------------------------------------------------------------------------------------------------- answers


def test_the_first_answer_counts(asked: LocalStorage) -> None:
    """A second answer is refused with who answered first, when and why, and changes nothing."""
    answer, new = approvals.answer(asked, PUBLISH, APPROVED, "ann", "looks right")
    assert (answer.kind, answer.by, answer.reason, new) == ("approved", "ann", "looks right", True)
    before = files(asked)
    when = answer.at[:19].replace("T", " ") + "Z"
    for kind, by in ((REJECTED, "bob"), (APPROVED, "bob"), (REJECTED, "ann")):
        with pytest.raises(ConflictError) as refused:
            approvals.answer(asked, PUBLISH, kind, by)
        said = f"gate publish of 2026-11-19 was approved by ann at {when}: looks right; nothing was changed"
        assert str(refused.value).startswith(said)
    assert files(asked) == before
    assert approvals.check(approvals.read(asked, PUBLISH))


def test_an_answer_that_a_hand_puts_behind_the_first_does_not_count(asked: LocalStorage, tmp_path: Path) -> None:
    """Of two answers the one with the lower number counts, whenever the other came there."""
    approvals.answer(asked, PUBLISH, REJECTED, "ann")
    other = LocalStorage(str(tmp_path / "other"))
    approvals.answer(other, PUBLISH, APPROVED, "eve", ahead=True)
    found = other.read(f"{PUBLISH.folder}/0001.json")
    assert found
    asked.create(f"{PUBLISH.folder}/0003.json", found.data)
    assert kinds(asked) == ["asked", "rejected", "approved"]
    with pytest.raises(RejectedError, match="by ann"):
        approvals.check(approvals.read(asked, PUBLISH))


def test_the_same_answer_by_the_same_person_is_given_already(asked: LocalStorage) -> None:
    """It is told as what was said before, with the first reason, and writes nothing; so an event may come twice."""
    first, _ = approvals.answer(asked, PUBLISH, REJECTED, "ann", "half is missing")
    before = files(asked)
    assert approvals.answer(asked, PUBLISH, REJECTED, " ann\n", "for another reason") == (first, False)
    assert files(asked) == before


def test_of_many_answers_at_once_one_counts(tmp_path: Path) -> None:
    """However many answer at once, one answer is written, and all others are told of exactly that one."""
    many, rounds = 8, 10
    barrier = threading.Barrier(many)

    def answers(number: int) -> list[str]:
        said, storage = [], LocalStorage(str(tmp_path))
        for each in range(rounds):
            barrier.wait()
            try:
                answer, new = approvals.answer(
                    storage, Gate(f"g{each}"), (APPROVED, REJECTED)[number % 2], f"p{number}", ahead=True
                )
                assert new
                said.append(answer.by)
            except ConflictError as error:
                said.append(error.what.partition(" by ")[2].partition(" at ")[0])
        return said

    with ThreadPoolExecutor(many) as pool:
        heard = list(pool.map(answers, range(many)))
    storage = LocalStorage(str(tmp_path))
    for each in range(rounds):
        answer = approvals.read(storage, Gate(f"g{each}")).answer
        assert answer is not None
        assert kinds(storage, Gate(f"g{each}")) == [answer.kind]
        assert {said[each] for said in heard} == {answer.by}


def test_runs_that_come_to_a_gate_at_once_note_it_once(tmp_path: Path) -> None:
    """That a gate waits is written by the first run alone, with what the run is for and since when."""
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: approvals.ask(LocalStorage(str(tmp_path)), PUBLISH, f"Report {n}"), range(24)))
    state = approvals.read(LocalStorage(str(tmp_path)), PUBLISH)
    assert [event.kind for event in state.events.values()] == ["asked"]
    first = files(LocalStorage(str(tmp_path)))
    again = approvals.ask(LocalStorage(str(tmp_path)), PUBLISH, "another")
    assert again == state
    assert files(LocalStorage(str(tmp_path))) == first
    assert state.waits
    assert state.since == state.events[1].at


def test_a_rejection_is_an_error_of_its_own(asked: LocalStorage) -> None:
    """It says who, when and why, whatever the reason holds, and what opens the gate again."""
    answer, _ = approvals.answer(asked, PUBLISH, REJECTED, "ann", "half of {0} is\nmissing \x1b[31m")
    with pytest.raises(RejectedError) as rejected:
        approvals.check(approvals.read(asked, PUBLISH))
    assert rejected.value.what == (
        f"gate publish of 2026-11-19 was rejected by ann at {moment(answer.at)}: half of {{0}} is missing \ufffd[31m"
    )
    assert mended(rejected.value) == "approve publish --date 2026-11-19 --reopen: {0} opens it again"


def test_nobody_answers_without_a_name(asked: LocalStorage) -> None:
    """An answer by nobody is refused."""
    for nobody in ("", " \n"):
        with pytest.raises(SettingError, match="nobody is named for gate publish of 2026-11-19; say .* --by"):
            approvals.answer(asked, PUBLISH, APPROVED, nobody)
    assert kinds(asked) == ["asked"]


def test_times_are_those_of_utc() -> None:
    """A time of any zone is shown in UTC; this process is far from it."""
    assert moment("2026-11-20T00:30:00.999+02:00") == "2026-11-19 22:30:00Z"
    assert moment("nonsense") == "an unknown time"


def test_what_is_written_is_of_utc(asked: LocalStorage) -> None:
    """An event's time is now, in UTC."""
    (event,) = approvals.read(asked, PUBLISH).events.values()
    said = datetime.datetime.fromisoformat(event.at)
    assert said.utcoffset() == datetime.timedelta()
    assert abs(datetime.datetime.now(datetime.UTC) - said) < datetime.timedelta(minutes=5)


# ------------------------------------------------------------------------------------------------- where nobody waits


def test_an_answer_that_nobody_waits_for_is_refused(storage: LocalStorage) -> None:
    """A name that is misspelt is answered with the nearest that waits, of that day if it can be; nothing is written."""
    asked = storage
    for other in (Gate("publish", datetime.date(2026, 11, 18)), PUBLISH, Gate("send"), Gate("publish")):
        approvals.ask(asked, other, "Report")
    before = files(asked)

    def refused(gate: Gate, near: str) -> SettingError:
        with pytest.raises(SettingError) as error:
            approvals.answer(asked, gate, REJECTED, "ann", "why not")
        assert error.value.what.startswith(f"nobody waits at gate {gate}: {near}")
        return error.value

    said = refused(Gate("Publsh", DAY), "did you mean publish of 2026-11-19? Waiting in ")
    assert mended(said) == (
        "approve Publsh --date 2026-11-19 --reject --by ann --reason why not --ahead: {0} does it before anybody asks"
    )
    for each in ("send", "publish", "publish of 2026-11-18", "publish of 2026-11-19"):
        assert each in said.what
    refused(Gate("publish", datetime.date(2026, 11, 17)), "did you mean publish of 2026-11-18? ")
    refused(Gate("entirely"), "waiting in ")
    assert files(asked) == before


def test_where_nothing_waits_that_is_said(storage: LocalStorage) -> None:
    """In an empty storage nothing is near."""
    with pytest.raises(SettingError, match=r"nobody waits at gate publish of 2026-11-19: waiting in .* is none; "):
        approvals.answer(storage, PUBLISH, APPROVED, "ann")
    assert files(storage) == {}


def test_an_answer_may_come_ahead(storage: LocalStorage) -> None:
    """Said to be ahead, an answer is written before anybody asks, and who asks then finds it."""
    approvals.answer(storage, PUBLISH, APPROVED, "the load", ahead=True)
    state = approvals.ask(storage, PUBLISH, "Report")
    assert approvals.check(state)
    assert kinds(storage) == ["approved"]


# ------------------------------------------------------------------------------------------------------ opened again


def test_a_gate_that_is_opened_again_waits_again_and_forgets_nothing(asked: LocalStorage) -> None:
    """The answer before stays, and counts no more; the gate waits since then, for another answer."""
    rejected, _ = approvals.answer(asked, PUBLISH, REJECTED, "ann", "half is missing")
    before = files(asked)
    state, gone = approvals.reopen(asked, PUBLISH, "bob", "it came after all")
    assert gone == rejected
    assert state.waits
    assert state.since == state.events[3].at >= rejected.at
    assert before.items() <= files(asked).items()
    assert not approvals.check(approvals.ask(asked, PUBLISH, "Report 2026-11-19"))
    approvals.answer(asked, PUBLISH, APPROVED, "ann")
    assert [str(event).partition(" at ")[0] for event in approvals.read(asked, PUBLISH).events.values()] == [
        "asked for by Report 2026-11-19",
        "rejected by ann",
        "reopened by bob",
        "approved by ann",
    ]
    assert approvals.check(approvals.read(asked, PUBLISH))


def test_opening_what_is_open_changes_nothing(asked: LocalStorage) -> None:
    """A gate that waits stays as it is; one that nobody has come to is most likely misspelt."""
    before = files(asked)
    assert approvals.reopen(asked, PUBLISH, "bob")[1] is None
    with pytest.raises(SettingError, match="nobody waits at gate publsh: did you mean publish of 2026-11-19?"):
        approvals.reopen(asked, Gate("publsh"), "bob")
    assert files(asked) == before


def test_what_was_approved_ahead_and_opened_again_waits_once_asked(storage: LocalStorage) -> None:
    """Nobody waits until a run has come to the gate; from then on it does."""
    approvals.answer(storage, PUBLISH, APPROVED, "ann", ahead=True)
    state, _ = approvals.reopen(storage, PUBLISH, "bob")
    assert not state.waits
    assert str(state) == "publish of 2026-11-19: nobody has asked"
    state = approvals.ask(storage, PUBLISH, "Report")
    assert state.waits
    assert state.since == state.events[3].at


# -------------------------------------------------------------------------------------------------- files and names


def broken(data: bytes, how: str) -> bytes:
    """An event as it must not count."""
    if how == "half":
        return data[: len(data) // 2]
    if how == "empty":
        return b""
    if how == "other":
        return b"[]"
    value = json.loads(data)
    value |= {"by": {"by": "eve"}, "kind": {"kind": "approved"}, "format": {"format": 2}}[how]
    return json.dumps(value).encode()


@pytest.mark.parametrize("how", ["half", "empty", "other", "by", "kind", "format"])
def test_a_damaged_event_never_counts(how: str, asked: LocalStorage) -> None:
    """What is not as it was written is no approval, and no wait either: it is an error that names the file."""
    approvals.answer(asked, PUBLISH, REJECTED, "ann")
    path = Path(asked.uri(f"{PUBLISH.folder}/0002.json"))
    path.write_bytes(broken(path.read_bytes(), how))
    looks: list[Callable[[], object]] = [
        lambda: approvals.read(asked, PUBLISH),
        lambda: approvals.ask(asked, PUBLISH, "Report"),
        lambda: approvals.answer(asked, PUBLISH, APPROVED, "eve"),
    ]
    for look in looks:
        with pytest.raises(ManifestError) as error:
            look()
        assert str(path) in str(error.value)
        assert isinstance(error.value, DamagedError) == (how != "format")
    approvals.ask(asked, Gate("send"), "Report")
    found = list(approvals.gates(asked))
    assert [type(each).__name__ for each in found] == [type(error.value).__name__, "State"]


def test_an_approval_of_another_day_does_not_count(asked: LocalStorage) -> None:
    """A folder that is copied to another day's, or gate's, is refused by name."""
    approvals.answer(asked, PUBLISH, APPROVED, "ann")
    for other in (Gate("publish", datetime.date(2026, 11, 20)), Gate("send", DAY), Gate("publish")):
        asked.copy(f"{PUBLISH.folder}/0002.json", f"{other.folder}/0001.json")
        with pytest.raises(ManifestError, match=rf"0001\.json is of gate {PUBLISH}, and so no event of {other}; "):
            approvals.read(asked, other)


def test_what_is_no_event_is_left_alone(asked: LocalStorage) -> None:
    """Other files beside the events, and folders that are no gates, are none of a gate's business."""
    gate = "_approvals/publish"
    for name in (
        f"{gate}/date=2026-11-19/notes.txt",
        f"{gate}/date=2026-11-19.bak/0001.json",
        f"{gate}/other/0001.json",
        "_approvals/x/date=2026-13-45/0001.json",
        "_approvals/y",
    ):
        asked.create(name, b"?")
    assert kinds(asked) == ["asked"]
    assert [str(each) for each in approvals.gates(asked)] == [str(approvals.read(asked, PUBLISH))]


def test_a_place_that_is_taken_is_no_endless_wait(asked: LocalStorage) -> None:
    """Where something that is no file has the name of the next event, that is an error."""
    Path(asked.uri(f"{PUBLISH.folder}/0002.json")).mkdir()
    with pytest.raises(MillraceError):
        approvals.answer(asked, PUBLISH, APPROVED, "ann")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a b", "-x", "a=b", "größe", "a\n", "{x}", "x" * 64, "a\\b"]
)
def test_names_that_are_none(name: str) -> None:
    """What could be another path, a flag, or another gate's folder is no name of a gate."""
    with pytest.raises(ValueError, match="allowed is a word of letters"):
        approvals.name_of(name)


def test_gates_are_apart(storage: LocalStorage) -> None:
    """Gates of similar names, of other days and without a day do not share a folder, or an answer."""
    gates = [Gate(name, date) for name in ("a", "a.b", "A-1", "x" * 63, "no-date") for date in (None, DAY)]
    for gate in gates:
        assert approvals.name_of(gate.name) == gate.name
        approvals.ask(storage, gate, "Report")
    approvals.answer(storage, gates[0], APPROVED, "ann")
    states = {each.gate: each.waits for each in approvals.gates(storage) if isinstance(each, approvals.State)}
    assert states == {gate: gate != gates[0] for gate in gates}
    only = [str(each.gate) for each in approvals.gates(storage, "a") if isinstance(each, approvals.State)]
    assert sorted(only) == ["a", "a of 2026-11-19"]


# ------------------------------------------------------------------------------------------------------------ tokens


def test_a_token_answers_its_gate_once(asked: LocalStorage) -> None:
    """Used again it is refused with who answered; by the same person, and the same, it is told as said before."""
    secret, _ = approvals.make_token(asked, PUBLISH, "cron", TWO_DAYS)
    answer, new = approvals.answer_with_token(asked, secret, APPROVED, "ann", "by mail")
    assert (answer.by, answer.kind, answer.reason, new) == ("ann", "approved", "by mail", True)
    assert approvals.answer_with_token(asked, secret, APPROVED, "ann") == (answer, False)
    for kind, by in ((APPROVED, "bob"), (REJECTED, "ann")):
        with pytest.raises(
            ConflictError, match=r"was approved by ann with a token at .*: by mail; nothing was changed"
        ):
            approvals.answer_with_token(asked, secret, kind, by)
    assert kinds(asked) == ["asked", "token made", "approved"]


def test_a_token_is_stored_as_its_digest_alone(asked: LocalStorage) -> None:
    """No file holds the secret, or its random part; a link can hold it as it is."""
    secret, _ = approvals.make_token(asked, PUBLISH, "cron", TWO_DAYS)
    approvals.answer_with_token(asked, secret, APPROVED, "ann")
    random = secret.rpartition(".")[2]
    assert len(random) == 43  # 32 bytes in base64, without what fills it up
    for data in files(asked).values():
        assert random.encode() not in data
    assert not set(secret) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._")
    other, _ = approvals.make_token(asked, Gate("x"), "cron", TWO_DAYS, ahead=True)
    assert other.startswith("x.no-date.")


def test_a_token_is_for_one_gate_and_day(asked: LocalStorage) -> None:
    """A secret that is changed in any part opens nothing, and neither does that of another gate's token."""
    approvals.ask(asked, Gate("publish", datetime.date(2026, 11, 20)), "Report")
    secret, _ = approvals.make_token(asked, PUBLISH, "cron", TWO_DAYS)
    others = [
        secret.replace("-19.", "-20."),
        secret.replace("2026-11-19", "no-date"),
        secret.replace("publish", "send"),
        secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        secret + "A",
        secret.upper(),
        secret.rpartition(".")[2],
        "publish.2026-11-19.",
        "../publish.2026-11-19.x",
        "",
        "\udcff",
        "publish.20261119.x",
    ]
    for other in others:
        with pytest.raises(SettingError, match="this token opens nothing in this storage"):
            approvals.answer_with_token(asked, other, APPROVED, "eve")
    assert kinds(asked) == ["asked", "token made"]


def test_a_token_expires(asked: LocalStorage) -> None:
    """From its end on it answers nothing; the sentence says since when, in UTC, and what makes another."""
    _, event = approvals.make_token(asked, PUBLISH, "cron", TWO_DAYS)
    left = datetime.datetime.fromisoformat(event.expires) - datetime.datetime.now(datetime.UTC)
    assert TWO_DAYS - datetime.timedelta(minutes=5) < left <= TWO_DAYS
    secret, event = approvals.make_token(asked, PUBLISH, "cron", datetime.timedelta())
    with pytest.raises(SettingError) as late:
        approvals.answer_with_token(asked, secret, APPROVED, "ann")
    assert late.value.what == (f"this token for gate publish of 2026-11-19 has expired at {moment(event.expires)}")
    assert mended(late.value) == "approve publish --date 2026-11-19 --token: {0} makes another"
    assert approvals.read(asked, PUBLISH).waits


@pytest.mark.parametrize(("allows", "refused"), [(APPROVED, REJECTED), (REJECTED, APPROVED)])
def test_a_token_may_be_for_one_answer(allows: str, refused: str, asked: LocalStorage) -> None:
    """Made to approve it can't reject, and the other way round; refused, it is not used up."""
    secret, _ = approvals.make_token(asked, PUBLISH, "cron", TWO_DAYS, [allows])
    with pytest.raises(
        SettingError, match=r"made to (approve|reject) gate publish of 2026-11-19, and for nothing else"
    ):
        approvals.answer_with_token(asked, secret, refused, "ann")
    assert approvals.answer_with_token(asked, secret, allows, "ann")[0].kind == allows


def test_a_token_of_before_a_gate_was_opened_again_is_void(asked: LocalStorage) -> None:
    """Neither one that answered nor one that was left answers a gate that was opened again; a new one does."""
    used, _ = approvals.make_token(asked, PUBLISH, "cron", TWO_DAYS)
    left, _ = approvals.make_token(asked, PUBLISH, "cron", TWO_DAYS)
    approvals.answer_with_token(asked, used, APPROVED, "ann")
    approvals.reopen(asked, PUBLISH, "bob")
    for old in (used, left):
        with pytest.raises(SettingError, match="of no use any more: gate publish of 2026-11-19 was opened again"):
            approvals.answer_with_token(asked, old, APPROVED, "ann")
    new, _ = approvals.make_token(asked, PUBLISH, "cron", TWO_DAYS)
    assert approvals.answer_with_token(asked, new, REJECTED, "ann")[1]


def test_a_token_is_made_for_what_waits(asked: LocalStorage) -> None:
    """None is made for a gate that nobody has come to, unless ahead, nor for one that was answered."""
    with pytest.raises(SettingError, match=r"did you mean publish of 2026-11-19\?") as unknown:
        approvals.make_token(asked, Gate("publsh"), "cron", TWO_DAYS, [REJECTED])
    assert mended(unknown.value) == ("approve publsh --token --allows reject --ahead: {0} does it before anybody asks")
    secret, _ = approvals.make_token(asked, Gate("send"), "cron", TWO_DAYS, ahead=True)
    assert approvals.answer_with_token(asked, secret, APPROVED, "ann")[1]
    with pytest.raises(ConflictError, match="was approved by ann"):
        approvals.make_token(asked, Gate("send"), "cron", TWO_DAYS)
