"""The session: what a process has of the outside, by its settings, also after a fork; and where tasks are defined."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from luigi.configuration import get_config

from millrace.core.config import BigQuery, Config, Gcp
from millrace.core.storage import LocalStorage, Storage
from millrace.errors import SettingError
from millrace.gcloud.clients import Google
from millrace.ops import arguments
from millrace.tasks import sections, session
from millrace.tasks.session import Session


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """A folder that the settings name as the storage."""
    get_config().set("millrace", "storage", str(tmp_path / "a"))
    yield tmp_path
    get_config().remove_option("millrace", "storage")


def test_a_session_is_one_for_as_long_as_its_settings_are(storage: Path) -> None:
    """Storage and answers are made once; other settings are another session, with answers of its own."""
    asked: list[str] = []

    def ask() -> int:
        asked.append(sections.millrace().storage)
        return len(asked)

    first = session.current()
    assert (first.once("x", ask), session.current().once("x", ask)) == (1, 1)
    assert session.current().storage is first.storage
    get_config().set("millrace", "storage", str(storage / "b"))
    assert session.current() is not first
    assert session.current().storage.uri("c") == str(storage / "b" / "c")
    assert session.current().once("x", ask) == 2


def test_what_is_not_said_is_what_the_settings_say_by_default() -> None:
    """Plain settings, of which nothing is said, are those of a luigi.cfg in which all is commented out."""
    said = Config()
    for plain, section in (
        (said.gcp, sections.gcp),
        (said.bigquery, sections.bigquery),
        (said.dataflow, sections.dataflow),
    ):
        values = {key: value for key, value in plain._asdict().items() if key != "endpoint"}
        assert values == {key: section.default(key) for key in values}
    assert said.dataflow.endpoint == ""
    assert (said.storage, said.warehouse, said.refresh) == (
        sections.millrace.default("storage"),
        sections.millrace.default("warehouse"),
        sections.run.default("refresh"),
    )
    assert (said.origin("millrace", "storage"), [*said.options("DataflowRunner", "Etl")]) == ("the default", [])


def test_settings_are_the_same_if_they_say_the_same() -> None:
    """Where they were read, and what looks up Beam's options, makes no other session."""
    assert Config("a", origin=lambda section, key: "a file", options=lambda runner, task: ()) == Config("a")
    assert Config("a", gcp=Gcp(lease=1)) != Config("a")


def test_a_session_of_a_test_is_at_hand_until_its_end(storage: Path) -> None:
    """With plain settings of its own, and with something in front of the storage; nothing of it stays."""
    before, wrapped = session.current(), list[Storage]()

    def wrap(found: Storage) -> Storage:
        wrapped.append(found)
        return found

    with session.use(Session(Config(storage=str(storage / "own")), wrap)) as own:
        assert session.current() is own
        assert own.storage.uri("x") == str(storage / "own" / "x")
    assert [type(each) for each in wrapped] == [LocalStorage]
    assert session.current() is before


def test_a_child_has_connections_of_its_own_and_keeps_what_was_found(storage: Path) -> None:
    """A forked process makes its own storage and clients, and does not ask again what its parent asked."""
    here, calls = session.current(), list[int]()
    here.once("x", lambda: calls.append(os.getpid()))
    parents, here.google.session = here.storage, None  # type: ignore[assignment]
    child = os.fork()
    if not child:
        try:
            now = session.current()
            now.once("x", lambda: calls.append(os.getpid()))
            right = now is here and now.storage is not parents and "session" not in vars(now.google) and len(calls) == 1
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert here.storage is parents
    vars(here.google).pop("session")


def test_tables_need_a_bucket() -> None:
    """A warehouse in BigQuery beside a folder is refused, with where both were said."""
    config = Config("data", "bigquery://p/d", Gcp(), BigQuery(), origin=lambda section, key: f"from {section}.{key}")
    with pytest.raises(SettingError, match=r"from millrace\.warehouse, .* 'data', from millrace\.storage: set it"):
        _ = Session(config).warehouse


def test_a_project_is_the_settings_own() -> None:
    """No credentials are looked for where the settings name a project."""
    assert Google(Config(gcp=Gcp(project="mine"))).project == "mine"


@pytest.mark.parametrize(
    ("modules", "said"), [("9x", r"'9x', .*: allowed"), ("nosuch", r"no module nosuch \(\[millrace\]")]
)
def test_where_tasks_are_is_said_in_the_settings(modules: str, said: str, tmp_path: Path) -> None:
    """A module that is not there, or can't be one, is named with the setting that names it."""
    get_config().set("millrace", "modules", modules)
    try:
        with pytest.raises(SettingError, match=said):
            arguments.load([])
    finally:
        get_config().remove_option("millrace", "modules")
