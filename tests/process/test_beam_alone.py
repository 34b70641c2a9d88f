"""Beam without Google's clients: what a run of this machine alone imports, and that a pipeline can't tell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import running

ALONE = "from millrace.runners import beam_alone; beam_alone.import_beam()"
#: Names that a pipeline may ask apache_beam.io for, those that `import *` gives, and what opens gs://.
LOOK = """
import json, sys
import apache_beam as beam
clients = ("google.cloud.storage", "google.cloud.bigquery", "google.cloud.pubsub")
left_out = [name for name in clients if name not in sys.modules]
from apache_beam.io.filesystems import FileSystems
opens = [type(FileSystems.get_filesystem("gs://bucket/file")).__qualname__ for _ in range(2)]
inside = [beam.io.gcp.bigquery.WriteToBigQuery is beam.io.WriteToBigQuery, hasattr(beam.io.gcp, "nothing_such")]
star = {}
exec("from apache_beam.io import *", star)
names = {each: [name for name in dir(getattr(beam, each)) if name != "__getattr__"] for each in ("io", "runners")}
print(json.dumps([left_out, opens, inside, sorted(star), names, hasattr(beam.io, "nothing_such")]))
"""


def look(first: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", f"{first}\n{LOOK}"], cwd=running.ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_pipeline_finds_all_that_is_left_out() -> None:
    """Names, modules and file systems of Google's are not imported with Beam, and are there once they are asked for."""
    left_out, *alone = look(ALONE)
    not_left_out, *whole = look("")
    assert len(left_out) == 3
    assert not_left_out == []
    assert alone == whole
    assert "ReadFromPubSub" in alone[2]
    assert alone[0] == ["GCSFileSystem"] * 2


def test_the_rest_may_first_be_asked_for_by_an_import() -> None:
    """`from apache_beam.io.gcp import …` and `from apache_beam.io import …` do as ever."""
    asked = "from apache_beam.io.gcp import bigquery_tools; from apache_beam.io import ReadFromBigQuery, gcsio"
    subprocess.run([sys.executable, "-c", f"{ALONE}; {asked}"], cwd=running.ROOT, check=True)


def test_a_run_of_this_machine_leaves_googles_clients_out(tmp_path: Path) -> None:
    """A pipeline of ours that runs in process, with a local storage, imports none of them from begin to end."""
    code = (
        "import json, sys; from millrace.core.config import Config; from millrace.runners.in_process import InProcess\n"
        "from millrace.runners.runner import Ticket\n"
        f"runner = InProcess('FnApiRunner', Config(storage={str(tmp_path)!r}))\n"
        f"given = {{'input': '[]', 'output': {str(tmp_path)!r} + '/{{dataset}}'}}\n"
        "job = runner.start('pipelines.posts.count', given, 'Count', Ticket('a', 'b'), print)\n"
        "runner.result(runner.watch(job, print))\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('google.cloud.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=running.ROOT, capture_output=True, text=True, check=True)
    assert [name for name in json.loads(done.stdout) if name.split(".")[2] in ("storage", "bigquery", "pubsub")] == []
