"""The local BigQuery's query jobs: a statement, or a script of several."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlglot import exp

from localcloud import bigquery_changes, bigquery_definitions, bigquery_files, bigquery_information, bigquery_sql
from localcloud.bigquery_catalog import Catalog, Outcome
from localcloud.bigquery_errors import ApiError, only, unsupported
from localcloud.bigquery_fields import Field, conform, normal
from localcloud.bigquery_files import Objects
from localcloud.bigquery_sql import Reader, Statement
from localcloud.bigquery_tables import Name, Source, Write

#: Views that read views, at most.
_DEPTH = 16


class Query:
    """The statements of a query job. What is wrong with them fails the job when it runs, and not when it is made."""

    def __init__(
        self, catalog: Catalog, objects: Objects, config: Mapping[str, Any], project: str, depth: int = 0
    ) -> None:
        only(
            config,
            "query tableDefinitions useLegacySql parameterMode queryParameters defaultDataset destinationTable "
            "writeDisposition createDisposition maximumBytesBilled priority useQueryCache timePartitioning clustering "
            "schemaUpdateOptions allowLargeResults flattenResults destinationEncryptionConfiguration",
            "a query job",
        )
        if not config.get("query"):
            raise ApiError("required", "Required parameter is missing: query")
        self._catalog, self._objects, self._config, self._depth = catalog, objects, config, depth
        self._reader = Reader(config.get("defaultDataset"), project, config.get("tableDefinitions", {}))
        self._trees: list[exp.Expr] = []
        self._statements: list[Statement] = []
        self._failure: ApiError | None = None
        try:
            self._trees = bigquery_sql.parse(config["query"], config)
            self._statements = [self._reader.statement(tree) for tree in self._trees]
        except ApiError as problem:
            if problem.reason == "notImplemented":
                raise
            self._failure = problem
        self._target = Name.of(config["destinationTable"]) if config.get("destinationTable") else None
        if self._target and (len(self._statements) != 1 or self._statements[0].kind != "SELECT"):
            self._failure = self._failure or ApiError(
                "invalidQuery", "Cannot set destination table in jobs with DDL or DML statements"
            )

        self.names = self._named()

    def _named(self) -> list[Name]:
        """Return the tables that are read or written."""
        found = [name for each in self._statements for name in each.names if name.dataset]
        found += [each.target for each in self._statements if each.target]
        return found + ([self._target] if self._target else [])

    def check(self) -> None:
        """Refuse what is not served, by name. What is merely wrong fails the job in its result."""

    def estimate(self) -> Outcome:
        """Return what a dry run tells: the bytes and the types. Raises ApiError."""
        if self._failure:
            raise self._failure
        if len(self._statements) != 1:
            raise unsupported("a dry run of a script")
        statement = self._statements[0]
        sources = self._sources(statement)
        if bool(statement.target) and statement.kind in ("INSERT", "UPDATE", "DELETE", "MERGE"):
            self._typed(statement)
        found: tuple[pa.Table | None, list[Field]] = (None, [])
        for step in statement.steps:
            found = statement.run(step, sources, only_types=True)
        return self._outcome(statement, statement.bytes_processed(sources), *found)

    def run(self) -> Outcome:
        """Run the statements, one after the other; the result is the last SELECT's. Raises ApiError."""
        if self._failure:
            raise self._failure
        if len(self._trees) == 1:
            return self._run(self._statements[0])
        outcomes = []
        for number, tree in enumerate(self._trees, 1):
            try:
                outcomes.append(self._run(self._reader.statement(tree)))
            except ApiError as problem:
                if problem.reason != "notImplemented":
                    problem.message = f"{problem.message} (statement {number} of the script)"
                raise problem
        rows = [each for each in outcomes if each.rows is not None]
        processed = sum(int(each.statistics["totalBytesProcessed"]) for each in outcomes)
        billed = sum(int(each.statistics["query"]["totalBytesBilled"]) for each in outcomes)
        about = {
            "totalBytesProcessed": str(processed),
            "totalBytesBilled": str(billed),
            "cacheHit": False,
            "statementType": "SCRIPT",
        }
        shown = {"totalBytesProcessed": str(processed), "query": about, "numChildJobs": str(len(outcomes))}
        last = rows[-1] if rows else Outcome({})
        children = [each for each in outcomes if each.statistics]
        return Outcome(shown, last.rows, last.fields, children)

    def _run(self, statement: Statement) -> Outcome:
        sources = self._sources(statement)
        processed = statement.bytes_processed(sources)
        billed = bigquery_sql.bytes_billed(processed)
        limit = self._config.get("maximumBytesBilled")
        if limit is not None and billed > int(limit):
            message = f"Query exceeded limit for bytes billed: {limit}. {billed} or higher required."
            raise ApiError("bytesBilledLimitExceeded", message)
        if statement.kind == "SELECT":
            rows, fields = statement.run(statement.steps[0], sources)
            if self._target:
                disposition = self._config.get("writeDisposition", "WRITE_EMPTY")
                write = Write(disposition, tuple(self._config.get("schemaUpdateOptions", ())))
                self._catalog.write(self._target, rows, fields, write, self._config)
            return self._outcome(statement, processed, rows, fields)
        outcome = self._outcome(statement, processed, None, [])
        if statement.tree is not None:
            result = statement.run(statement.steps[0], sources) if statement.steps else None
            done = bigquery_definitions.run(self._catalog, self._reader, statement, result)
            outcome.statistics["query"] |= done
            return outcome
        assert statement.target
        table = self._catalog.stored(statement.target)
        self._catalog.need("bigquery.tables.updateData", f"Table {table.name}")
        self._typed(statement)
        results = [(step, *statement.run(step, sources)) for step in statement.steps]
        change = bigquery_changes.applied(table, results)
        self._catalog.change(table, table.about, table.unexpired(change.rows))
        outcome.statistics["query"] |= change.statistics
        return outcome

    def _typed(self, statement: Statement) -> None:
        assert statement.target
        fields = self._catalog.stored(statement.target).fields
        for step in statement.steps:
            if step.action != "delete" and isinstance(step.select, exp.Select):
                bigquery_changes.typed(step, fields)
        statement.steps = bigquery_changes.joined(statement.steps)

    def _sources(self, statement: Statement) -> list[Source]:
        return [self._source(name) for name in statement.names]

    def _source(self, name: Name) -> Source:
        if not name.dataset:
            return self._of_files(self._config["tableDefinitions"][name.table])
        if bigquery_information.is_information(name):
            self._catalog.need("bigquery.tables.list", f"Dataset {name.project}:{name.dataset}")
            self._catalog.dataset(name.project, name.dataset)
            return bigquery_information.information(name.table, self._catalog.within(name.project, name.dataset))
        self._catalog.need("bigquery.tables.getData", f"Table {name}")
        table = self._catalog.table(name)
        if table.is_view:
            rows, fields = self._of_view(table.about, name)
            return Source(rows, fields)
        return Source(table.unexpired(table.rows), table.fields)

    def _of_view(self, about: Mapping[str, Any], name: Name) -> tuple[pa.Table, list[Field]]:
        """Return the rows that a view's query gives now."""
        if self._depth >= _DEPTH:
            raise ApiError("invalidQuery", f"The view {name} is nested too deeply")
        # A materialized view has but one dialect.
        given = about.get("view") or {**about["materializedView"], "useLegacySql": False}
        query = Query(self._catalog, self._objects, given, name.project, self._depth + 1)
        outcome = query.run()
        fields = list(about["schema"]["fields"])
        if outcome.rows is None or [each["name"] for each in fields] != outcome.rows.column_names:
            raise ApiError("invalidQuery", f"The view {name} no longer has the columns that it was made with")
        return conform(outcome.rows, outcome.fields), outcome.fields

    def _of_files(self, defined: Mapping[str, Any]) -> Source:
        """Return the rows of files, as a definition of a table in the job's own configuration says."""
        only(defined, "sourceFormat sourceUris schema autodetect csvOptions", "a definition of a table")
        fields = normal(defined.get("schema", {}).get("fields", []))
        how = {**defined, **defined.get("csvOptions", {})}
        tables = []
        for uri in [uri for given in defined["sourceUris"] for uri in self._objects.matching(given)]:
            rows, found = bigquery_files.read(self._objects.read(uri), uri, how, fields)
            fields = fields or found
            tables.append(conform(rows, fields))
        return Source(pa.concat_tables(tables), fields)

    def _outcome(
        self, statement: Statement, processed: Sequence[int], rows: pa.Table | None, fields: list[Field]
    ) -> Outcome:
        about: dict[str, Any] = {
            "totalBytesProcessed": str(sum(processed)),
            "totalBytesBilled": str(bigquery_sql.bytes_billed(processed)),
            "cacheHit": False,
            "statementType": statement.kind,
            "referencedTables": [name.reference for name in statement.names if name.dataset],
        }
        if rows is not None:
            about["schema"] = {"fields": fields}
        return Outcome({"totalBytesProcessed": str(sum(processed)), "query": about}, rows, fields)
