"""What the local Dataflow's API tells of a job: views of it, messages, metrics and how its stages were executed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from google.cloud import dataflow_v1beta3 as api

from localcloud.dataflow_checks import RefusedError
from localcloud.dataflow_jobs import Job, Stage, now

_ORIGIN = "dataflow/v1b3"
_PAGE = 100
#: From the least important to the most; their numbers are in another order.
_IMPORTANCE = [
    f"JOB_MESSAGE_{name}" for name in ("IMPORTANCE_UNKNOWN", "DEBUG", "DETAILED", "BASIC", "WARNING", "ERROR")
]
#: What steps call the kinds of transforms.
_STEP_KINDS = {"READ_KIND": "ParallelRead", "GROUP_BY_KEY_KIND": "GroupByKey", "FLATTEN_KIND": "Flatten"}
#: What a stage's state is among the states of jobs.
_STAGE_STATES = {
    "NOT_STARTED": api.JobState.JOB_STATE_PENDING,
    "RUNNING": api.JobState.JOB_STATE_RUNNING,
    "SUCCEEDED": api.JobState.JOB_STATE_DONE,
    "FAILED": api.JobState.JOB_STATE_FAILED,
    "CANCELLED": api.JobState.JOB_STATE_CANCELLED,
}


def page(items: Sequence[Any], size: int, token: str) -> tuple[Sequence[Any], str]:
    """Return a page of a list, and the token of the next one."""
    if token and not token.isdecimal():
        raise RefusedError(400, f"The page token {token!r} is invalid.")
    first = int(token or 0)
    end = first + (size or _PAGE)
    return items[first:end], str(end) if end < len(items) else ""


def listed(jobs: Sequence[Job], wanted: Any, location: str) -> Any:
    """Return the answer to a ListJobsRequest, of these jobs; without a location, those of every region."""
    kinds = api.ListJobsRequest.Filter
    found = [job for job in jobs if location in ("", job.location) and wanted.name in ("", job.name)]
    # As documented: by creation, the newest first; of the terminated, by termination; of all, the active ones first.
    active = sorted((job for job in found if not job.over), key=lambda job: job.created, reverse=True)
    over = sorted((job for job in found if job.over), key=lambda job: job.entered, reverse=True)
    if wanted.filter == kinds.UNKNOWN:
        found = sorted(found, key=lambda job: job.created, reverse=True)
    else:
        found = {kinds.ACTIVE: active, kinds.TERMINATED: over}.get(wanted.filter, [*active, *over])
    shown, following = page(found, wanted.page_size, wanted.page_token)
    summaries = [described(job, api.JobView.JOB_VIEW_SUMMARY) for job in shown]
    return api.ListJobsResponse(jobs=summaries, next_page_token=following)


def described(job: Job, view: Any) -> Any:
    """Return a job as the API tells of it: a summary, unless the view asks for more.

    JOB_VIEW_DESCRIPTION adds labels, the graph, and of the environment what names the SDK and the experiments;
    JOB_VIEW_ALL adds everything.
    """
    views, environment = api.JobView, job.submitted.environment
    told = api.Job(job.submitted) if view == views.JOB_VIEW_ALL else api.Job()
    told.id, told.project_id, told.location, told.name = job.id, job.project, job.location, job.name
    told.type_ = job.submitted.type_
    told.current_state = api.JobState.__members__[job.state]
    told.current_state_time, told.create_time = job.entered, job.created
    if job.started:
        told.start_time = job.started
    asked = {"JOB_STATE_DRAINED": "JOB_STATE_DRAINING", "JOB_STATE_UPDATED": ""}.get(job.asked, job.asked)
    if asked:
        told.requested_state = api.JobState.__members__[asked]
    told.replaced_by_job_id = job.replaced_by
    agent = environment.user_agent
    if agent and "version" in agent:
        told.job_metadata.sdk_version = api.SdkVersion(
            version=agent["version"],
            version_display_name=agent.get("name", ""),
            sdk_support_status=api.SdkVersion.SdkSupportStatus.SUPPORTED,
        )
    if view == views.JOB_VIEW_DESCRIPTION:
        told.labels = job.submitted.labels
        told.environment.user_agent, told.environment.version = agent, environment.version
        told.environment.experiments = environment.experiments
    if view == views.JOB_VIEW_ALL:
        told.steps = _steps(job)
    if view in (views.JOB_VIEW_DESCRIPTION, views.JOB_VIEW_ALL):
        told.pipeline_description = _pipeline(job)
        told.stage_states = [
            api.ExecutionStageState(
                execution_stage_name=stage.id,
                execution_stage_state=_STAGE_STATES[_state(job, stage)],
                current_state_time=stage.ended or stage.started or job.entered,
            )
            for stage in list(job.stages)
        ]
    return told


def _steps(job: Job) -> list[Any]:
    """Return the transforms as steps, each with the steps whose outputs it reads."""
    makers = {output: each["id"] for each in job.graph for output in each["outputs"]}
    steps = []
    for each in job.graph:
        inputs = [
            {"@type": "OutputReference", "step_name": makers[read], "output_name": read}
            for read in each["inputs"]
            if read in makers
        ]
        known = {"user_name": each["name"], **({"parallel_input": inputs[0]} if inputs else {})}
        if each["kind"] == "FLATTEN_KIND":
            known = {"user_name": each["name"], "inputs": inputs}
        steps.append(api.Step(kind=_STEP_KINDS.get(each["kind"], "ParallelDo"), name=each["id"], properties=known))
    return steps


def _pipeline(job: Job) -> Any:
    """Return the graph: the transforms that were submitted, and the stages that were made of them."""
    transforms = [
        api.TransformSummary(
            id=each["id"],
            name=each["name"],
            kind=api.KindType.__members__[each["kind"]],
            input_collection_name=each["inputs"],
            output_collection_name=each["outputs"],
        )
        for each in job.graph
    ]
    names = {each["id"]: each["name"] for each in job.graph}
    stages = [
        api.ExecutionStageSummary(
            id=stage.id,
            name=stage.name,
            component_transform=[
                api.ExecutionStageSummary.ComponentTransform(
                    name=name, user_name=name, original_transform=next((id for id in names if names[id] == name), "")
                )
                for name in stage.transforms
            ],
        )
        for stage in list(job.stages)
    ]
    return api.PipelineDescription(original_pipeline_transform=transforms, execution_pipeline_stage=stages)


def _state(job: Job, stage: Stage) -> str:
    """Return the state of a stage, without its EXECUTION_STATE_."""
    if stage.started is None:
        return "NOT_STARTED"
    if stage.ended is not None:
        return "SUCCEEDED"
    return {"JOB_STATE_FAILED": "FAILED"}.get(job.state, "CANCELLED") if job.over else "RUNNING"


def details(job: Job, wanted: Any) -> Any:
    """Return how a job is executed: its stages. Raises RefusedError for a bad page token."""
    shown, following = page(list(job.stages), wanted.page_size, wanted.page_token)
    stages = [
        api.StageSummary(
            stage_id=stage.id,
            state=api.ExecutionState.__members__[f"EXECUTION_STATE_{_state(job, stage)}"],
            start_time=stage.started,
            end_time=stage.ended,
        )
        for stage in shown
    ]
    return api.JobExecutionDetails(stages=stages, next_page_token=following)


def stage_details(job: Job, id: str, wanted: Any) -> Any:
    """Return how a stage is executed: one worker and work item. Raises RefusedError for one that is not there."""
    stage = next((each for each in job.stages if each.id == id), None)
    if stage is None:
        raise RefusedError(404, f"Job {job.id} has no stage {id!r}; it has {[each.id for each in job.stages]}.")
    since, until = wanted.start_time, wanted.end_time
    if (
        stage.started is None
        or (until is not None and stage.started >= until)
        or (since is not None and stage.ended is not None and stage.ended < since)
    ):
        return api.StageExecutionDetails()
    item = api.WorkItemDetails(
        task_id=f"{stage.id}-1",
        attempt_id=str(job.attempts),
        state=api.ExecutionState.__members__[f"EXECUTION_STATE_{_state(job, stage)}"],
        start_time=stage.started,
        end_time=stage.ended,
    )
    worker = api.WorkerDetails(worker_name=f"{job.name[:40]}-{job.id[-4:]}-harness-0000", work_items=[item])
    return api.StageExecutionDetails(workers=[worker])


def messages(job: Job, wanted: Any) -> Any:
    """Return the answer to a ListJobMessagesRequest. Raises RefusedError for a bad page token."""
    least = _IMPORTANCE.index(api.JobMessageImportance(wanted.minimum_importance).name)
    since, until = wanted.start_time, wanted.end_time
    found = [
        api.JobMessage(
            id=f"{number:020d}",
            time=each.time,
            message_text=each.text,
            message_importance=api.JobMessageImportance.__members__[each.importance],
        )
        for number, each in enumerate(list(job.messages))
        if _IMPORTANCE.index(each.importance) >= least
        and (since is None or each.time >= since)
        and (until is None or each.time < until)
    ]
    shown, following = page(found, wanted.page_size, wanted.page_token)
    events = [
        api.AutoscalingEvent(
            current_num_workers=number,
            target_num_workers=number,
            event_type=api.AutoscalingEvent.AutoscalingEventType.CURRENT_NUM_WORKERS_CHANGED,
            time=time,
        )
        for time, number in list(job.workers)
    ]
    return api.ListJobMessagesResponse(job_messages=shown, next_page_token=following, autoscaling_events=events)


def metrics(job: Job) -> Any:
    """Return each metric twice, as Dataflow has it: committed, and tentative with what the bundles at work have so
    far.
    """
    told = job.metrics
    updates = [
        _update(_ORIGIN, name, {"original_name": f"Service-{original}", **tentative}, scalar=value)
        for tentative in ({}, {"tentative": "true"})
        for (name, original), value in _used(job).items()
    ]
    if job.streaming and not job.over:
        for name, seconds in zip(("system", "data"), job.behind, strict=True):
            # Three stages: one that is behind, one that is not, and one whose watermark is not known yet.
            stages = {"F1": int((now().timestamp() - seconds) * 1e6), "F2": int(now().timestamp() * 1e6), "F3": -1}
            updates += [
                _update(_ORIGIN, f"{stage}-windmill-{name}-watermark", {}, scalar=micros)
                for stage, micros in stages.items()
            ]
    for step, namespace, name, value, committed in told.get("counters", []):
        context = {"namespace": namespace, "step": step} | ({} if committed else {"tentative": "true"})
        updates.append(_update("user", name, context, kind="Sum", scalar=value))
    for step, namespace, name, value, committed in told.get("distributions", []):
        context = {"namespace": namespace, "step": step} | ({} if committed else {"tentative": "true"})
        updates.append(_update("user", name, context, kind="Distribution", distribution=value))
        mean = value["sum"] / value["count"] if value["count"] else 0.0
        for part, number in {**{key: value[key] for key in ("min", "max", "count")}, "mean": mean}.items():
            updates.append(_update("user", f"{name}_{part.upper()}", context, scalar=number))
    return api.JobMetrics(metric_time=now(), metrics=updates)


def _used(job: Job) -> dict[tuple[str, str], float]:
    """Return what Dataflow bills for a job, by the metrics' names: seconds of CPU, MB and GB and seconds of them.

    The worker is taken to have one CPU, and as much memory as the job's process used at most.
    """
    ends = [time for time, _ in list(job.workers)]
    begun, ended = (ends[0], ends[1] if len(ends) > 1 else now()) if ends else (job.created, job.created)
    seconds = (ended - begun).total_seconds()
    memory = math.ceil(job.metrics.get("memory_mb", 0.0))
    shuffled = job.metrics.get("shuffled_bytes", 0) / 2**30
    busy = len(ends) == 1
    return {
        ("CurrentVcpuCount", "cpu_num"): int(busy),
        ("CurrentMemoryUsage", "mem_mb"): memory * busy,
        ("CurrentPdUsage", "pd_gb"): 0,
        ("TotalVcpuTime", "cpu_num_seconds"): math.ceil(seconds),
        ("TotalMemoryUsage", "mem_mb_seconds"): math.ceil(seconds * memory),
        ("TotalPdUsage", "pd_gb_seconds"): 0,
        ("TotalShuffleDataProcessed", "shuffle_service_actual_gb"): shuffled,
        ("BillableShuffleDataProcessed", "shuffle_service_chargeable_gb"): shuffled / 4,
    }


def _update(origin: str, name: str, context: Mapping[str, str], **values: Any) -> Any:
    structured = api.MetricStructuredName(origin=origin, name=name, context=dict(context))
    return api.MetricUpdate(name=structured, cumulative=True, update_time=now(), **values)
