"""Other engines than one process: Dask's, and processes of Beam's own; and what stops a run before it begins."""

import sys
from collections.abc import Iterator
from pathlib import Path

import distributed
import portable_engine
import pytest
import running
from dataflow_running import Set

from millrace.beam import options
from millrace.core.config import Config
from millrace.core.manifests import Manifest
from millrace.errors import ServiceError, SettingError
from millrace.runners import dask_cluster, engines
from millrace.tasks import session


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """A cluster of Dask's: two processes."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster


def test_all_tables_on_dask_are_those_of_one_process(
    cluster: distributed.LocalCluster, undisturbed: Path, tmp_path: Path
) -> None:
    """runner = DaskRunner, the four pipelines on a cluster of two processes: every table, row for row."""
    said = f"[dask]\ndask_client_address = {cluster.scheduler_address}\n"
    equal(made_by(tmp_path, said, "DaskRunner"), undisturbed)


@running.long
def test_all_tables_of_several_processes_are_those_of_one(undisturbed: Path, tmp_path: Path) -> None:
    """Beam's own processes, two of them: direct_running_mode = multi_processing."""
    said = "[fnapi]\ndirect_running_mode = multi_processing\ndirect_num_workers = 2\n"
    equal(made_by(tmp_path, said, "FnApiRunner"), undisturbed)


def made_by(folder: Path, settings: str, runner: str) -> Path:
    """The storage of a run of all four pipelines with further settings."""
    own, storage = folder / "own.cfg", folder / "data"
    text = (running.ROOT / "luigi.cfg").read_text(encoding="utf-8").replace("\nworkers = 2\n", "\nworkers = 1\n")
    own.write_text(text + "\n" + settings, encoding="utf-8")
    flags = ("--date", running.DAY, "--posts-days", 1, "--millrace-runner", runner)
    ran = running.luigi("Aggregate", *flags, storage=storage, env=running.environment(LUIGI_CONFIG_PATH=str(own)))
    assert ran.code == 0, ran
    made = [running.partition(storage, each) for each in running.complete(storage)]
    assert {manifest.runner for manifest in made if manifest} == {runner}
    assert running.leftovers(storage) == []
    return storage


def equal(storage: Path, expected: Path) -> None:
    """Fails unless all partitions of both have the same rows, and have counted alike."""
    assert running.tables(storage) == running.tables(expected)
    for each in running.complete(storage):
        made, known = running.partition(storage, each), running.partition(expected, each)
        assert made is not None
        assert known is not None
        assert [(f.table, f.rows) for f in made.files] == [(f.table, f.rows) for f in known.files]
        assert counted(made) == counted(known)
    for name in ("raw", "posts", "posts_rejected"):
        found, there = (running.select(each, f"SELECT * FROM {name}") for each in (storage, expected))
        assert sorted(map(repr, found)) == sorted(map(repr, there)), name


def counted(manifest: Manifest) -> dict[str, int]:
    """What a partition has counted, less what is only known of a batch of one."""
    return {name: count for name, count in manifest.counters.items() if name != "rows_read"}


THREADS = {"direct_running_mode": "multi_threading"}
FLINK = {"job_endpoint": "x:1", "flink_master": "x:2"}
DOCKER = {"job_endpoint": "x:1", "environment_type": "DOCKER"}


@pytest.mark.parametrize(
    ("runner", "section", "given", "said"),
    [
        ("FlinkRunner", "flink", {}, r"with job_endpoint or flink_job_server_jar, in \[flink\] or \[flink.Etl\]$"),
        ("FlinkRunner", "flink", {"flink_master": "x:2"}, r"name one with job_endpoint or flink_job_server_jar, in"),
        ("SparkRunner", "spark", {}, r"with job_endpoint or spark_job_server_jar, in \[spark\] or \[spark.Etl\]$"),
        ("PortableRunner", "portable", {}, r"with job_endpoint, in \[portable\] or \[portable.Etl\]$"),
        ("PrismRunner", "prism", {}, r"with job_endpoint or prism_location, in \[prism\] or \[prism.Etl\]$"),
        (
            "FnApiRunner",
            "fnapi",
            THREADS,
            r"^\[fnapi\] direct_running_mode = 'multi_threading', .* say multi_processing",
        ),
        ("FnApiRunner", "fnapi.Etl", THREADS, r"^\[fnapi.Etl\] direct_running_mode = .* a fault of Beam's"),
        ("FlinkRunner", "flink", THREADS, r"^\[flink\] direct_running_mode = .* a fault of Beam's"),
        ("DataflowRunner", "dataflow", THREADS, r"^\[dataflow\] direct_running_mode = .* a fault of Beam's"),
        ("PortableRunner", "portable", {"job_endpoint": "x:1"}, r"^runner = PortableRunner has its workers elsewhere"),
        ("FlinkRunner", "flink", FLINK, r"they can't reach data, .*; set storage in \[millrace\] to gs://BUCKET/PREF"),
        ("SparkRunner", "spark", DOCKER, r"or environment_type in \[spark\] to LOOPBACK$"),
    ],
)
def test_what_stops_a_runner_is_said_before_anything_begins(
    setting: Set, runner: str, section: str, given: dict[str, str], said: str
) -> None:
    """One sentence that names the option; nothing has been looked for on the net."""
    for key, value in given.items():
        setting(section, key, value)
    with pytest.raises(SettingError, match=said):
        session.current().runner(runner).check("Etl")


@pytest.mark.parametrize(
    ("runner", "section", "given"),
    [
        ("FlinkRunner", "flink", {"job_endpoint": "x:1"}),
        ("FlinkRunner", "flink", {"job_endpoint": "x:1", "flink_master": "x:2", "environment_type": "LOOPBACK"}),
        ("SparkRunner", "spark", {"spark_job_server_jar": "/x.jar", "spark_master_url": "local[2]"}),
        ("PrismRunner", "prism", {"prism_location": "/prism"}),
        ("FnApiRunner", "fnapi", {"direct_running_mode": "multi_processing"}),
        ("DaskRunner", "dask", {"dask_client_address": "tcp://x:1", "dask_partition_size": "3"}),
    ],
)
def test_what_is_complete_passes(setting: Set, runner: str, section: str, given: dict[str, str]) -> None:
    for key, value in given.items():
        setting(section, key, value)
    session.current().runner(runner).check("Etl")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--direct_running_mode=multi_threading"], "--direct_running_mode=multi_threading: tables break"),
        (["--runner=DirectRunner"], "--runner=DirectRunner: Beam would look for its Prism on the net"),
        (["--runner", "flink"], "--runner=flink: .* name one with job_endpoint or flink_job_server_jar"),
    ],
)
def test_a_pipeline_by_itself_is_refused_the_same(flags: list[str], said: str) -> None:
    """As python -m pipelines.posts.etl runs it."""
    with pytest.raises(SettingError, match=said):
        options.run(lambda pipeline, given: None, flags)


def test_without_dask_the_command_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is None in sys.modules is a package that Python does not find."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SettingError, match=r"distributed is not .*; pip install 'millrace\[dask\]' installs it$"):
        session.current().runner("DaskRunner").check("Etl")


def connected(cluster: distributed.LocalCluster, pipeline: str, storage: str) -> list[str]:
    """The options with which a pipeline runs on a cluster, whose workers have been asked."""
    with dask_cluster.connected({"dask_client_address": cluster.scheduler_address}, pipeline, storage) as options:
        return options


def test_units_of_work_are_spread_over_a_cluster(cluster: distributed.LocalCluster, tmp_path: Path) -> None:
    """Four partitions for each of the cluster's threads, unless the settings say how many."""
    assert connected(cluster, "pipelines.posts.etl", str(tmp_path)) == ["--dask_npartitions=8"]
    given = {"dask_client_address": cluster.scheduler_address, "dask_partition_size": "1"}
    with dask_cluster.connected(given, "pipelines.posts.etl", str(tmp_path)) as options:
        assert options == []


def test_a_worker_of_dasks_with_other_code_is_refused(
    cluster: distributed.LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without the module, and one that has worked with the module as it was before: it loads nothing twice."""
    place = tmp_path / "code"
    place.mkdir()
    (place / "own_pipeline.py").write_text("N = 1")
    monkeypatch.syspath_prepend(place)
    with pytest.raises(
        SettingError, match=r"^runner = DaskRunner: the worker tcp://.* has no module own_pipeline; start"
    ):
        connected(cluster, "own_pipeline", str(tmp_path))
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        client.run(lambda path: __import__("sys").path.append(path), str(place))
    assert connected(cluster, "own_pipeline", str(tmp_path)) == connected(cluster, "own_pipeline", str(tmp_path))
    (place / "own_pipeline.py").write_text("N = 2")
    with pytest.raises(SettingError, match=r"the worker tcp://.* has other code of this project; start it anew$"):
        connected(cluster, "own_pipeline", str(tmp_path))


def test_a_worker_of_dasks_with_another_disk_is_refused(cluster: distributed.LocalCluster, tmp_path: Path) -> None:
    """It is asked for a file of the storage; in a bucket it needs none."""
    way = portable_engine.apart(tmp_path)
    if not way:
        pytest.skip("this system lets no process have mounts of its own (unshare -m)")
    storage = tmp_path / "data"
    storage.mkdir()
    worker = (
        f"{running.python()} -m distributed.cli.dask_worker {cluster.scheduler_address} --nthreads 1 --no-dashboard"
    )
    hidden = f"mount -t tmpfs none '{storage}' && exec {worker} --local-directory '{tmp_path}'"
    log = tmp_path / "worker.log"
    with portable_engine.running_process([*way, "sh", "-c", hidden], log, running.environment()):
        running.wait_for(lambda: len(cluster.scheduler_info["workers"]) == 3, 60)
        assert len(cluster.scheduler_info["workers"]) == 3, log.read_text()
        with pytest.raises(
            SettingError, match=rf"the worker tcp://.* can't reach {storage}; set storage in \[millrace\]"
        ):
            connected(cluster, "pipelines.posts.etl", str(storage))
        assert connected(cluster, "pipelines.posts.etl", "gs://bucket/data") == ["--dask_npartitions=12"]
    assert list(storage.iterdir()) == []


def test_a_server_that_does_not_answer_is_told_in_a_sentence() -> None:
    """Neither Dask's scheduler nor a job service."""
    given = {"dask_client_address": "tcp://127.0.0.1:1", "dask_connection_timeout": "1"}
    said = r"^no scheduler of Dask's answers \(.*127.0.0.1:1.*\), see \[dask\]"
    with pytest.raises(ServiceError, match=said), dask_cluster.connected(given, "dataflow_case", "gs://bucket/data"):
        pass
    argv = ["--runner=FlinkRunner", "--job_endpoint=localhost:1", "--job_server_timeout=1", '--input=["sleep", 0]']
    with pytest.raises(
        ServiceError, match=r"^no job service answers at job_endpoint = localhost:1 \(\[flink\]\); start"
    ):
        engines.run(Config(), "FlinkRunner", "dataflow_case", argv)
