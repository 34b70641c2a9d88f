"""Starts a Beam worker as the SDK's containers do: what /opt/apache/beam/boot is there, which no registry has.

    python -m apache_beam.runners.worker.worker_pool_main --service_port=50000 --container_executable=THIS

Such a pool is an environment of type EXTERNAL. The contract is Beam's (sdks/python/container/boot.go): ask the runner
what is provided, fetch the packages that were staged, install them for this worker alone, and become its harness. The
program needs Beam and nothing of ours, so that a copy of the file works anywhere.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability import common_urns
from apache_beam.portability.api import (
    beam_artifact_api_pb2,
    beam_artifact_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from google.protobuf import json_format, text_format

_PACKAGES = (".tar.gz", ".whl", ".zip")


def provided(endpoint: str, worker: str) -> Any:
    """Return what the runner has for a worker."""
    with grpc.insecure_channel(endpoint) as channel:
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        return stub.GetProvisionInfo(request, metadata=[("worker_id", worker)]).info


def fetch(endpoint: str, worker: str, info: Any, folder: Path) -> list[Path]:
    """Write the staged files into a folder, and return their paths."""
    found = []
    with grpc.insecure_channel(endpoint, [("grpc.max_receive_message_length", -1)]) as channel:
        stub, known = beam_artifact_api_pb2_grpc.ArtifactRetrievalServiceStub(channel), [("worker_id", worker)]
        asked = beam_artifact_api_pb2.ResolveArtifactsRequest(artifacts=info.dependencies)
        for artifact in stub.ResolveArtifacts(asked, metadata=known).replacements:
            assert artifact.role_urn == common_urns.artifact_roles.STAGING_TO.urn, artifact.role_urn
            role = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload)
            path = folder / Path(role.staged_name).name
            request = beam_artifact_api_pb2.GetArtifactRequest(artifact=artifact)
            with path.open("wb") as file:
                for part in stub.GetArtifact(request, metadata=known):
                    file.write(part.data)
            found.append(path)
    return found


def install(packages: list[Path], folder: Path) -> None:
    """Install packages into a folder; what they need has to be there, as in a container made for them."""
    if packages:
        pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
        quiet = ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
        subprocess.run([*pip, *quiet, "--target", folder, *packages], check=True)


def main() -> None:
    """Become the harness of the worker that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("id", "logging_endpoint", "artifact_endpoint", "provision_endpoint", "control_endpoint"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    info = provided(given.provision_endpoint, given.id)
    folder = Path(tempfile.mkdtemp(prefix="beam-worker-"))
    staged, installed = folder / "staged", folder / "installed"
    staged.mkdir()
    files = fetch(info.artifact_endpoint.url or given.artifact_endpoint, given.id, info, staged)
    install([path for path in files if path.name.endswith(_PACKAGES)], installed)
    descriptors = {
        "CONTROL_API_SERVICE_DESCRIPTOR": info.control_endpoint.url or given.control_endpoint,
        "LOGGING_API_SERVICE_DESCRIPTOR": info.logging_endpoint.url or given.logging_endpoint,
    }
    environment = {
        **os.environ,
        **{name: _described(url) for name, url in descriptors.items()},
        "PYTHONPATH": os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH", "")])),
        "WORKER_ID": given.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        "SEMI_PERSISTENT_DIRECTORY": str(folder),
    }
    harness = [sys.executable, "-m", "apache_beam.runners.worker.sdk_worker_main"]
    os.execve(sys.executable, harness, environment)


def _described(url: str) -> str:
    return str(text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url)))


if __name__ == "__main__":
    main()
