"""The local BigQuery's statements do what BigQuery's reference says, through Google's own client."""

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import google.auth.credentials
import pytest
import requests
from google.api_core import exceptions
from google.cloud import bigquery as api

from localcloud import PROJECT
from localcloud.bigquery import BigQuery

DAY = datetime.date(2026, 11, 19)


@pytest.fixture(scope="module")
def service() -> Iterator[BigQuery]:
    with BigQuery("http://localhost:9") as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def client(service: BigQuery) -> Iterator[api.Client]:
    credentials = google.auth.credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
    with api.Client(project=PROJECT, credentials=credentials) as made:
        made.create_dataset("d")
        yield made
        made.delete_dataset("d", delete_contents=True)


def _run(client: api.Client, sql: str, *parameters: Any) -> api.QueryJob:
    job = client.query(sql, job_config=api.QueryJobConfig(query_parameters=parameters), job_retry=None)
    job.result()
    return job


def _rows(client: api.Client, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in client.query(sql, job_retry=None).result()]


def _stock(client: api.Client) -> None:
    """Make the tables of the reference's examples of MERGE."""
    for name, rows in (
        ("inventory", "('dishwasher', 30), ('dryer', 30), ('front load washer', 20), ('oven', 5)"),
        ("arrivals", "('dryer', 200), ('oven', 300), ('washer', 100)"),
    ):
        _run(client, f"CREATE TABLE d.{name} (product STRING, quantity INT64)")
        _run(client, f"INSERT d.{name} (product, quantity) VALUES {rows}")


def test_insert_takes_values_and_queries_and_counts_them(client: api.Client) -> None:
    _run(client, "CREATE TABLE d.t (a INT64 NOT NULL, b STRING, day DATE, n NUMERIC, xs ARRAY<INT64>)")
    sql = (
        "INSERT INTO d.t (a, day, n, xs) VALUES (1, '2026-11-19', 1.5, []), (2, NULL, 2, [1, 2]), (@a, DEFAULT, 0, [])"
    )
    job = _run(client, sql, api.ScalarQueryParameter("a", "INT64", 3))
    assert (job.statement_type, job.num_dml_affected_rows) == ("INSERT", 3)
    assert job.dml_stats == api.DmlStats(inserted_row_count=3)
    _run(
        client,
        "INSERT d.t (b, a) WITH x AS (SELECT a + 10 AS more FROM d.t) SELECT CAST(more AS STRING), more FROM x",
    )
    assert _rows(client, "SELECT a, b, day, n, xs FROM d.t ORDER BY a") == [
        (1, None, DAY, Decimal("1.5"), []),
        (2, None, None, Decimal(2), [1, 2]),
        (3, None, None, Decimal(0), []),
        (11, "11", None, None, []),
        (12, "12", None, None, []),
        (13, "13", None, None, []),
    ]
    for wrong, message in (
        ("INSERT d.t (a) VALUES ('x')", "Value of type STRING cannot be assigned which is inserted into a"),
        ("INSERT d.t (a) VALUES (NULL)", "Required field a cannot be null"),
        ("INSERT d.t (a, b) VALUES (1)", "wrong column count"),
        ("INSERT d.t (z) VALUES (1)", "Column z is not present"),
        ("INSERT d.t (a, a) VALUES (1, 1)", "Duplicate column names"),
    ):
        with pytest.raises(exceptions.BadRequest, match=message):
            _run(client, wrong)
    assert _rows(client, "SELECT COUNT(*) FROM d.t") == [(6,)]


def test_update_changes_the_rows_that_a_condition_names_also_from_another_table(client: api.Client) -> None:
    _stock(client)
    job = _run(client, "UPDATE d.inventory SET quantity = quantity - 10 WHERE product LIKE '%washer%'")
    assert (job.statement_type, job.num_dml_affected_rows) == ("UPDATE", 2)
    assert job.dml_stats == api.DmlStats(updated_row_count=2)
    _run(
        client,
        "UPDATE d.inventory AS i SET i.quantity = i.quantity + a.quantity, product = UPPER(i.product) "
        "FROM d.arrivals AS a WHERE i.product = a.product",
    )
    assert _rows(client, "SELECT product, quantity FROM d.inventory ORDER BY LOWER(product)") == [
        ("dishwasher", 20),
        ("DRYER", 230),
        ("front load washer", 10),
        ("OVEN", 305),
    ]
    with pytest.raises(exceptions.BadRequest, match="must match at most one source row"):
        _run(client, "UPDATE d.inventory i SET quantity = a.quantity FROM d.arrivals a WHERE a.quantity > 100")
    with pytest.raises(exceptions.BadRequest, match="must have a WHERE"):
        _run(client, "UPDATE d.inventory SET quantity = 0")
    with pytest.raises(exceptions.BadRequest, match="STRING cannot be assigned to quantity, which has type INT64"):
        _run(client, "UPDATE d.inventory SET quantity = product WHERE TRUE")


def test_delete_and_truncate(client: api.Client) -> None:
    _stock(client)
    job = _run(
        client,
        "DELETE d.inventory i WHERE EXISTS (SELECT 1 FROM d.arrivals a WHERE a.product = i.product) OR quantity > 25",
    )
    assert (job.num_dml_affected_rows, job.dml_stats) == (3, api.DmlStats(deleted_row_count=3))
    assert _rows(client, "SELECT product FROM d.inventory") == [("front load washer",)]
    assert _run(client, "TRUNCATE TABLE d.inventory").num_dml_affected_rows == 1
    assert _rows(client, "SELECT product FROM d.inventory") == []


def test_merge_does_what_the_first_clause_says_that_holds_for_a_row(client: api.Client) -> None:
    """The first example is that of BigQuery's reference, with its result."""
    _stock(client)
    job = _run(
        client,
        "MERGE d.inventory T USING d.arrivals S ON T.product = S.product "
        "WHEN NOT MATCHED AND quantity < 20 THEN INSERT (product, quantity) VALUES (product, 0) "
        "WHEN NOT MATCHED THEN INSERT ROW "
        "WHEN MATCHED AND S.quantity > 250 THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET quantity = T.quantity + S.quantity "
        "WHEN NOT MATCHED BY SOURCE AND T.quantity < 25 THEN UPDATE SET product = CONCAT(product, '!')",
    )
    assert (job.statement_type, job.num_dml_affected_rows) == ("MERGE", 4)
    assert job.dml_stats == api.DmlStats(inserted_row_count=1, deleted_row_count=1, updated_row_count=2)
    assert _rows(client, "SELECT product, quantity FROM d.inventory ORDER BY product") == [
        ("dishwasher", 30),
        ("dryer", 230),
        ("front load washer!", 20),
        ("washer", 100),
    ]
    twice = "(SELECT * FROM d.arrivals UNION ALL SELECT * FROM d.arrivals)"
    merge = "MERGE d.inventory T USING {} S ON T.product = S.product WHEN MATCHED THEN UPDATE SET quantity = S.quantity"
    with pytest.raises(exceptions.BadRequest, match="must match at most one source row"):
        _run(client, merge.format(twice))
    _run(client, merge.format("d.arrivals"))
    assert _rows(client, "SELECT SUM(quantity) FROM d.inventory") == [(30 + 200 + 20 + 100,)]


def test_tables_are_created_replaced_altered_and_dropped(client: api.Client) -> None:
    sql = (
        "CREATE TABLE d.t (a INT64 NOT NULL OPTIONS (description = 'one'), day DATE, "
        "s STRUCT<x INT64, y ARRAY<STRING>>) "
        "PARTITION BY day CLUSTER BY a OPTIONS (description = 'a table', labels = [('by', 'test')])"
    )
    job = _run(client, sql)
    assert (job.statement_type, job.ddl_operation_performed) == ("CREATE_TABLE", "CREATE")
    assert job.ddl_target_table == api.TableReference.from_string(f"{PROJECT}.d.t")
    table = client.get_table("d.t")
    assert [(each.name, each.field_type, each.mode, each.description) for each in table.schema] == [
        ("a", "INTEGER", "REQUIRED", "one"),
        ("day", "DATE", "NULLABLE", None),
        ("s", "RECORD", "NULLABLE", None),
    ]
    assert [(each.name, each.mode) for each in table.schema[2].fields] == [("x", "NULLABLE"), ("y", "REPEATED")]
    assert (table.time_partitioning.field, table.clustering_fields) == ("day", ["a"])
    assert (table.description, table.labels) == ("a table", {"by": "test"})
    with pytest.raises(exceptions.Conflict, match="Already Exists"):
        _run(client, sql)
    assert _run(client, sql.replace("TABLE", "TABLE IF NOT EXISTS", 1)).ddl_operation_performed == "SKIP"
    made = "CREATE OR REPLACE TABLE d.t PARTITION BY DATE(ts) AS SELECT 1 AS a, TIMESTAMP '2026-11-19 10:00:00' AS ts"
    job = _run(client, made)
    assert (job.statement_type, job.ddl_operation_performed) == ("CREATE_TABLE_AS_SELECT", "REPLACE")
    assert list(client.list_partitions("d.t")) == ["20261119"]
    _run(client, "ALTER TABLE d.t ADD COLUMN b STRING, ADD COLUMN IF NOT EXISTS a INT64")
    _run(client, "UPDATE d.t SET b = 'x' WHERE b IS NULL")
    assert _rows(client, "SELECT a, b FROM d.t") == [(1, "x")]
    assert _run(client, "DROP TABLE d.t").ddl_operation_performed == "DROP"
    assert _run(client, "DROP TABLE IF EXISTS d.t").ddl_operation_performed == "SKIP"
    with pytest.raises(exceptions.NotFound):
        _run(client, "DROP TABLE d.t")
    _run(client, "CREATE SCHEMA e OPTIONS (location = 'EU')")
    assert client.get_dataset("e").location == "EU"
    _run(client, "DROP SCHEMA e")


def test_views_are_read_as_their_queries_give_now(client: api.Client) -> None:
    _stock(client)
    _run(client, "CREATE VIEW d.many AS SELECT product, quantity * 2 AS twice FROM d.inventory WHERE quantity > 25")
    _run(client, "CREATE OR REPLACE VIEW d.names AS SELECT product FROM d.many")
    assert _rows(client, "SELECT * FROM d.names ORDER BY product") == [("dishwasher",), ("dryer",)]
    _run(client, "UPDATE d.inventory SET quantity = 100 WHERE product = 'oven'")
    assert _rows(client, "SELECT m.twice FROM d.many m WHERE product IN (SELECT product FROM d.names)") != []
    assert _rows(client, "SELECT twice FROM d.many WHERE product = 'oven'") == [(200,)]
    view = api.Table(f"{PROJECT}.d.made")
    view.view_query = "SELECT COUNT(*) AS n FROM d.names"
    client.create_table(view)
    assert _rows(client, "SELECT n FROM d.made") == [(3,)]
    with pytest.raises(exceptions.BadRequest, match="currently a VIEW"):
        _run(client, "DELETE d.many WHERE TRUE")
    with pytest.raises(exceptions.BadRequest, match="currently a VIEW"):
        _run(client, "DROP TABLE d.many")
    _run(client, "DROP VIEW d.many")
    with pytest.raises(exceptions.NotFound):
        _rows(client, "SELECT * FROM d.names")


def test_a_script_is_a_job_with_a_child_for_each_statement_and_the_last_result(client: api.Client) -> None:
    job = _run(client, "CREATE TABLE d.s (a INT64); INSERT d.s VALUES (1), (2); SELECT SUM(a) AS n FROM d.s;")
    assert [tuple(row) for row in job.result()] == [(3,)]
    assert (job.statement_type, job.num_child_jobs) == ("SCRIPT", 3)
    kinds = [each.statement_type for each in client.list_jobs(parent_job=job.job_id)]
    assert sorted(kinds) == ["CREATE_TABLE", "INSERT", "SELECT"]
    with pytest.raises(exceptions.BadRequest, match=r"statement 2"):
        _run(client, "INSERT d.s VALUES (3); SELECT nothing FROM d.s")
    assert _rows(client, "SELECT COUNT(*) FROM d.s") == [(3,)]


def test_columns_of_json_and_bignumeric_come_back_as_they_went_in(client: api.Client) -> None:
    _run(client, "CREATE TABLE d.j (id INT64, j JSON, b BIGNUMERIC)")
    _run(
        client, """INSERT d.j VALUES (1, JSON '{"a": [1, 2]}', BIGNUMERIC '1.00000000000000000000000000000000000001')"""
    )
    _run(client, "INSERT d.j (id, j) VALUES (2, NULL)")
    assert _rows(client, "SELECT * FROM d.j ORDER BY id") == [
        (1, {"a": [1, 2]}, Decimal("1.00000000000000000000000000000000000001")),
        (2, None, None),
    ]
    assert _rows(client, "SELECT JSON_VALUE(j, '$.a[1]') FROM d.j WHERE b IS NOT NULL") == [("2",)]
    assert [tuple(row) for row in client.list_rows("d.j")][0][2] == Decimal("1.00000000000000000000000000000000000001")
    with pytest.raises(exceptions.MethodNotImplemented, match="computing with the BIGNUMERIC b"):
        client.query("SELECT b + 1 FROM d.j", job_retry=None)


def test_jobs_can_take_time_and_be_cancelled_meanwhile(service: BigQuery, client: api.Client) -> None:
    _run(client, "CREATE TABLE d.slow (a INT64)")
    service.take("query", 0.4)
    try:
        job = client.query("INSERT d.slow VALUES (1)", job_retry=None)
        assert client.get_job(job.job_id).state == "RUNNING"
        assert client.get_table("d.slow").num_rows == 0
        assert job.result().total_rows is not None or job.done()
        assert client.get_table("d.slow").num_rows == 1
        service.take("query", 60)
        job = client.query("INSERT d.slow VALUES (2)", job_retry=None)
        assert client.cancel_job(job.job_id).job_id == job.job_id
        with pytest.raises(exceptions.GoogleAPICallError, match="cancelled"):
            job.result()
        slow = client.query("SELECT 1", job_retry=None)
        url = f"{service.url}/bigquery/v2/projects/{PROJECT}/queries/{slow.job_id}"
        assert requests.get(url, params={"timeoutMs": "100"}, timeout=10).json()["jobComplete"] is False
    finally:
        service.take("query", 0)
    assert client.get_table("d.slow").num_rows == 1


def test_a_table_without_a_schema_has_no_rows(client: api.Client) -> None:
    client.create_table(api.Table(f"{PROJECT}.d.empty"))
    assert list(client.list_rows(client.get_table("d.empty"), selected_fields=[])) == []
    assert client.get_table("d.empty").num_rows == 0


def test_structs_are_parameters(client: api.Client) -> None:
    pair = api.StructQueryParameter(
        "p", api.ScalarQueryParameter("a", "INT64", 7), api.ArrayQueryParameter("b", "STRING", ["x", "y"])
    )
    job = _run(client, "SELECT @p.a AS a, @p.b[OFFSET(1)] AS b, @p AS whole", pair)
    assert [tuple(row) for row in job.result()] == [(7, "y", {"a": 7, "b": ["x", "y"]})]
