"""What bin/doctor asks of this machine."""

import difflib
import fcntl
import http.client
import importlib
import os
import platform
import shlex
import sys
import tempfile
import urllib.error
import urllib.request
from importlib import metadata

import luigi.interface
from luigi.configuration import get_config

from millrace.core.findings import Finding, ok, wrong
from millrace.ops.checks.findings import Check, beam_tasks, in_bucket, template_jobs, uses_dataflow
from millrace.runners import beam_options
from millrace.tasks import advice, sections, session
from millrace.tasks.settings import Settings, origin

#: The packages whose versions people ask about first.
_TOLD = ("luigi", "apache-beam", "google-cloud-storage", "google-cloud-bigquery", "google-cloud-dataflow-client")
_LUIGID_KEYS = ("scheduler_url", "scheduler_host", "default-scheduler-url", "default-scheduler-host")


def settings() -> Finding:
    """Check that every section of luigi.cfg holds what it may."""
    for section in Settings.__subclasses__():
        section()
    storage = sections.millrace().storage
    return ok(
        f"storage {storage}, warehouse {sections.millrace().warehouse or 'the same'}, {sections.millrace().runner}"
    )


def versions() -> Finding:
    """Check that this Python and its packages are within the ranges that the package asks for."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    install = advice.install()
    try:
        about = metadata.metadata("millrace")
    except metadata.PackageNotFoundError:
        return wrong("Millrace is not installed in this Python, so its packages' versions can't be compared", install)
    python, wanted = platform.python_version(), about["Requires-Python"]
    if not SpecifierSet(wanted).contains(python, prereleases=True):
        return wrong(
            f"this is Python {python}, {wanted} is needed",
            advice.in_project("make clean && make .venv/workflows PYTHON=python3.12"),
        )
    unfit = []
    for requirement in map(Requirement, metadata.requires("millrace") or ()):
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in ("", "workflows")):
            continue
        try:
            there = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            unfit.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            unfit.append(f"{requirement.name} is {there}, {requirement.specifier} is needed")
    if unfit:
        return wrong("; ".join(unfit), install)
    return ok(", ".join([f"Python {python}", *(f"{name} {metadata.version(name)}" for name in _TOLD)]))


def pipelines() -> Finding:
    """Check that every pipeline's module can be imported."""
    names = sorted({task.pipeline for task in beam_tasks().values()})
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # any error at all would stop a run
            return wrong(
                f"{name} can't be imported: {type(error).__name__}: {error}",
                advice.in_project(f"{shlex.quote(sys.executable)} -c 'import {name}'"),
            )
    return ok(", ".join(names))


def options() -> Finding:
    """Check that Beam takes the options of [dataflow] and of [dataflow.TASK], and that each TASK is a task."""
    tasks, launched = list(beam_tasks()), [*template_jobs(), "TemplateJob"]
    for section in get_config().sections():
        name = section.removeprefix("dataflow.")
        if name != section and name not in tasks + launched:
            near = difflib.get_close_matches(name, tasks + launched, 1)
            return wrong(
                f"[{section}] names no task; there are {', '.join(tasks + launched)}",
                *(f"write [dataflow.{n}]" for n in near),
            )
    given = {argument for task in tasks for argument in beam_options.arguments(session.current().config, task)}
    python = ".".join(platform.python_version_tuple()[:2])
    images = sorted(each.partition("=")[2] for each in given if each.startswith("--sdk_container_image="))
    if images:
        beam = metadata.version("apache-beam")
        return ok(
            f"workers run in {', '.join(images)}, which must hold Python {python} and apache-beam {beam}, as here"
        )
    return ok(f"{', '.join(sorted(given)) or 'none'}; workers run in Beam's own image for Python {python}")


def folder() -> Finding:
    """Check that the storage's folder, or the one in which it is to be made, can be written and locked."""
    there = wanted = os.path.abspath(os.path.expanduser(sections.millrace().storage))
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return wrong(
            f"nothing can be written in {there} ({error.strerror}), {origin('millrace', 'storage')}",
            f'sudo mkdir -p {shlex.quote(wanted)} && sudo chown "$(id -un)" {shlex.quote(wanted)}',
        )
    return ok(wanted if there == wanted else f"{wanted} will be made in {there}")


def luigid() -> Finding:
    """Check that luigi's server answers where it is named."""
    core = luigi.interface.core()
    url = core.scheduler_url or f"http://{core.scheduler_host}:{core.scheduler_port}/"
    try:
        with urllib.request.urlopen(url, timeout=5):
            return ok(url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return wrong(
            f"{url} does not answer ({reason}), so that no run can start",
            f"nohup {advice.program('luigid')} >/dev/null 2>&1 &",
        )


def names_luigid() -> bool:
    """Return whether luigi.cfg names a server."""
    return any(get_config().has_option("core", key) for key in _LUIGID_KEYS)


CHECKS = (
    Check("settings", settings),
    Check("versions", versions),
    Check("pipelines", pipelines, after=("settings",)),
    Check("Dataflow options", options, after=("settings", "pipelines"), applies=uses_dataflow),
    Check("storage folder", folder, after=("settings",), applies=lambda: not in_bucket()),
    Check("luigid", luigid, applies=names_luigid),
)
