"""Settings: a wrong one stops the run before any work, with one line: which, what, whence, what is allowed."""

import shutil
from pathlib import Path

import luigi
import pytest
import running
from running import Ran

from millrace.errors import SettingError
from millrace.tasks import sections
from millrace.tasks.settings import Settings

FLAGS = ("--date", running.DAY, "--posts-days", 1)


def configured(folder: Path, text: str, *flags: object) -> Ran:
    """Runs Report with a luigi.cfg of its own; its storage, unless the text says another, is `data` in the folder."""
    path = folder / "own.cfg"
    path.write_text(text, encoding="utf-8")
    env = running.environment(LUIGI_CONFIG_PATH=str(path))
    return running.run(running.command("Report", "--date", running.DAY, *flags), folder, env)


def refused(ran: Ran, folder: Path) -> str:
    """The one line of a run that was stopped before any work."""
    assert ran.code != 0, ran
    assert "Traceback" not in str(ran), ran
    assert len(ran.errors) == 1, ran
    assert not (folder / "data").exists()
    return ran.errors[0]


WRONG = [
    ("posts.days", "0", "a whole number from 1 to 366"),
    ("posts.days", "7.5", "a whole number from 1 to 366"),
    ("posts.days", "", "a whole number from 1 to 366"),
    ("posts.rules", "clasic", "standard or classic"),
    (
        "posts.source",
        "ftp://a.example/x",
        "one or more of sample://, a path or glob, file://, gs:// or http(s):// URIs",
    ),
    ("posts.source", "sample://2", "one or more of sample://"),
    ("posts.source", "", "one or more of sample://"),
    (
        "posts.source",
        "a.jsonl a.jsonl",
        "one or more of sample://, a path or glob, file://, gs:// or http(s):// URIs, each once",
    ),
    ("posts.source", "'a.jsonl", "one or more of sample://"),
    ("posts.source", "posts-{day}.jsonl", "one or more of sample://"),
    ("posts.source", "posts-{date:%H}.jsonl", "one or more of sample://"),
    ("posts.source", "posts-{date:%Y.jsonl", "one or more of sample://"),
    ("posts.languages", "english", "codes of languages"),
    ("posts.max_dead_letter_share", "5%", "a number from 0 to 1"),
    ("posts.max_dead_letter_share", "1.01", "a number from 0 to 1"),
    ("posts.max_dead_letter_share", "nan", "a number from 0 to 1"),
    ("posts.max_source_bytes", "10G", "a whole number of bytes"),
    ("posts.shards", "3", "a power of two up to 65536, or 0"),
    ("posts.shards", "131072", "a power of two up to 65536, or 0"),
    ("posts.shards", "-1", "a power of two up to 65536, or 0"),
    ("millrace.storage", "", "a folder"),
    ("millrace.storage", "gs://Bucket/x", "a folder that can be written, or gs://BUCKET/PREFIX"),
    ("millrace.storage", "s3://bucket/x", "a folder that can be written, or gs://BUCKET/PREFIX"),
    ("millrace.runner", "DirectRunner", "one of FnApiRunner, DataflowRunner"),
    ("millrace.warehouse", "bigquery://dataset", "nothing, or bigquery://PROJECT/DATASET"),
    ("millrace.auto_memory", "1 GiB", "a whole number of bytes, 0 for what is left"),
    ("millrace.auto_memory", "-1", "a whole number of bytes, 0 for what is left"),
    ("millrace.auto_memory", str((1 << 60) + 1), "a whole number of bytes, 0 for what is left"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG, ids=[f"{name}={value}" for name, value, _ in WRONG])
def test_wrong_value_in_the_file(name: str, value: str, allowed: str, tmp_path: Path) -> None:
    """A wrong value in luigi.cfg is one line: key, value, the file it stands in, and what is allowed."""
    section, key = name.split(".")
    error = refused(configured(tmp_path, f"[{section}]\n{key} = {value}\n"), tmp_path)
    assert f"{name} = {value!r}, read in {tmp_path / 'own.cfg'}: allowed is {allowed}" in error


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        (
            "--posts-rules",
            "clasic",
            "posts.rules = 'clasic', from the flag --posts-rules: allowed is standard or classic",
        ),
        (
            "--posts-source",
            "ftp://x/y",
            "posts.source = 'ftp://x/y', from the flag --posts-source: allowed is one or more of",
        ),
        ("--posts-days", "0", "posts.days = '0', from the flag --posts-days: allowed is a whole number from 1 to 366"),
        (
            "--posts-max-dead",
            "x",
            "posts.max_dead_letter_share = 'x', from the flag --posts-max-dead: allowed is a number",
        ),
        (
            "--millrace-storage",
            "gs://x",
            "millrace.storage = 'gs://x', from the flag --millrace-storage: allowed is a folder",
        ),
        (
            "--millrace-runner",
            "Flink",
            "millrace.runner = 'Flink', from the flag --millrace-runner: allowed is one of FnApiRunner, ",
        ),
        ("--date", "2026-13-01", "Report.date = '2026-13-01', from the flag --date: allowed is a day as YYYY-MM-DD"),
        ("--date", "20261101", "Report.date = '20261101', from the flag --date: allowed is a day as YYYY-MM-DD"),
        ("--days", "400", "Report.days = '400', from the flag --days: allowed is a whole number from 1 to 366"),
    ],
)
def test_wrong_value_of_a_flag(flag: str, value: str, said: str, tmp_path: Path) -> None:
    """A wrong value of a flag is one line: key, value, that flag, and what is allowed."""
    ran = running.run(running.command("Report", "--date", running.DAY, flag, value), tmp_path)
    assert said in refused(ran, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[posts]\nrule = classic\n", "posts.rule, read in {}, is no setting; did you mean rules?"),
        ("[posts]\nmax-dead-leter-share = 1\n", "is no setting; did you mean max_dead_letter_share?"),
        (
            "[millrace]\nauto_dataflow_above = 1073741824\n",
            "millrace.auto_dataflow_above, read in {}, is no setting any more: runner = auto goes by the memory that a "
            "stage takes, and auto_memory bounds that",
        ),
        ("[millrace]\nstorge = x\n", "millrace.storge, read in {}, is no setting; did you mean storage?"),
        (
            "[millrace]\nxyz = x\n",
            "millrace.xyz, read in {}, is no setting; allowed are auto_memory, batch, modules, refresh, "
            "runner, storage, warehouse",
        ),
    ],
)
def test_unknown_key(text: str, said: str, tmp_path: Path) -> None:
    """A key that is no setting is one line: the key, the file, and the nearest one that is."""
    assert said.format(tmp_path / "own.cfg") in refused(configured(tmp_path, text), tmp_path)


def test_a_task_s_parameter_is_named_by_the_task(tmp_path: Path) -> None:
    """Also one that the library declares for it: a wrong value is one line, in a section and as a flag."""
    path = tmp_path / "own.cfg"
    path.write_text("[Fetch]\nsource = ftp://a.example/x\n")
    given = {f"read in {path}": (), "from the flag --source": ("--source", "ftp://a.example/x")}
    for where, flags in given.items():
        env = running.environment(LUIGI_CONFIG_PATH=str(path))
        error = refused(running.run(running.command("Fetch", "--date", running.DAY, *flags), tmp_path, env), tmp_path)
        assert error.startswith(f"ERROR: Fetch.source = 'ftp://a.example/x', {where}: allowed is a source"), error
        assert error.count("Fetch.source") == 1


def test_key_with_dashes_is_the_same_key(tmp_path: Path) -> None:
    """luigi takes max-dead-letter-share for max_dead_letter_share, so a wrong value there is told apart as well."""
    error = refused(configured(tmp_path, "[posts]\nmax-dead-letter-share = 2\n"), tmp_path)
    assert f"posts.max_dead_letter_share = '2', read in {tmp_path / 'own.cfg'}" in error


def test_strftime_field_in_the_file_needs_no_doubled_signs(tmp_path: Path) -> None:
    """A source's {date:%Y-%m-%d} works in luigi.cfg as it does in a flag."""
    running.write_posts(
        tmp_path / f"posts-{running.DAY}.jsonl",
        [{"id": 1, "created_at": f"{running.DAY}T01:00:00Z", "text": "snow on the pier"}],
    )
    ran = configured(
        tmp_path, f"[posts]\ndays = 1\nsource = {tmp_path}/posts-{{date:%Y-%m-%d}}.jsonl\n[millrace]\nstorage = kept\n"
    )
    assert ran.code == 0, ran
    assert [row["id"] for row in running.select(tmp_path / "kept", "SELECT id FROM posts")] == ["1"]


def test_same_settings_as_flags_find_what_the_file_made(tmp_path: Path) -> None:
    """A flag says the same as a key: with the values as flags, a run finds complete what the file's values made."""
    source = running.write_posts(
        tmp_path / "all.jsonl", [{"id": 1, "created_at": f"{running.DAY}T01:00:00Z", "text": "Snow on the pier"}]
    )
    text = f"[posts]\ndays = 1\nsource = {source}\nrules = classic\n[millrace]\nstorage = kept\n"
    assert configured(tmp_path, text).code == 0
    flags = ["--posts-source", source, "--posts-rules", "classic", "--millrace-storage", "kept"]
    again = configured(tmp_path, "", "--posts-days", 1, *flags)
    assert again.code == 0, again
    assert "Did not run any tasks" in again.err
    assert {row["word"] for row in running.select(tmp_path / "kept", "SELECT word FROM word_counts")} == {
        "snow",
        "pier",
    }


@pytest.fixture(scope="module")
def sample(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the undisturbed run's storage, made with the standard rules from the sample."""
    return Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp("sample") / "data"))


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--posts-rules", "classic", "was made with posts.rules = standard, but this run says classic"),
        ("--posts-languages", "de", "was made with posts.languages = en, but this run says de"),
    ],
)
def test_other_settings_do_not_take_results_for_theirs(flag: str, value: str, said: str, sample: Path) -> None:
    """Other settings over the same storage are refused: which one, both values, from where, and how to go on."""
    there = running.files(sample)
    ran = running.luigi("Report", *FLAGS, flag, value, storage=sample)
    assert ran.code != 0
    assert "Traceback" not in str(ran)
    (error,) = ran.errors
    assert said in error
    assert f"(from the flag {flag})" in error
    assert "--millrace-storage FOLDER" in error
    assert "bin/clear Count" in error
    assert running.files(sample) == there


def test_other_source_does_not_take_results_for_its_own(sample: Path) -> None:
    """Another source over the same storage is refused too, and the way on begins where the source is first read."""
    source = running.write_posts(
        sample.parent / "all.jsonl", [{"id": 1, "created_at": f"{running.DAY}T01:00:00Z", "text": "snow"}]
    )
    ran = running.luigi("Report", *FLAGS, "--posts-source", source, storage=sample)
    assert ran.code != 0
    (error,) = ran.errors
    assert f"was made with posts.source = sample://, but this run says {source} (from the flag --posts-source)" in error
    assert "bin/clear Etl" in error


def test_both_ways_on_from_other_settings_work(undisturbed: Path, tmp_path: Path) -> None:
    """Another storage, or forgetting the old results, and the other settings run; the raw records stay either way."""
    storage = Path(shutil.copytree(undisturbed, tmp_path / "data"))
    raw = running.files(storage / "raw")
    other = tmp_path / "other"
    running.succeed("Report", *FLAGS, "--posts-rules", "classic", storage=other)
    env = running.environment(LUIGI_CONFIG_PATH=str(tmp_path / "own.cfg"))
    (tmp_path / "own.cfg").write_text("[millrace]\nstorage = data\n", encoding="utf-8")
    cleared = running.run([running.python(), "-m", "millrace", "clear", "Count", "--yes"], tmp_path, env)
    assert cleared.code == 0, cleared
    running.succeed("Report", *FLAGS, "--posts-rules", "classic", storage=storage)
    assert running.tables(storage) == running.tables(other)
    assert running.tables(storage) != running.tables(undisturbed)
    assert running.files(storage / "raw") == raw


def test_storage_that_is_no_folder(tmp_path: Path) -> None:
    """A storage that can't be a folder is one line: where, why, and which setting to change."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    storage = tmp_path / "file" / "data"
    ran = running.run(running.command("Report", *FLAGS, "--millrace-storage", storage), tmp_path)
    error = refused(ran, tmp_path)
    assert f"millrace.storage = '{storage}', from the flag --millrace-storage: allowed is a folder that can be" in error
    assert f"({tmp_path}/file is no folder)" in error


def test_storage_where_nothing_may_be_written(tmp_path: Path) -> None:
    """A storage that lets nobody write is one line too, also for root: /proc takes no folder from anyone."""
    if not Path("/proc/self").exists():
        running.absent("/proc is not there")
    flags = (*FLAGS, "--millrace-storage", "/proc/millrace")
    ran = running.run(running.command("Report", *flags, "--workers", "1"), tmp_path)
    error = refused(ran, tmp_path)
    assert "/proc" in error
    assert "--millrace-storage" in error


@pytest.mark.parametrize(
    ("section", "key", "value", "allowed"),
    [
        (sections.gcp, "impersonate", "somebody", "a service account's e-mail address"),
        (sections.gcp, "project", "my project", "a project's id"),
        (sections.gcp, "region", "europe west1", "a region, such as europe-west1"),
        (sections.gcp, "kms_key", "key", "projects/P/locations/L/keyRings/R/cryptoKeys/K"),
        (sections.gcp, "user_project", "a b", "a project's id"),
        (sections.bigquery, "location", "E U", "a location, such as EU"),
        (sections.gcp, "lease", "0", "a number from 1 to 3600"),
        (sections.bigquery, "max_bytes_billed", "0", "a whole number of bytes"),
        (sections.dataflow, "attempts", "0", "a whole number from 1 to 100"),
        (sections.run, "detach", "perhaps", "true or false"),
    ],
)
def test_wrong_value_of_a_cloud_setting(section: type[Settings], key: str, value: str, allowed: str) -> None:
    """A wrong value in a section that only some runs read is refused like all others."""
    with pytest.raises(SettingError, match=f"{section.__name__}.{key} = '{value}', .*: allowed is {allowed}"):
        section(**{key: value})


def test_options_of_a_runner_go_by_task_over_those_of_all(tmp_path: Path) -> None:
    """[dataflow.Etl] overrides [dataflow] for Etl alone; Millrace's own keys are no options of Beam."""
    config = luigi.configuration.get_config()
    for name, key, value in (
        ("dataflow", "machine_type", "n2-standard-2"),
        ("dataflow", "attempts", "5"),
        ("dataflow.Etl", "machine_type", "n2-standard-8"),
        ("flink", "flink_master", "localhost:8081"),
    ):
        config.set(name, key, value)
    try:
        assert sections.dataflow_options("Count") == {"machine_type": "n2-standard-2"}
        assert sections.dataflow_options("Etl") == {"machine_type": "n2-standard-8"}
        assert sections.runner_options("FlinkRunner", "Etl") == {"flink_master": "localhost:8081"}
    finally:
        for name in ("dataflow", "dataflow.Etl", "flink"):
            config.remove_section(name)
