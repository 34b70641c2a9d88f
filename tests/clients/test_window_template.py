"""googleapiclient launches the templates of the window's pipeline, which bin/build-template has built."""

import io
import json
from pathlib import Path

import oracle
import posts_cases as cases
import pyarrow.parquet as pq
import pytest
import running
from client_running import Given, Program
from window_oracle import NAMES, expected

PROGRAM = Path(__file__).with_name("program_googleapiclient.py")
ENDS = ("2017-08-27 04:30:00", "2017-08-28 04:45:00.000001")


@pytest.mark.parametrize("kind", ["classic", "flex"])
def test_launches_of_one_template_with_two_timestamps(given: Given, client: Program, kind: str) -> None:
    """Dataflow: a template built once gives, at either end of its window, the tables of plain Python."""
    (path,) = cases.real("mayweather_2017.jsonl")
    source, template, image = (
        given.put("posts.jsonl", path.read_bytes()),
        given.gs("template"),
        f"gcr.io/p/{given.name}",
    )
    given.cloud.dataflow.images[image] = str(running.ROOT / "flex_template.py")
    config = given.folder / "luigi.cfg"
    config.write_text(given.cloud.settings())
    ours = Program(
        given, running.python(), more=running.environment(LUIGI_CONFIG_PATH=str(config), **given.environment)
    )
    built = ["-m", "millrace", "build-template", "pipelines.posts.window", f"--{kind}", template]
    ours.succeed(*built, *(["--image", image] if kind == "flex" else []))
    records = list(oracle.read_source(path))
    for number, end in enumerate(ENDS):
        output = given.gs(f"out/{number}")
        parameters = {"input": source, "timestamp": end, "days": "1", "rules": "classic", "output": output}
        name = f"{given.name[:40]}-{number}"
        said = client.succeed(
            PROGRAM, "launched", given.cloud.dataflow.url, kind, template, name, json.dumps(parameters)
        )
        assert json.loads(said.splitlines()[-1]) == "JOB_STATE_DONE"
        wanted = expected(records, end, 1, "classic")
        for table in NAMES:
            (data,) = given.read(f"out/{number}/{table}.parquet").values()
            rows = pq.read_table(io.BytesIO(data)).drop_columns(["ts", "date"]).to_pylist()
            assert [list(row.values()) for row in rows] == cases.near(wanted[table]), table
