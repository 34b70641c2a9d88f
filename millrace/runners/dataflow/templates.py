"""Templates of Dataflow: what is known of one, what is wrong with parameters for it, and its launch, once.

A launch takes no request id, so that Dataflow itself does not tell a repeated launch from another one. What makes it
one job all the same:

    the name     is the attempt's own, in the ledger before the launch; Dataflow has one active job of a name at most
    a look       comes before each repetition: a launch whose answer was lost is found by the name, whatever became of
                 its job by then, created when the attempt was begun or later
    the claim    is confirmed before each try, so that a process that was taken for dead launches nothing more
    a label      of the job names the attempt's request: a job of that name with another one is not this attempt's
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.beam.google_errors import passes, said
from millrace.common.polling import Pauses
from millrace.errors import ConflictError, ServiceError, SettingError
from millrace.gcloud.clients import Google
from millrace.runners import beam_options
from millrace.runners.dataflow import jobs
from millrace.runners.dataflow.jobs import REQUEST_LABEL, TIMEOUT, Job, Where
from millrace.runners.dataflow.submission import FullError, full, in_turn
from millrace.runners.runner import Ticket

#: By how much the clocks of this host and of Dataflow may differ.
_CLOCKS = datetime.timedelta(minutes=10)


@dataclass(frozen=True)
class Template:
    """What Dataflow knows of a template. parameters: its metadata (ParameterMetadata), none where it has no metadata.

    flex: whether it is a flex template. streaming: whether its metadata says that its jobs have no end.
    """

    uri: str
    flex: bool
    streaming: bool
    parameters: Sequence[Any] = field(repr=False)


def template(google: Google, uri: str, where: Where) -> Template:
    """Return what Dataflow knows of a template. Raises SettingError for a template that is not there, and others."""
    from google.cloud import dataflow_v1beta3 as api

    request = {"project_id": where[0], "location": where[1], "gcs_path": uri}
    with google.told(f"read the template {uri}"):
        found = google.templates.classic.get_template(request=request, retry=google.retry(), timeout=TIMEOUT)
    kinds = api.GetTemplateResponse.TemplateType
    parameters = found.metadata.parameters or found.runtime_metadata.parameters
    return Template(uri, found.template_type == kinds.FLEX, found.metadata.streaming, list(parameters))


def problems(known: Template, given: Mapping[str, str]) -> list[str]:
    """Return all that is wrong with parameters for a template, a phrase each.

    A template without metadata takes any parameters, as far as anybody can say before its launch.
    """
    there = {each.name: each for each in known.parameters}
    others = [name for name in given if there and name not in there]
    if others and known.flex:  # whose program may take any option of the runner, though its metadata names none
        others = [name for name in others if name not in beam_options.known()]
    found = [f"{name} = {given[name]!r} is not one of its parameters" for name in others]
    for name, each in there.items():
        if name not in given:
            if not each.is_optional and _asked_for(each, given, there):
                found.append(f"{name} is missing ({' '.join(each.help_text.split()) or each.label or name})")
            continue
        found += [f"{name} = {given[name]!r} does not match {pattern}" for pattern in _unmatched(each, given[name])]
        values = [option.value for option in each.enum_options]
        if values and given[name] not in values:
            found.append(f"{name} = {given[name]!r} is not one of {', '.join(values)}")
    return found


def _asked_for(parameter: Any, given: Mapping[str, str], there: Mapping[str, Any]) -> bool:
    """Return whether a parameter is there at all: some are only where another one has certain values."""
    if not parameter.parent_name or not parameter.parent_trigger_values:
        return True
    parent = there.get(parameter.parent_name)
    return given.get(parameter.parent_name, parent.default_value if parent else "") in parameter.parent_trigger_values


def _unmatched(parameter: Any, value: str) -> list[str]:
    """Return the patterns that a value does not match. One that can't be read here is Dataflow's to check."""
    import regex  # here, because loading it takes 50 ms, and few runs launch templates

    found = []
    for pattern in parameter.regexes:
        try:
            # RE2, which Dataflow has, takes [[:alpha:]] and \w for ASCII's letters, and \p{L} for those of all scripts.
            if not regex.fullmatch(pattern, value, 0 if "\\p" in pattern.lower() else regex.ASCII):
                found.append(pattern)
        except regex.error:
            continue
    return found


def find(google: Google, ticket: Ticket, since: str) -> Job | None:
    """Return the job that was launched for an attempt, a finished one included; None for none.

    since: when the attempt was begun. Of several of the name, as when somebody has launched one again by hand, the
    first is the attempt's.
    """
    for each in _named(google, ticket, since):
        # A list does not tell of labels.
        job = jobs.get(google, each.id, jobs.where_of(ticket)) or jobs.job_of(google, each, jobs.where_of(ticket))
        if job.request_id in ("", ticket.request_id):
            return job
    return None


def _named(google: Google, ticket: Ticket, since: str) -> list[Any]:
    """Return the jobs of an attempt's name that were created since it was begun, in the order of their creation."""
    (project, region), begun = jobs.where_of(ticket), datetime.datetime.fromisoformat(since) - _CLOCKS
    request = {"project_id": project, "location": region, "name": ticket.name, "filter": "ALL"}
    with google.told(f"list the Dataflow jobs named {ticket.name}"):
        listed = list(google.dataflow.jobs.list_jobs(request=request, retry=google.retry(), timeout=TIMEOUT))
    known = [each for each in listed if each.name == ticket.name and (not each.create_time or each.create_time > begun)]
    return sorted(known, key=lambda each: each.create_time.timestamp() if each.create_time else 0.0)


def launch(
    google: Google,
    known: Template,
    given: Mapping[str, str],
    environment: Any,
    ticket: Ticket,
    since: str,
    confirm: Callable[[], object],
    waits: Callable[[str], None],
) -> Job:
    """Launch a template for an attempt, or find it launched; return its job.

    since: when the attempt was begun. confirm: makes sure that the attempt is still this process's; called before each
    try. waits: is told why, once, if the launch has to wait for its turn. Raises ConflictError for an active job of
    that name that is not the attempt's, TerminalError for what Dataflow refuses, AccessError, ServiceError.
    """
    environment = type(environment)(environment)
    environment.additional_user_labels = {**environment.additional_user_labels, REQUEST_LABEL: ticket.request_id}
    project, region = jobs.where_of(ticket)
    where = {"project_id": project, "location": region}
    wanted = {"job_name": ticket.name, "parameters": dict(given), "environment": environment}

    def ask() -> Any:
        how: dict[str, Any] = {"retry": None, "timeout": TIMEOUT}
        if known.flex:
            asked = {**where, "launch_parameter": {**wanted, "container_spec_gcs_path": known.uri}}
            return google.templates.flex.launch_flex_template(request=asked, **how).job
        asked = {**where, "gcs_path": known.uri, "launch_parameters": wanted}
        return google.templates.classic.launch_template(request=asked, **how).job

    def create() -> Job:
        return _once(google, ask, known, ticket, since, confirm)

    return in_turn(google, ticket, create, waits)


def _once(
    google: Google, ask: Callable[[], Any], known: Template, ticket: Ticket, since: str, confirm: Callable[[], object]
) -> Job:
    import google.api_core.exceptions as api

    waiting = Pauses(0.25, 8.0, google.config.gcp.patience)
    while True:
        confirm()
        with google.told(f"launch the template {known.uri} as Dataflow job {ticket.name}"):
            try:
                made = jobs.job_of(google, ask(), jobs.where_of(ticket))
            except api.Conflict as error:
                return _existing(google, ticket, since, said(error))
            except Exception as error:
                if full(error):
                    raise FullError(said(error)) from None
                if not passes(error):
                    raise
                # The launch may have been taken all the same, and its answer lost.
                more = waiting.pause()
                if job := find(google, ticket, since):
                    return job
                if not more:
                    raise
                continue
        # Dataflow has been seen to answer with the active job of a name instead of a refusal.
        found = jobs.get(google, made.id, made.where) or made
        if found.request_id in ("", ticket.request_id):
            return found
        return _existing(google, ticket, since, f"it is {found.id}, of request {found.request_id}")


def _existing(google: Google, ticket: Ticket, since: str, why: str) -> Job:
    """Return the attempt's job, which Dataflow says is active; a list of jobs may be behind for a while.

    Raises ConflictError if the active job is not the attempt's, ServiceError if none comes to be listed.
    """
    patience = google.config.gcp.patience
    waiting = Pauses(0.25, google.config.dataflow.poll_max, patience)
    while not (job := find(google, ticket, since)):
        if _named(google, ticket, "1970-01-02T00:00:00+00:00"):
            raise ConflictError(
                f"there is an active Dataflow job named {ticket.name} already, but not of this run ({why}); wait for "
                "its end or cancel it, then run again"
            )
        if not waiting.pause():
            raise ServiceError(
                f"Dataflow says that there is a job named {ticket.name} already ({why}), but has not listed it for "
                f"{patience:g} s ([gcp] patience); run again"
            )
    return job


def check(known: Template, given: Mapping[str, str]) -> None:
    """Raise SettingError that names all that is wrong with parameters for a template."""
    if found := problems(known, given):
        raise SettingError(f"the template {known.uri} can't be launched with these parameters: {'; '.join(found)}")
