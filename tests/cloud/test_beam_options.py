"""Options of Beam in luigi.cfg."""

import pytest
from dataflow_running import Set, submit

from localcloud.dataflow import Dataflow
from millrace.errors import SettingError
from millrace.runners import beam_options
from millrace.tasks import session


def argv(task: str = "Etl") -> list[str]:
    return beam_options.arguments(session.current().config, task)


def test_options_are_given_as_beam_wants_them(local: Dataflow, setting: Set) -> None:
    for key, value in {
        "machine-type": "n2-standard-4",
        "use_public_ips": "false",
        "enable_hot_key_logging": "yes",
        "experiments": "a,b=c",
        "labels": "team=data, env=prod",
        "sdk_harness_container_image_overrides": "\n.*java.*,example.com/java",
        "max_num_workers": "7",
        "disk_size_gb": "",
        "no_auth": "false",
    }.items():
        setting("dataflow", key, value)
    setting("dataflow.Etl", "max_num_workers", "9")
    given = argv()
    assert given[0].startswith("--dataflow_endpoint=")
    assert given[1:] == [
        "--machine_type=n2-standard-4",
        "--no_use_public_ips",
        "--enable_hot_key_logging",
        "--experiments=a,b=c",
        "--labels=team=data",
        "--labels=env=prod",
        "--sdk_harness_container_image_overrides=.*java.*,example.com/java",
        "--max_num_workers=9",
    ]
    assert "--max_num_workers=7" in argv("Count")


@pytest.mark.parametrize(
    ("key", "value", "given"),
    [
        ("use_public_ips", "true", "--use_public_ips"),
        ("use_public_ips", "false", "--no_use_public_ips"),
        ("no_use_public_ips", "true", "--no_use_public_ips"),
        ("no_use_public_ips", "false", "--use_public_ips"),
    ],
)
def test_a_flag_may_be_said_by_its_opposite(setting: Set, key: str, value: str, given: str) -> None:
    setting("dataflow", key, value)
    assert argv() == [given]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("machine_typ", "x", "Beam has no such option; did you mean machine_type?"),
        ("num_workers", "many", "invalid int value: 'many'"),
        ("autoscaling_algorithm", "BOO", "invalid choice: 'BOO'"),
        ("use_public_ips", "perhaps", "allowed is true or false"),
        ("region", "us-east1", r"say region in \[gcp\]"),
        ("input", "x", "Beam has no such option"),
        ("help", "true", "Beam has no such option"),
    ],
)
def test_an_option_that_beam_does_not_take_is_told(
    local: Dataflow, setting: Set, key: str, value: str, said: str
) -> None:
    setting("dataflow.Etl", key, value)
    jobs = len(local.jobs)
    with pytest.raises(SettingError, match=rf"^\[dataflow.Etl\] {key} = '{value}', .*{said}"):
        submit("sleep", 0)
    assert len(local.jobs) == jobs


def test_a_setting_for_all_tasks_is_none_of_one_task(setting: Set) -> None:
    """It would be read by nobody."""
    setting("dataflow.Etl", "attempts", "5")
    with pytest.raises(SettingError, match=r"^\[dataflow.Etl\] attempts = '5', .*holds for all tasks.* \[dataflow\]$"):
        argv()
    assert argv("Count") is not None


def test_other_runners_options_are_checked_as_well(setting: Set) -> None:
    """Flags, lists, and what Beam does not know: as on Dataflow."""
    setting("flink", "flink_master", "localhost:8081")
    setting("flink", "flink-submit-uber-jar", "true")
    setting("flink.Etl", "parallelism", "4")
    assert beam_options.arguments(session.current().config, "Etl", "FlinkRunner") == [
        "--flink_master=localhost:8081",
        "--flink_submit_uber_jar",
        "--parallelism=4",
    ]
    assert beam_options.arguments(session.current().config, "Count", "SparkRunner") == []
    setting("flink", "job_name", "mine")  # which Millrace gives on Dataflow alone
    assert beam_options.arguments(session.current().config, "Count", "FlinkRunner")[-1] == "--job_name=mine"
    setting("flink", "paralellism", "4")
    with pytest.raises(SettingError, match=r"^\[flink\] paralellism = '4', .*; did you mean parallelism\?$"):
        beam_options.arguments(session.current().config, "Count", "FlinkRunner")
