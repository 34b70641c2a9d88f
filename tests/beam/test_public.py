"""What the library offers to pipelines, and the example that shows how it is used."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import running

import millrace.beam
from millrace.common.results import read_result

LOG = """\
10.0.0.1 - - [19/Nov/2026:23:59:59 +0100] "GET / HTTP/1.1" 200 512 "-" "x"
10.0.0.2 - ann [19/Nov/2026:22:00:00 +0000] "GET /\\" HTTP/1.1" 404 -
10.0.0.2 - ann [19/Nov/2026:22:30:00 +0000] "POST /a HTTP/1.1" 200 7
nothing of a log

10.0.0.3 - - [20/Nov/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 1
"""


def test_names_are_sorted_and_come_when_asked_for() -> None:
    """And importing the package alone, as launchers do, imports neither Beam nor Arrow."""
    assert list(millrace.beam.__all__) == sorted(millrace.beam.__all__)
    for name in millrace.beam.__all__:
        assert getattr(millrace.beam, name).__doc__ or name == "Item"
    code = "import sys, millrace.beam; assert not {'apache_beam', 'pyarrow'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=running.ROOT)


def test_the_example_of_the_docstring_runs_as_written(tmp_path: Path) -> None:
    """On two files of a web server's lines: requests by hour and status, counted by hand; the line that is none of a
    log lies in the dead letters, as it came.
    """
    assert millrace.beam.__doc__
    (example,) = re.findall(r"^    \"\"\".*?^        main\(build\)\n", millrace.beam.__doc__, re.DOTALL | re.MULTILINE)
    own = [line for line in example.splitlines() if line.strip() and not line.lstrip().startswith(("import", "from"))]
    assert len(own) <= 25, "a pipeline takes about 25 lines"
    package = tmp_path / "pipelines" / "logs"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "statuses.py").write_text(textwrap.dedent(example))
    lines = LOG.splitlines(keepends=True)
    (tmp_path / "access.log.1").write_text("".join(lines[:2]))
    (tmp_path / "access.log.2").write_text("".join(lines[2:]))
    (command,) = re.findall(r"^    python -m (.*)$", millrace.beam.__doc__, re.MULTILINE)
    done = subprocess.run(
        f"{sys.executable} -m {command}",
        shell=True,
        cwd=tmp_path,
        env=running.environment(PYTHONPATH=f"{tmp_path}:{running.ROOT}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [list(row.values()) for row in pq.read_table(tmp_path / "out/statuses/statuses.parquet").to_pylist()]
    assert [(f"{hour:%d %H}", status, requests) for hour, status, requests in rows] == [
        ("19 22", 200, 2),
        ("19 22", 404, 1),
        ("20 00", 200, 1),
    ]
    told = read_result((tmp_path / "out/statuses/_result.json").read_bytes())
    assert told.counters == {"read": 5, "kept": 4, "rejected: no line of a log": 1}
    (path,) = (file.path for file in told.files if file.table == "statuses_rejected")
    (row,) = pq.read_table(tmp_path / path, partitioning=None).to_pylist()
    assert list(row.values()) == ["no line of a log", "access.log.2", "access.log.2", 2, b"nothing of a log"]


def test_a_pipeline_by_itself_says_what_is_wrong_in_a_sentence(tmp_path: Path) -> None:
    """Without a traceback, and its exit code is not 0."""
    line = [sys.executable, "-m", "pipelines.posts.count", f"--input={tmp_path}/none*", f"--output={tmp_path}"]
    done = subprocess.run(line, cwd=running.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"--input {tmp_path}/none* matches no file\n")
