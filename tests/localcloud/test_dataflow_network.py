"""No job of the local Dataflow reaches the network, whatever it tries; what this machine serves, it reaches."""

import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import apache_beam as beam
import pytest
from local_dataflow import SAID, Started, ended, launch_flex, messages, read, run

from localcloud import BUCKET, dataflow_network
from localcloud.dataflow import Dataflow

#: An address that is nobody's (RFC 5737), so that no test can reach anything even without the hold.
NOBODY = "198.51.100.1"


def text_of(dataflow: Dataflow, id: str) -> str:
    return "\n".join(each.message_text for each in messages(dataflow, id))


def test_python_is_refused_at_once_with_the_hosts_name(dataflow: Dataflow) -> None:
    def ask(element: str) -> str:
        import urllib.request

        return str(urllib.request.urlopen(f"http://{element}/").status)

    job = run(dataflow, "asks", lambda pipeline: pipeline | beam.Create(["nowhere.example.com:8080"]) | beam.Map(ask))
    assert job.state == "JOB_STATE_FAILED"
    said = "no job of the local cloud reaches the network, and nowhere.example.com, port 8080, was asked for"
    assert said in text_of(dataflow, job.id)


def test_clients_of_google_are_refused_by_name(dataflow: Dataflow) -> None:
    """gRPC has a C core, which opens its connections behind Python's back."""

    def ask(element: str) -> str:
        import grpc

        grpc.insecure_channel(element).close()
        return element

    job = run(
        dataflow, "calls", lambda pipeline: pipeline | beam.Create(["datastore.googleapis.com:443"]) | beam.Map(ask)
    )
    assert job.state == "JOB_STATE_FAILED"
    assert "datastore.googleapis.com, port 443, was asked for" in text_of(dataflow, job.id)
    assert "reached where DATASTORE_EMULATOR_HOST names one" in text_of(dataflow, job.id)


def test_what_a_job_starts_is_refused_by_the_kernel(dataflow: Dataflow) -> None:
    """A program that knows nothing of the hold, and tries what there is: TCP, UDP, Fast Open, other families."""
    tried = f"""
        import errno, socket
        def of(attempt):
            try:
                attempt()
            except OSError as error:
                return errno.errorcode[error.errno]
            return "reached"
        def fast():
            with socket.socket() as opened:
                opened.sendto(b"x", socket.MSG_FASTOPEN, ("{NOBODY}", 80))
        def six():
            with socket.socket(socket.AF_INET6) as opened:
                opened.connect(("2001:db8::1", 80))
        with socket.create_server(("127.0.0.1", 0)) as server:
            print(of(lambda: socket.create_connection(server.getsockname())))
        print(of(lambda: socket.create_connection(("{NOBODY}", 80), 5)))
        print(of(lambda: socket.create_connection(("127.0.0.1", 53), 5)))
        print(of(six), of(fast), of(lambda: socket.socket(type=socket.SOCK_DGRAM)))
        print(of(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)))
    """

    def ask(element: str) -> str:
        import subprocess
        import sys

        return subprocess.run([sys.executable, "-I", "-c", element], capture_output=True, text=True).stdout

    def build(pipeline: beam.Pipeline) -> None:
        said = pipeline | beam.Create([textwrap.dedent(tried)]) | beam.Map(ask)
        said | beam.io.WriteToText(f"gs://{BUCKET}/held/said")

    job = run(dataflow, "starts", build)
    assert job.state == "JOB_STATE_DONE", job.error
    assert read(f"gs://{BUCKET}/held/said*").split() == [
        b"reached",
        b"EACCES",
        b"EACCES",
        b"EACCES",
        b"EACCES",
        b"EACCES",
        b"EAFNOSUPPORT",
    ]
    told = text_of(dataflow, job.id)
    assert f"No job of the local cloud reaches the network, and {NOBODY}, port 80, was asked for by python" in told
    assert "2001:db8::1, port 80" in told


def test_a_launchers_program_is_held_too(special: Started, tmp_path: Path) -> None:
    main = tmp_path / "main.py"
    main.write_text("import urllib.request\nurllib.request.urlopen('https://nowhere.example.com')")
    dataflow = special(images={"asks": str(main)})
    launch_flex(dataflow, "asks", SAID)
    assert ended(dataflow.jobs[-1]) == "JOB_STATE_FAILED"
    assert "nowhere.example.com, port 443, was asked for" in dataflow.jobs[-1].error


def test_this_machines_own_addresses_are_here() -> None:
    """Those of its interfaces too, as of a service that a container of this machine publishes."""
    own = socket.gethostbyname_ex(socket.gethostname())[2]
    assert all(dataflow_network.is_here(address) for address in own)


def test_where_the_kernel_cannot_ask_is_said() -> None:
    """As where the local cloud itself runs in a sandbox that asks: a process can be asked for once."""
    tried = "from localcloud.dataflow_network import confine\nconfine()\nconfine()"
    ran = subprocess.run([sys.executable, "-c", tried], capture_output=True, text=True)
    assert "OSError: [Errno 16] system calls can't be filtered" in ran.stderr


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        (socket.gethostname(), True),
        ("localhost.example.com", False),
        (NOBODY, False),
        ("::ffff:198.51.100.1", False),
        ("fe80::1%eth0", False),
        ("storage.googleapis.com", False),
    ],
)
def test_what_is_here(host: str, here: bool) -> None:
    assert dataflow_network.is_here(host) is here
