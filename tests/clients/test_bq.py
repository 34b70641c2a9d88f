"""bq: the command's own calls of BigQuery."""

import json

import pytest
from client_running import Given, Program

from localcloud import DATASET, PROJECT

ROWS = "a,1\nb,2\n"


@pytest.fixture
def table(given: Given, bq: Program) -> str:
    """A table of two rows, loaded by bq from a file of this machine; its name."""
    (given.folder / "rows.csv").write_text(ROWS)
    name = f"{DATASET}.{given.table('t')}"
    bq.succeed("load", name, "rows.csv", "name:STRING,n:INTEGER")
    return name


def told(said: str) -> object:
    """What bq printed as JSON, after the lines in which it waited."""
    return json.loads(said[min(at for at in map(said.find, "[{") if at >= 0) :])


def test_datasets(given: Given, bq: Program) -> None:
    """`mk`, `ls`, `show`, `update --description`, `rm -r`: datasets."""
    bq.succeed("--location=EU", "mk", "--dataset", "--description=first", "of_bq")
    assert "of_bq" in bq.succeed("ls")
    bq.succeed("update", "--description", "second", "of_bq")
    described = json.loads(bq.succeed("--format=json", "show", "of_bq"))
    assert (described["location"], described["description"]) == ("EU", "second")
    bq.succeed("rm", "-r", "-f", "of_bq")
    assert "Not found" in bq.fail("show", "of_bq")


def test_tables(given: Given, bq: Program, table: str) -> None:
    """`load` of a local file, `show`, `head`, `ls`, `update --description`, `rm`."""
    described = json.loads(bq.succeed("--format=json", "show", table))
    assert (described["numRows"], [each["name"] for each in described["schema"]["fields"]]) == ("2", ["name", "n"])
    assert json.loads(bq.succeed("--format=json", "head", table)) == [{"name": "a", "n": "1"}, {"name": "b", "n": "2"}]
    assert table.split(".")[1] in bq.succeed("ls", "-n", "1000", DATASET)
    bq.succeed("update", "--description", "of two rows", table)
    assert json.loads(bq.succeed("--format=json", "show", table))["description"] == "of two rows"
    assert len(given.rows(f"SELECT * FROM {table}")) == 2
    bq.succeed("rm", "-f", "-t", table)
    assert "Not found" in bq.fail("show", table)


def test_partitioned_tables(given: Given, bq: Program) -> None:
    """`mk --table` with partitions and clusters, `load --replace` of one partition, from Cloud Storage."""
    name, uri = f"{DATASET}.{given.table('days')}", given.put("rows.json", '{"d": "2026-11-01", "n": 1}\n')
    flags = "--time_partitioning_field=d", "--time_partitioning_type=DAY", "--clustering_fields=n"
    bq.succeed("mk", "--table", *flags, name, "d:DATE,n:INTEGER")
    for _ in range(2):
        bq.succeed("load", "--replace", "--source_format=NEWLINE_DELIMITED_JSON", f"{name}$20261101", uri)
    assert given.rows(f"SELECT n FROM {name}") == [{"n": 1}]
    described = json.loads(bq.succeed("--format=json", "show", name))
    assert described["timePartitioning"] == {"field": "d", "type": "DAY"}
    assert described["clustering"] == {"fields": ["n"]}


def test_queries(given: Given, bq: Program, table: str) -> None:
    """`query`: rows, parameters, `--destination_table`, `--dry_run`, a table that is not there."""
    standard = "query", "--use_legacy_sql=false"
    rows = told(bq.succeed("--format=json", *standard, f"SELECT SUM(n) AS s FROM {table}"))
    assert rows == [{"s": "3"}]
    rows = told(
        bq.succeed("--format=json", *standard, "--parameter=at:INT64:1", f"SELECT name FROM {table} WHERE n > @at")
    )
    assert rows == [{"name": "b"}]
    bq.succeed(*standard, f"--destination_table={table}_more", f"SELECT n + 1 AS m FROM {table}")
    assert given.rows(f"SELECT SUM(m) AS s FROM {table}_more") == [{"s": 5}]
    assert "Query successfully validated" in bq.succeed(*standard, "--dry_run", f"SELECT * FROM {table}")
    said = bq.fail(*standard, f"SELECT * FROM {DATASET}.nowhere")
    assert f"Not found: Table {PROJECT}:{DATASET}.nowhere" in " ".join(said.split()).replace("- ", "-")


def test_statements(given: Given, bq: Program, table: str) -> None:
    """`query`: CREATE TABLE AS, INSERT, UPDATE, DELETE, MERGE."""
    other = f"{table}_other"
    for statement in (
        f"CREATE TABLE {other} AS SELECT * FROM {table}",
        f"INSERT INTO {other} (name, n) VALUES ('c', 3)",
        f"UPDATE {other} SET n = 10 WHERE name = 'a'",
        f"DELETE FROM {other} WHERE name = 'b'",
        f"MERGE {other} o USING {table} t ON o.name = t.name WHEN NOT MATCHED THEN INSERT (name, n) VALUES (name, n)",
    ):
        bq.succeed("query", "--use_legacy_sql=false", statement)
    assert given.rows(f"SELECT name, n FROM {other} ORDER BY name") == [
        {"name": "a", "n": 10},
        {"name": "b", "n": 2},
        {"name": "c", "n": 3},
    ]


def test_copies(given: Given, bq: Program, table: str) -> None:
    """`cp` of a table."""
    bq.succeed("cp", "-f", table, f"{table}_copy")
    assert len(given.rows(f"SELECT * FROM {table}_copy")) == 2


def test_extracts(given: Given, bq: Program, table: str) -> None:
    """`extract` as CSV, as lines of JSON, and as Avro, which `load` takes back."""
    bq.succeed("extract", table, given.gs("rows.csv"))
    assert given.lines("rows.csv") == ["a,1", "b,2", "name,n"]
    bq.succeed("extract", "--destination_format=NEWLINE_DELIMITED_JSON", table, given.gs("rows.json"))
    assert given.lines("rows.json") == ['{"name":"a","n":"1"}', '{"name":"b","n":"2"}']
    bq.succeed("extract", "--destination_format=AVRO", table, given.gs("rows.avro"))
    bq.succeed("load", "--source_format=AVRO", f"{table}_again", given.gs("rows.avro"))
    assert given.rows(f"SELECT SUM(n) AS s FROM {table}_again") == [{"s": 3}]


def test_inserts(given: Given, bq: Program, table: str) -> None:
    """`insert`: rows, one at a time."""
    (given.folder / "more.json").write_text('{"name": "c", "n": 3}\n')
    bq.succeed("insert", table, "more.json")
    assert given.rows(f"SELECT SUM(n) AS s FROM {table}") == [{"s": 6}]


def test_jobs(given: Given, bq: Program, table: str) -> None:
    """`ls -j`, `show -j`, `wait`; a job that is not there."""
    jobs = json.loads(bq.succeed("--format=json", "ls", "-j", "-n", "1"))
    job = jobs[0]["jobReference"]["jobId"]
    described = json.loads(bq.succeed("--format=json", "show", "-j", job))
    assert (described["status"]["state"], described["configuration"]["jobType"]) == ("DONE", "LOAD")
    assert "SUCCESS" in bq.succeed("wait", job)
    assert "Not found: Job" in bq.fail("show", "-j", "of_nobody")


def test_legacy_sql(given: Given, bq: Program) -> None:
    """`query` as bq means it unless told otherwise, in legacy SQL: refused by name."""
    assert "legacy SQL" in " ".join(bq.fail("query", "SELECT 1").split())
