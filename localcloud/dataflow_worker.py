"""Where the local Dataflow's jobs run: a process that has Beam imported forks one process, and group, for each job.

Started by `localcloud.dataflow` as a program by its path, isolated, so that it knows the installed libraries and the
packages that a job staged, but not the checkout. The service speaks to it over a socket, one packet a command:

    run PATH   with a pipe's end beside it: forks, answers with the pid; the job's reports go into the pipe.
               The file describes a `Spec`, or has the command that a flex template's image runs
    end PID    kills the job's group, if anything is left of it, and answers when the process is gone

A report is a line of JSON: {"message": [importance, text]}, {"metrics": {…}}, {"graph": [transform, …]}, {"stages":
[stage, …]} and {"stage": {"id", "done"}}, {"held": text} of a streaming job that is to be RUNNING without a process,
and at last {"end": error text or null}.
Whatever becomes of the service, its jobs die with it.
"""

import ctypes
import fcntl
import gc
import hashlib
import io
import itertools
import json
import os
import resource
import select
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import traceback
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from apache_beam import version
from apache_beam.internal import pickler
from apache_beam.io import fileio, parquetio, textio  # noqa: F401  (for every job, before the fork)
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp import gcsfilesystem, gcsio  # noqa: F401
from apache_beam.metrics.monitoring_infos import consolidate
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.options.value_provider import RuntimeValueProvider
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import beam_provision_api_pb2, beam_runner_api_pb2
from apache_beam.runners.internal import names as shared_names
from apache_beam.runners.portability.fn_api_runner.execution import GroupingBuffer
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiMetrics, FnApiRunner
from google.protobuf import json_format, struct_pb2

from localcloud import beam_bigquery, dataflow_network

_PR_SET_PDEATHSIG = 1
#: Seconds between two reports of a running job's counters.
_INTERVAL = 0.25
#: What Dataflow calls Beam's transforms.
_KINDS = {
    common_urns.primitives.PAR_DO.urn: "PAR_DO_KIND",
    common_urns.primitives.GROUP_BY_KEY.urn: "GROUP_BY_KEY_KIND",
    common_urns.primitives.FLATTEN.urn: "FLATTEN_KIND",
    common_urns.primitives.IMPULSE.urn: "READ_KIND",
    common_urns.deprecated_primitives.READ.urn: "READ_KIND",
    common_urns.composites.COMBINE_PER_KEY.urn: "GROUP_BY_KEY_KIND",
}
#: How many refused connections a job's messages tell of.
_REFUSALS = 20
_PACKAGES = (".tar.gz", ".whl", ".zip")


class UnsupportedError(Exception):
    """The job needs what these workers can't do."""


@dataclass(frozen=True)
class Spec:
    """What a job is: its name, the URL of its pipeline, its pipeline options, the folder of installed packages."""

    name: str
    pipeline_url: str
    options: dict[str, Any]
    packages: str


class Report:
    """The way of a job's reports to the service."""

    def __init__(self, pipe: int) -> None:
        self._stream = os.fdopen(pipe, "w", encoding="utf-8")
        self._lock = threading.Lock()

    def send(self, **values: Any) -> None:
        """Send one report."""
        with self._lock:
            self._stream.write(json.dumps(values) + "\n")
            self._stream.flush()


class Runner(FnApiRunner):
    """Beam's runner, its counters in sight: those of bundles done (committed), and of the one at work (tentative)."""

    def __init__(self, provision: ExtendedProvisionInfo, report: Report) -> None:
        super().__init__(provision_info=provision)
        self.shuffled_bytes = 0
        self._report = report
        self._stages: dict[str, str] = {}
        self._done: list[Any] = []
        self._handlers: list[Any] = []

    def run_stages(self, stage_context: Any, stages: Any) -> Any:
        self._stages = {stage.name: f"S{number:02d}" for number, stage in enumerate(stages, 1)}
        fused = [[transform.unique_name for transform in stage.transforms] for stage in stages]
        told = [
            {"id": id, "name": f"F{number}", "transforms": transforms}
            for number, (id, transforms) in enumerate(zip(self._stages.values(), fused, strict=True), 1)
        ]
        self._report.send(stages=told)
        return super().run_stages(stage_context, stages)

    def _execute_bundle(self, context: Any, bundle: Any, data: Any) -> Any:
        id = self._stages[bundle.stage.name]
        self._report.send(stage={"id": id, "done": False})
        self._handlers = bundle.worker_handlers
        grouped = [buffer for buffer in data.data.values() if isinstance(buffer, GroupingBuffer)]
        self.shuffled_bytes += sum(len(part) for buffer in grouped for part in buffer)
        result = super()._execute_bundle(context, bundle, data)
        self._done = list(consolidate(itertools.chain(self._done, result.process_bundle.monitoring_infos)))
        self._report.send(stage={"id": id, "done": True})
        return result

    def counted(self) -> tuple[list[Any], list[Any]]:
        """Return the monitoring infos, committed and with the tentative ones.

        Raises RuntimeError where the bundle at work changed meanwhile.
        """
        done = self._done
        active = [
            processor
            for handler in list(self._handlers)
            for _, processor in list(handler.bundle_processor_cache.active_bundle_processors.values())
        ]
        infos = itertools.chain.from_iterable(processor.monitoring_infos() for processor in active)
        return done, list(consolidate(itertools.chain(done, infos)))


def metrics(runner: Runner, steps: Mapping[str, str]) -> dict[str, Any]:
    """Return user counters and distributions, each [step, namespace, name, value, committed?], and what the process
    used.

    A step is an id of the pipeline's, by `steps` (name → id), as Dataflow has it; what the runner made of a step, as of
    a splittable DoFn, counts as that step.
    """
    counters: dict[tuple[str, str, str, bool], int] = {}
    distributions = []
    for infos, committed in zip(runner.counted(), (True, False), strict=True):
        found = FnApiMetrics({"": infos}).query()
        for result in found["counters"]:
            key = (*_named(result.key, steps), committed)
            counters[key] = counters.get(key, 0) + result.committed
        for result in found["distributions"]:
            value = result.committed
            parts = {"sum": value.sum, "count": value.count, "min": value.min, "max": value.max}
            distributions.append([*_named(result.key, steps), parts, committed])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "counters": [[*key[:3], value, key[3]] for key, value in counters.items()],
        "distributions": distributions,
        "shuffled_bytes": runner.shuffled_bytes,
        "memory_mb": max(each.ru_maxrss for each in used) / 1024,
    }


def _named(key: Any, steps: Mapping[str, str]) -> tuple[str, str, str]:
    step = key.step
    while step and step not in steps:
        step = step.rpartition("/")[0]
    return steps.get(step, key.step), key.metric.namespace, key.metric.name


def run(spec: Spec, report: Report) -> None:
    """Run a job to its end. Raises UnsupportedError, and whatever the pipeline's own code raises."""
    os.environ["GOOGLE_CLOUD_PROJECT"] = str(spec.options.get("project", ""))
    options = PipelineOptions.from_dictionary(spec.options)
    RuntimeValueProvider.set_runtime_options(spec.options)
    FileSystems.set_options(options)
    pickler.set_library(options.view_as(SetupOptions).pickle_library)
    staged, expected = _read(spec.pipeline_url), spec.options.get("pipelineProtoHash")
    if expected and hashlib.sha256(staged).hexdigest() != expected:
        raise ValueError(f"{spec.pipeline_url} is not the pipeline that was staged: its SHA-256 is not {expected}")
    pipeline = beam_runner_api_pb2.Pipeline.FromString(staged)
    report.send(graph=graph(pipeline))
    if unbounded := check(pipeline):
        report.send(held=f"The job is RUNNING and executes nothing, because {unbounded}; Beam's direct runner runs it.")
        return
    for environment in pipeline.components.environments.values():
        folders, session = install(environment.dependencies, Path(spec.packages))
        sys.path[:0] = folders
        if session:
            load(session)
        environment.urn = python_urns.EMBEDDED_PYTHON
        environment.ClearField("payload")
        environment.ClearField("dependencies")
    report.send(message=["JOB_MESSAGE_DETAILED", "Workers have started successfully."])
    provision = beam_provision_api_pb2.ProvisionInfo(
        pipeline_options=json_format.ParseDict(spec.options, struct_pb2.Struct())
    )
    runner = Runner(ExtendedProvisionInfo(provision, job_name=spec.name), report)
    steps = {transform.unique_name: id for id, transform in pipeline.components.transforms.items()}
    with _reporting(runner, steps, report):
        runner.run_via_runner_api(pipeline, options)
    report.send(metrics=metrics(runner, steps))


def graph(pipeline: Any) -> list[dict[str, Any]]:
    """Return the transforms of a pipeline that do something themselves: id, name, kind, what they read and write."""
    transforms = pipeline.components.transforms
    return [
        {
            "id": id,
            "name": each.unique_name,
            "kind": _KINDS.get(each.spec.urn, "UNKNOWN_KIND"),
            "inputs": sorted(each.inputs.values()),
            "outputs": sorted(each.outputs.values()),
        }
        for id, each in transforms.items()
        if not each.subtransforms and (each.inputs or each.outputs)
    ]


def check(pipeline: Any) -> str:
    """Return what of a pipeline is unbounded, and so would not really run here, as a sentence; "" where nothing is.

    Raises UnsupportedError for one of another SDK.
    """
    parts = pipeline.components
    ours = f"beam:version:sdk_base:apache/beam_python{sys.version_info[0]}.{sys.version_info[1]}_sdk:"
    for environment in parts.environments.values():
        sdk = [each for each in environment.capabilities if each.startswith("beam:version:sdk_base:")]
        if environment.urn != common_urns.environments.DOCKER.urn or not sdk:
            raise UnsupportedError(f"the local Dataflow runs Docker environments of Beam, not {environment.urn}")
        if sdk != [ours + version.__version__]:
            raise UnsupportedError(f"the local Dataflow's workers are {ours}{version.__version__}, not {sdk[0]}")
    for transform in parts.transforms.values():
        if transform.spec.urn.startswith("beam:transform:pubsub_"):
            return f"the local Dataflow has no Pub/Sub, which {transform.unique_name} needs"
    unbounded = beam_runner_api_pb2.IsBounded.UNBOUNDED
    for collection in parts.pcollections.values():
        if collection.is_bounded == unbounded:
            return f"the local Dataflow reads no unbounded source, as {collection.unique_name} is one"
    return ""


def load(session: bytes) -> None:
    """Take the registries of the program that was submitted: cloudpickle saves nothing else of its main session.

    Raises UnsupportedError for dill's, which would take the place of this process' own.
    """
    if not pickler.is_currently_cloudpickle():
        raise UnsupportedError(
            "the local Dataflow's workers load no main session that dill has saved; --pickle_library=cloudpickle"
        )
    with tempfile.NamedTemporaryFile() as file:
        file.write(session)
        file.flush()
        pickler.load_session(file.name)


def install(artifacts: Iterable[Any], packages: Path) -> tuple[list[str], bytes]:
    """Install what was staged for the workers, each package once and for all jobs; return the folders to import it
    from, and the main session.

    Raises UnsupportedError for what would have to be fetched from elsewhere.
    """
    folders, session = [], b""
    for artifact in artifacts:
        name = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload).staged_name
        if name == "requirements.txt":
            raise UnsupportedError("the local Dataflow's workers install packages, but no requirements.txt")
        if name != shared_names.PICKLED_MAIN_SESSION_FILE and not name.endswith(_PACKAGES):
            continue
        if artifact.type_urn != common_urns.artifact_types.URL.urn:
            raise UnsupportedError(f"the staged file {name} has no URL but is of type {artifact.type_urn}")
        where = beam_runner_api_pb2.ArtifactUrlPayload.FromString(artifact.type_payload)
        data = _read(where.url)
        if where.sha256 and hashlib.sha256(data).hexdigest() != where.sha256:
            raise ValueError(f"{where.url} is not the file that was staged: its SHA-256 is not {where.sha256}")
        if name == shared_names.PICKLED_MAIN_SESSION_FILE:
            session = data
        else:
            folders.append(str(_installed(name, data, packages)))
    return folders, session


def _installed(name: str, data: bytes, packages: Path) -> Path:
    """Return the folder that a package is installed in.

    The folder is named by the package's contents, because each build of the same sources differs in times.
    """
    digest = hashlib.sha256()
    for member, content in _members(name, data):
        digest.update(f"{member}\0{len(content)}\0".encode() + content)
    folder = packages / digest.hexdigest()
    packages.mkdir(parents=True, exist_ok=True)
    with open(packages / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            archive = packages / f"{folder.name}.archive" / name
            archive.parent.mkdir(exist_ok=True)
            archive.write_bytes(data)
            half = packages / f"{folder.name}.half"
            _pip("install", "--target", str(half), str(archive))
            half.rename(folder)
    return folder


def _members(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    if not name.endswith(".tar.gz"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from ((member, archive.read(member)) for member in sorted(archive.namelist()))
        return
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in sorted((each for each in tar if each.isfile()), key=lambda each: each.name):
            yield member.name, content.read() if (content := tar.extractfile(member)) else b""


def _pip(verb: str, *arguments: str) -> None:
    flags = ["--no-index", "--no-deps", "--no-build-isolation", "--no-compile", "--no-cache-dir", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", verb, *flags, *arguments],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"pip could not install the staged package:\n{done.stdout}{done.stderr}")


def _read(url: str) -> bytes:
    """Return a staged file. What a job unpickles, or installs, is of the cloud's own storage and of nowhere else."""
    if not url.startswith("gs://"):
        raise UnsupportedError(f"the local Dataflow's workers read what was staged in gs://, not {url}")
    with FileSystems.open(url, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        return bytes(stream.read())


@contextmanager
def _reporting(runner: Runner, steps: Mapping[str, str], report: Report) -> Iterator[None]:
    """Report the counters at intervals while the body runs."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(_INTERVAL):
            with suppress(RuntimeError):
                report.send(metrics=metrics(runner, steps))

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def work(path: str, pipe: int, link: socket.socket) -> NoReturn:
    """Live the whole life of a job's process. link: who answers for the network."""
    os.setpgid(0, 0)
    log = os.open(f"{path}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    described = json.loads(Path(path).read_text(encoding="utf-8"))
    report = Report(pipe)
    try:
        hold(report, link)
        if command := described.get("command"):
            report.send(end=launch(command, described["folder"]))
        else:
            run(Spec(**described), report)
            report.send(end=None)
    except UnsupportedError as error:
        report.send(end=f"{error}.")
    except BaseException:
        report.send(end=f"Error message from worker: {traceback.format_exc()}")
    sys.stdout.flush()
    os._exit(0)


def hold(report: Report, link: socket.socket) -> None:
    """Keep this process, and what it starts, off the network."""
    beam_bigquery.lead()
    dataflow_network.watch()
    dataflow_network.watch_grpc()
    try:
        listener = dataflow_network.confine()
    except OSError as error:
        text = f"Only Python's own connections are kept off the network, because {error.strerror}."
        report.send(message=["JOB_MESSAGE_WARNING", text])
        link.close()
        return
    socket.send_fds(link, [str(os.getpid()).encode()], [listener])
    os.close(listener)

    def tell() -> None:
        told: set[str] = set()
        while text := link.recv(1 << 16).decode():
            if text not in told and len(told) < _REFUSALS:
                told.add(text)
                report.send(message=["JOB_MESSAGE_ERROR", f"{text[0].upper()}{text[1:]}."])

    threading.Thread(target=tell, daemon=True).start()


def launch(command: Sequence[str], folder: str) -> str | None:
    """Run a flex template's program to its end; return the error, or None."""
    here = os.getpid()
    try:
        process = subprocess.Popen(command, cwd=folder, preexec_fn=lambda: _die_with(here))
    except OSError as error:
        return f"{command[0]} can't be run: {error.strerror}."
    code = process.wait()
    return f"{shlex.join(command[:2])} failed with exit status {code}." if code else None


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def serve(channel: socket.socket) -> None:
    """Obey the service until it is gone, then kill what still runs."""
    service, jobs, guards = os.getppid(), set[int](), dataflow_network.Guards()
    while os.getppid() == service:
        poll = select.poll()
        for each in (channel.fileno(), *guards.waiting()):
            poll.register(each, select.POLLIN)
        ready = dict(poll.poll(1000))
        commanded = ready.pop(channel.fileno(), None)
        for each, event in ready.items():
            guards.answer(each, event)
        if commanded is None:
            continue
        command, pipes, _, _ = socket.recv_fds(channel, 1 << 16, 1)
        if not command:
            break
        verb, argument = command.decode().split(" ", 1)
        if verb == "run":
            here, link = os.getpid(), guards.link()
            pid = os.fork()
            if not pid:
                _die_with(here)
                channel.close()
                guards.forget()
                work(argument, pipes[0], link)
            with suppress(PermissionError):  # either process may be first, this one or the job's
                os.setpgid(pid, pid)
            os.close(pipes[0])
            link.close()
            jobs.add(pid)
            channel.send(str(pid).encode())
        else:
            if (pid := int(argument)) in jobs:
                _end(pid)
                jobs.discard(pid)
            channel.send(b"ended")
    for pid in jobs:
        _end(pid)


def main() -> None:
    """Serve the socket whose number is the only argument."""
    # An editable install, of the checkout say, is nothing that a worker would have.
    sys.meta_path[:] = [each for each in sys.meta_path if "editable" not in type(each).__module__ + str(each)]
    sys.path[:] = [each for each in sys.path if each.startswith((sys.prefix, sys.base_prefix))]
    gc.collect()
    gc.freeze()  # because the collector would otherwise touch, and so copy, every page that the jobs share
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
