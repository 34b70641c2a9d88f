"""Environments of templates' launches: what each field becomes in a job, or of a flex template's command line.

Nothing is dropped: a field has an effect that jobs.get shows, or `unused` names it.
"""

from typing import Any

from google.cloud import dataflow_v1beta3 as api

from localcloud.dataflow_checks import camel

_IPS = api.WorkerIPAddressConfiguration
_ALGORITHMS = {
    api.AutoscalingAlgorithm.AUTOSCALING_ALGORITHM_NONE: "NONE",
    api.AutoscalingAlgorithm.AUTOSCALING_ALGORITHM_BASIC: "THROUGHPUT_BASED",
}
_GOALS = {
    api.FlexResourceSchedulingGoal.FLEXRS_COST_OPTIMIZED: "COST_OPTIMIZED",
    api.FlexResourceSchedulingGoal.FLEXRS_SPEED_OPTIMIZED: "SPEED_OPTIMIZED",
}
#: Fields that are flags of Beam's with a value, by the flag.
_VALUES = {
    "temp_location": "temp_location",
    "staging_location": "staging_location",
    "max_workers": "max_num_workers",
    "num_workers": "num_workers",
    "machine_type": "machine_type",
    "disk_size_gb": "disk_size_gb",
    "service_account_email": "service_account_email",
    "network": "network",
    "subnetwork": "subnetwork",
    "worker_region": "worker_region",
    "kms_key_name": "dataflow_kms_key",
    "sdk_container_image": "sdk_container_image",
}
#: Fields of the launcher's machine and of Java's workers, which are not here.
_UNUSED = (
    "launcher_machine_type",
    "enable_launcher_vm_serial_port_logging",
    "dump_heap_on_oom",
    "save_heap_dumps_to_gcs_path",
    "bypass_temp_dir_validation",
)
_AT_LEAST_ONCE = "streaming_mode_at_least_once"


def merged(launch: Any, default: Any) -> Any:
    """Return a flex template's environment: what the launch gives, and else what the template's spec does."""
    environment = type(launch)(default)
    given = type(launch).pb(launch)
    for field, _ in given.ListFields():
        type(launch).pb(environment).ClearField(field.name)
    type(launch).pb(environment).MergeFrom(given)
    return environment


def unused(environment: Any) -> list[str]:
    """Return the names of the fields that were given and have no effect here."""
    return [camel(name) for name in _UNUSED if getattr(environment, name, None)]


def flags(environment: Any) -> list[str]:
    """Return the flags with which a flex template's program is told of its environment, as the real launcher does."""
    found = [f"--{flag}={value}" for name, flag in _VALUES.items() if (value := getattr(environment, name))]
    if zone := environment.worker_zone or environment.zone:
        found.append(f"--worker_zone={zone}")
    if environment.enable_streaming_engine:
        found.append("--enable_streaming_engine")
    if environment.ip_configuration == _IPS.WORKER_IP_PUBLIC:
        found.append("--use_public_ips")
    if environment.ip_configuration == _IPS.WORKER_IP_PRIVATE:
        found.append("--no_use_public_ips")
    if algorithm := _ALGORITHMS.get(environment.autoscaling_algorithm):
        found.append(f"--autoscaling_algorithm={algorithm}")
    if goal := _GOALS.get(environment.flexrs_goal):
        found.append(f"--flexrs_goal={goal}")
    if _at_least_once(environment):
        found.append(f"--dataflow_service_options={_AT_LEAST_ONCE}")
    found += [f"--experiments={each}" for each in environment.additional_experiments]
    found += [f"--labels={key}={value}" for key, value in sorted(environment.additional_user_labels.items())]
    found += [f"--{option.lstrip('-')}" for option in environment.additional_pipeline_options]
    return found


def apply(environment: Any, job: Any, options: dict[str, Any]) -> None:
    """Change a classic template's job (api.Job), and its pipeline options, to what a launch's environment says."""
    there = job.environment
    if not there.worker_pools:
        there.worker_pools = [api.WorkerPool(kind="harness")]
    for pool in there.worker_pools:
        pool.num_workers = environment.num_workers or pool.num_workers
        if environment.max_workers:
            pool.autoscaling_settings.max_num_workers = environment.max_workers
        for name in ("machine_type", "network", "subnetwork", "disk_size_gb"):
            setattr(pool, name, getattr(environment, name) or getattr(pool, name))
        if environment.zone and not environment.worker_zone:
            pool.zone = environment.zone
        pool.ip_configuration = environment.ip_configuration or pool.ip_configuration
    if environment.worker_region or environment.worker_zone or environment.zone:
        there.worker_region = environment.worker_region
        there.worker_zone = environment.worker_zone or environment.zone
    there.service_account_email = environment.service_account_email or there.service_account_email
    there.service_kms_key_name = environment.kms_key_name or there.service_kms_key_name
    there.experiments = [*there.experiments, *environment.additional_experiments]
    if environment.enable_streaming_engine:
        there.experiments = [*there.experiments, "enable_streaming_engine"]
    if _at_least_once(environment):
        there.service_options = [*there.service_options, _AT_LEAST_ONCE]
    job.labels = {**job.labels, **environment.additional_user_labels}
    if environment.temp_location:
        there.temp_storage_prefix = environment.temp_location.replace("gs:/", "storage.googleapis.com", 1)
    _tell(environment, options)


def _tell(environment: Any, options: dict[str, Any]) -> None:
    """Have a pipeline's options, which its workers see, say what the launch's environment says."""
    for name, option in _VALUES.items():
        if value := getattr(environment, name, None):
            options[option] = value
    if zone := environment.worker_zone or environment.zone:
        options["worker_zone"] = zone
    if environment.ip_configuration:
        options["use_public_ips"] = environment.ip_configuration == _IPS.WORKER_IP_PUBLIC
    if environment.enable_streaming_engine:
        options["enable_streaming_engine"] = True
    if environment.additional_experiments:
        options["experiments"] = [*(options.get("experiments") or []), *environment.additional_experiments]
    if _at_least_once(environment):
        told = options.get("dataflow_service_options") or []
        options["dataflow_service_options"] = [*told, _AT_LEAST_ONCE]
    if environment.additional_user_labels:
        labels = [f"{key}={value}" for key, value in sorted(environment.additional_user_labels.items())]
        options["labels"] = [*(options.get("labels") or []), *labels]
    for option in environment.additional_pipeline_options:
        name, said, value = option.lstrip("-").partition("=")
        options[name] = value if said else True


def _at_least_once(environment: Any) -> bool:
    return bool(environment.streaming_mode == api.StreamingMode.STREAMING_MODE_AT_LEAST_ONCE)
