"""What a result depends on is derived: leaving an input's setting out can't pass off what was made with another."""

import dataclasses
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest

from millrace import BeamTask, Stage
from millrace.core.ledger import Claim
from millrace.core.manifests import Manifest
from millrace.errors import SettingsDifferError
from millrace.tasks import identity
from millrace.tasks.settings import Setting, Settings, one_of, whole_number
from millrace.tasks.stage import Outcome
from workflows import Count, Etl, Fetch, Report

DAY = datetime.date(2026, 11, 19)


class letters(Settings):  # noqa: N801 (named like its section)
    """The settings of these stages."""

    alphabet: str = Setting(convert=one_of("latin", "greek"), allowed="latin or greek", default="latin")
    size: int = Setting(convert=whole_number(1, 9), allowed="1 to 9", default=3)
    most: int = Setting(convert=whole_number(1, 9), allowed="1 to 9", default=5, significant=False)


class Letter(Stage):
    """A stage that writes nothing."""

    section = letters
    date: datetime.date = luigi.DateParameter()

    def execute(self, claim: Claim) -> Outcome:
        return Outcome([], {}, {})


class Alphabet(Letter):
    """Goes by a setting."""

    writes = ("alphabets",)
    settings = ("alphabet",)


class Sized(Letter):
    """Goes by a parameter."""

    writes = ("sized",)
    size: int = luigi.IntParameter()


class Plain(luigi.ExternalTask):
    """Somebody else's file."""

    alphabet: str = luigi.Parameter()
    day: datetime.date = luigi.DateParameter()

    def output(self) -> luigi.Target:
        return luigi.LocalTarget(__file__)


class Both(luigi.WrapperTask):
    """Stands for others."""

    date: datetime.date = luigi.DateParameter()

    def requires(self) -> Any:
        return [Alphabet(date=self.date), Plain(alphabet=letters().alphabet, day=self.date)]


class OnAlphabet(Letter):
    writes = ("on_alphabet",)

    def requires(self) -> Any:
        return [Alphabet(date=self.date - datetime.timedelta(days=n)) for n in range(3)]


class OnSized(Letter):
    writes = ("on_sized",)

    def requires(self) -> Any:
        return Sized(date=self.date, size=letters().size)


class OnWrapped(Letter):
    writes = ("on_wrapped",)

    def requires(self) -> Any:
        return Both(date=self.date)


class OnPlain(Letter):
    writes = ("on_plain",)

    def requires(self) -> Any:
        return Plain(alphabet=letters().alphabet, day=self.date)


class Farther(Letter):
    writes = ("farther",)

    def requires(self) -> Any:
        return {"a": OnAlphabet(date=self.date), "b": [OnSized(date=self.date)]}


class Passing(BeamTask):
    """Passes settings to its pipeline, and repeats none."""

    writes = ("passed",)
    section = letters
    pipeline = "pipelines.posts.count"
    passes = ("alphabet", "most")
    date: datetime.date = luigi.DateParameter()


class Running(Letter):
    """Goes on from the day before, for years."""

    writes = ("running",)

    def requires(self) -> Any:
        before = self.date - datetime.timedelta(days=1)
        return Running(date=before) if before.year > 2016 else Alphabet(date=before)


Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path) -> Iterator[Put]:
    """Sets keys of a section, for the test; the storage is an empty folder."""
    config, before = luigi.configuration.get_config(), []

    def change(section: str, **values: object) -> None:
        for key, value in values.items():
            before.append((section, key, config.get(section, key, None)))
            config.set(section, key, str(value))

    change("millrace", storage=tmp_path)
    yield change
    for section, key, value in reversed(before):
        if value is None:
            config.remove_option(section, key)
        else:
            config.set(section, key, value)


def make(task: luigi.Task) -> None:
    """Runs a task and all that it needs."""
    for each in reversed(list(identity.chain(task))):  # type: ignore[arg-type]
        if isinstance(each, Stage) and not each.complete():
            each.run()


@pytest.mark.parametrize(
    ("task", "change", "said", "cleared"),
    [
        (OnAlphabet, {"alphabet": "greek"}, "letters.alphabet = latin, but this run says greek", "Alphabet"),
        (OnWrapped, {"alphabet": "greek"}, "letters.alphabet = latin, but this run says greek", "Alphabet"),
        (Farther, {"alphabet": "greek"}, "letters.alphabet = latin, but this run says greek", "Alphabet"),
        (Farther, {"size": "4"}, "Sized.size = 3, but this run says 4", "Sized"),
        (OnSized, {"size": "4"}, "Sized.size = 3, but this run says 4", "Sized"),
        (OnPlain, {"alphabet": "greek"}, "Plain.alphabet = latin, but this run says greek", "OnPlain"),
    ],
)
def test_an_input_s_setting_can_t_be_left_out(
    put: Put, task: type[Letter], change: dict[str, str], said: str, cleared: str
) -> None:
    """A stage that names no setting is refused when one that its inputs go by has changed: which, and what to clear."""
    made = task(date=DAY)
    make(made)
    assert made.complete()
    put("letters", **change)
    with pytest.raises(SettingsDifferError) as refused:
        task(date=DAY).complete()
    assert said in str(refused.value)
    assert f"clear {cleared} --from 2026-11-1" in str(refused.value)


def test_what_is_cleared_is_this_window_s(put: Put) -> None:
    """The command for an input's setting has all days that the stage is built on, and no others."""
    make(OnAlphabet(date=DAY))
    put("letters", alphabet="greek")
    with pytest.raises(SettingsDifferError, match=r"clear Alphabet --from 2026-11-17 --to 2026-11-19 "):
        OnAlphabet(date=DAY).complete()


def test_what_is_passed_to_a_pipeline_counts(put: Put) -> None:
    """Settings that a pipeline takes need not be named again; those that don't matter to the result don't count."""
    assert identity.of(Passing(date=DAY)) == {"letters.alphabet": "latin"}
    assert "max_source_bytes" not in str(identity.of(Fetch(source="sample://", date=DAY)))


def test_the_posts_stages_say_what_they_always_said() -> None:
    """The manifests of earlier versions of Millrace, which named settings by hand, stay valid."""
    settings = {
        "posts.source": "sample://",
        "posts.rules": "standard",
        "posts.languages": "en",
    }
    assert identity.of(Count(date=DAY)) == settings
    assert identity.of(Report(date=DAY, days=3)) == {**settings, "days": "3"}
    assert identity.of(Etl(date=DAY)) == {"posts.source": "sample://"}
    assert identity.of(Fetch(source="sample://", date=DAY)) == {"source": "sample://"}


def test_of_a_task_that_is_no_stage_a_day_is_not_known() -> None:
    """Of somebody else's task the parameters count, but for days: those most likely name what it makes."""
    assert identity.of(OnPlain(date=DAY)) == {"Plain.alphabet": "latin"}


def test_an_archive_is_not_asked_for(put: Put) -> None:
    """What a result depends on is known without a request to the server of an archive, here one that is not there."""
    put("posts", source="http://127.0.0.1:9/posts.jsonl.gz http://127.0.0.1:9/more.jsonl.gz")
    assert identity.of(Count(date=DAY))["posts.source"].startswith("http://127.0.0.1:9/posts.jsonl.gz http:")


def test_one_name_with_a_space_is_not_two_names(put: Put) -> None:
    """`'a b'` and `a b` are different sources."""
    put("posts", source="'a b'")
    one = identity.digest(Etl(date=DAY))
    put("posts", source="a b")
    assert identity.digest(Etl(date=DAY)) != one


def test_a_stage_may_be_built_on_itself(put: Put) -> None:
    """Ten years of days, each of which goes on from the one before, are no loop without end and no deep recursion."""
    put("letters", alphabet="greek")
    assert identity.of(Running(date=DAY)) == {"letters.alphabet": "greek"}


def test_manifests_of_before_are_asked_for_what_they_say(put: Put, tmp_path: Path) -> None:
    """A manifest of when settings were named by hand is refused by what its options or its inputs' manifests say.

    Where they say the same, or nothing, it stays valid; a text with a space in it had no quotes then.
    """

    def as_before(task: Stage, **changes: Any) -> None:
        manifest = task.manifest()
        assert manifest
        before = dataclasses.replace(manifest, code={}, **{"settings": {}, **changes})
        (tmp_path / task.datasets()[0].manifest_path).write_bytes(before.to_json())

    task = OnAlphabet(date=DAY)
    make(task)
    as_before(task)
    assert task.complete()
    for each in task.required():
        as_before(each, settings={"letters.alphabet": "greek"})
    with pytest.raises(SettingsDifferError, match=r"made with letters.alphabet = greek, but this run says latin"):
        task.complete()
    for each in task.required():
        as_before(each)
    as_before(task, options={"alphabet": "greek"})
    with pytest.raises(SettingsDifferError, match=r"made with letters.alphabet = greek, but this run says latin"):
        task.complete()
    put("posts", source="'a b'")
    etl, settings = Etl(date=DAY), {"posts.source": "a b"}
    manifest = Manifest("posts/x", "a", [], {}, [], "", "", settings, {}, "", None, "", "")
    identity.check(etl, manifest)
    with pytest.raises(SettingsDifferError):
        identity.check(etl, dataclasses.replace(manifest, code={"Etl": ["3f2c/9a11"]}))
