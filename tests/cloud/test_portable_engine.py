"""Beam's portability path: a job service and workers on another machine, in all but name.

The workers have Beam and the libraries, but none of our code, and no disk that the launcher has.
"""

import datetime
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY

import oracle
import oracle_tables
import portable_engine
import pytest
import running
from cloud_running import Place
from luigid_asking import free_port
from portable_engine import Engine

from localcloud import LocalCloud
from millrace.core.config import Config
from millrace.errors import SettingError
from millrace.runners import engines
from pipelines.posts import sample

FLAGS = ("--date", running.DAY, "--posts-days", 1)


@pytest.fixture(scope="module")
def engine(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine, from which all temporary files of the tests are hidden."""
    folder = tmp_path_factory.mktemp("engine")
    with portable_engine.started(folder, tmp_path_factory.getbasetemp(), cloud.environment()) as engine:
        yield engine


@pytest.fixture(scope="module")
def there(cloud: LocalCloud, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The place of a run of all four pipelines by runner = FlinkRunner, on that engine."""
    settings = {"millrace": {"runner": "FlinkRunner"}, "core": {"workers": "1"}, "flink": engine.settings}
    place = Place(cloud, tmp_path_factory.mktemp("launcher"), "engine", more=settings)
    ran = place.luigi("Aggregate", *FLAGS)
    assert ran.code == 0, f"{ran}\n{engine.said()}"
    return place


def test_all_tables_are_those_of_one_machine_and_of_the_oracle(there: Place, undisturbed: Path) -> None:
    """Row for row; and every stage says that it ran on the engine."""
    found, single = there.tables(), running.tables(undisturbed)
    expected = oracle_tables.expected(records(), running.DAY, 1, "standard")
    for name, rows in expected.items():
        assert rows
        assert found[name] == single[name], name
        assert running.same(found[name], rows), name
    manifests = there.manifests()
    assert {manifest.runner for manifest in manifests.values()} == {"FlinkRunner"}
    for name, manifest in manifests.items():
        same = running.partition(undisturbed, name)
        assert same is not None
        counted = [{k: n for k, n in each.counters.items() if k != "rows_read"} for each in (manifest, same)]
        assert counted[0] == counted[1]
        assert [(f.table, f.rows, f.crc32c) for f in manifest.files] == [
            (f.table, f.rows, f.crc32c) for f in same.files
        ]
    assert there.leftovers() == []


def records() -> list[bytes]:
    """The records of the sample that the window and the day before it read: each day's, dated by that day."""
    days = (running.DAY, running.DAY - datetime.timedelta(days=1))
    return [line for day in days for line in sample.lines(day) if dated(line) in (day, None)]


def dated(record: bytes) -> datetime.date | None:
    """The day of a record's post; None for what is none."""
    post = oracle.parse(record)
    return post.created_at.date() if isinstance(post, oracle.Post) else None


def test_the_workers_had_none_of_our_code(engine: Engine, there: Place) -> None:
    """Their Python has Beam, and no module of ours: what they computed with came with the job."""
    asked = "import apache_beam, importlib.util as u; print([u.find_spec(n) for n in ('millrace', 'pipelines')])"
    command = [portable_engine.PYTHON, "-c", asked]
    done = subprocess.run(command, env=engine.environment, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout == "[None, None]\n"


def test_the_workers_had_another_disk(engine: Engine, there: Place) -> None:
    """Neither the launcher's folder nor the project is there for them: by mounts of their own, or else by a fence."""
    assert there.config.exists()
    assert not engine.sees(there.config)
    assert not engine.sees(running.ROOT / "millrace" / "__init__.py")
    assert engine.sees(Path(portable_engine.PYTHON))


def test_a_storage_on_the_launchers_disk_is_refused_beforehand(engine: Engine, there: Place, tmp_path: Path) -> None:
    """One sentence that names the setting; nothing has run, and nothing is written."""
    flags = (*FLAGS, "--millrace-warehouse", "")
    ran = running.luigi("Aggregate", *flags, storage=tmp_path / "data", env=there.environment)
    assert ran.code
    said = "runner = FlinkRunner has its workers elsewhere, and they can't reach .*/data, from the flag "
    said += "--millrace-storage; set storage in .millrace. to gs://BUCKET/PREFIX, or environment_type in .flink. to "
    assert [re.search(f"{said}LOOPBACK$", error) for error in ran.errors] == [ANY], ran
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_pool_that_installs_nothing_is_told_in_a_sentence(engine: Engine, tmp_path: Path) -> None:
    """Beam's own pool, without --container_executable: its workers import what came with the job, and can't."""
    port = free_port()
    (tmp_path / "python").symlink_to(portable_engine.PYTHON)  # which the pool looks for by this name
    pool = [tmp_path / "python", "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    environment = {"PATH": str(tmp_path), "PYTHONPATH": sysconfig.get_path("purelib")}
    argv = [
        "--runner=FlinkRunner",
        f"--job_endpoint={engine.job_endpoint}",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{port}",
        '--input=["expand", "gs://bucket/none"]',
    ]
    with portable_engine.running_process(pool, tmp_path / "pool.log", environment):
        running.wait_for(lambda: portable_engine.listens(port), 60)
        with pytest.raises(SettingError, match=r"no module millrace; start their pool with --container_executable, as"):
            engines.run(Config(), "FlinkRunner", "dataflow_case", argv)
