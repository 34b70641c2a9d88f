"""CREATE, DROP, ALTER and TRUNCATE of the local BigQuery."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlglot import exp

from localcloud.bigquery_catalog import Catalog
from localcloud.bigquery_errors import ApiError, unsupported
from localcloud.bigquery_fields import Field, alter, conform, normal
from localcloud.bigquery_sql import Reader, Statement
from localcloud.bigquery_tables import Name

_DAY_MS = 24 * 60 * 60 * 1000
#: The functions by which a table may be partitioned, beside the plain column: by the day of a time.
_BY_DAY = ("DATE", "TIMESTAMP_TRUNC", "DATETIME_TRUNC", "DATE_TRUNC")


def run(
    catalog: Catalog, reader: Reader, statement: Statement, result: tuple[pa.Table, list[Field]] | None
) -> Mapping[str, Any]:
    """Do what a definition says and return its statistics. Raises ApiError.

    result: of the query after AS.
    """
    tree = statement.tree
    if statement.kind == "TRUNCATE_TABLE" and statement.target:
        table = catalog.stored(statement.target)
        catalog.need("bigquery.tables.updateData", f"Table {table.name}")
        gone = table.rows.num_rows
        catalog.change(table, table.about, table.rows.slice(0, 0))
        return {"numDmlAffectedRows": str(gone), "dmlStats": {"deletedRowCount": str(gone)}}
    if statement.kind.endswith("_SCHEMA") and isinstance(tree, exp.Create | exp.Drop):
        return _schema(catalog, reader, tree)
    assert statement.target
    if isinstance(tree, exp.Create):
        done = _create(catalog, reader, statement, statement.target, tree, result)
    elif isinstance(tree, exp.Drop):
        done = _drop(catalog, statement.kind, statement.target, bool(tree.args.get("exists")))
    elif isinstance(tree, exp.Alter):
        done = _alter(catalog, statement.target, tree)
    return {"ddlOperationPerformed": done, "ddlTargetTable": statement.target.reference}


def _create(
    catalog: Catalog,
    reader: Reader,
    statement: Statement,
    target: Name,
    tree: exp.Create,
    result: tuple[pa.Table, list[Field]] | None,
) -> str:
    there = catalog.tables.get(target)
    replaces = bool(tree.args.get("replace"))
    if there and tree.args.get("exists"):
        return "SKIP"
    if there and not replaces:
        raise ApiError("duplicate", f"Already Exists: Table {target}")
    about = _about(tree, reader, catalog)
    rows = None
    if "VIEW" in statement.kind:
        assert result
        kind = statement.kind.removeprefix("CREATE_")
        key = "view" if kind == "VIEW" else "materializedView"
        text = tree.args["expression"].sql("bigquery")
        query = {"query": text, **({"useLegacySql": False} if key == "view" else {})}
        about |= {"type": kind, key: query, "schema": {"fields": _renamed(result[1], tree)}}
    elif result:
        rows, found = result
        given = about.get("schema", {}).get("fields") or found
        if len(given) != len(found):
            raise ApiError("invalidQuery", f"The query has {len(found)} columns, the table {len(given)}")
        rows = conform(rows.rename_columns([each["name"] for each in given]), given)
        about["schema"] = {"fields": given}
    if not about.get("schema", {}).get("fields"):
        raise ApiError("invalidQuery", "CREATE TABLE must have columns, or a query after AS")
    table = catalog.new(target, about)
    if rows is not None:
        catalog.change(table, table.about, table.unexpired(rows))
    catalog.tables[target] = table
    return "REPLACE" if there else "CREATE"


def _about(tree: exp.Create, reader: Reader, catalog: Catalog) -> dict[str, Any]:
    """Return the description of a table that CREATE gives."""
    about: dict[str, Any] = {}
    if isinstance(tree.this, exp.Schema) and any(isinstance(each, exp.ColumnDef) for each in tree.this.expressions):
        about["schema"] = {"fields": normal([_field(each) for each in tree.this.expressions])}
    if clone := tree.args.get("clone"):
        raise unsupported(f"CREATE TABLE … {'COPY' if clone.args.get('copy') else 'CLONE'}; a copy job does that")
    days: dict[str, Any] | None = None
    for each in (tree.args.get("properties") or exp.Properties()).expressions:
        if isinstance(each, exp.PartitionedByProperty):
            days = {"type": "DAY", "field": _day_field(each.this)}
        elif isinstance(each, exp.ClusterProperty):
            about["clustering"] = {"fields": [column.name for column in each.expressions]}
        elif isinstance(each, exp.LikeProperty):
            like = catalog.stored(reader.name(each.this)).about
            about = {key: like[key] for key in ("schema", "timePartitioning", "clustering") if like.get(key)}
        elif isinstance(each, exp.Property) and type(each) is exp.Property:
            name, value = each.name.lower(), _constant(each.args["value"])
            if name == "partition_expiration_days" and days:
                days["expirationMs"] = str(int(float(value) * _DAY_MS))
            else:
                about |= _option(name, value)
        elif not isinstance(each, exp.MaterializedProperty):
            raise unsupported(f"CREATE with {each.sql('bigquery')}")
    if days:
        about["timePartitioning"] = days
    return about


def _option(name: str, value: Any) -> dict[str, Any]:
    """Return what an option of OPTIONS (…) is in the API."""
    if name == "labels":
        return {"labels": dict(value)}
    if name in ("description", "friendly_name"):
        return {"friendlyName" if name == "friendly_name" else name: value}
    raise unsupported(f"the option {name}")


def _constant(node: exp.Expr) -> Any:
    if isinstance(node, exp.Literal):
        return node.name
    if isinstance(node, exp.Array | exp.Tuple):
        return [_constant(each) for each in node.expressions]
    if isinstance(node, exp.Null):
        return None
    raise unsupported(f"the value {node.sql('bigquery')} of an option")


def _day_field(node: exp.Expr) -> str:
    """Return the column by whose day a table is partitioned."""
    if isinstance(node, exp.Column | exp.Identifier) and not node.name.upper().startswith("_PARTITION"):
        return str(node.name)
    if isinstance(node, exp.Anonymous) and node.name.upper() in _BY_DAY and node.expressions:
        part = node.expressions[1].name.upper() if len(node.expressions) > 1 else "DAY"
        if part == "DAY" and isinstance(node.expressions[0], exp.Column):
            return str(node.expressions[0].name)
    raise unsupported(f"PARTITION BY {node.sql('bigquery')}: partitions other than by the day of a field")


def _field(node: exp.Expr) -> Field:
    """Return a column of CREATE TABLE as the API has it."""
    if not isinstance(node, exp.ColumnDef) or node.args.get("kind") is None:
        raise unsupported(f"{node.sql('bigquery')} in a CREATE TABLE")
    found = _typed(node.name, node.args["kind"])
    for each in node.args.get("constraints") or []:
        if isinstance(each.kind, exp.NotNullColumnConstraint):
            found["mode"] = "REQUIRED"
        elif isinstance(each.kind, exp.Properties):
            found |= {one.name.lower(): _constant(one.args["value"]) for one in each.kind.expressions}
        else:
            raise unsupported(f"{each.sql('bigquery')} of the column {node.name}")
    return found


def _typed(name: str, kind: exp.DataType) -> Field:
    if kind.this == exp.DataType.Type.ARRAY:
        return {**_typed(name, kind.expressions[0]), "mode": "REPEATED"}
    if kind.this == exp.DataType.Type.STRUCT:
        fields = [_field(each) if isinstance(each, exp.ColumnDef) else None for each in kind.expressions]
        if None in fields:
            raise unsupported(f"the type {kind.sql('bigquery')} of the column {name}, whose fields have no names")
        return {"name": name, "type": "RECORD", "fields": fields}
    spelled, _, sizes = kind.sql("bigquery").partition("(")
    numbers = [each.strip() for each in sizes.rstrip(")").split(",") if each.strip()]
    keys = ("precision", "scale") if "NUMERIC" in spelled else ("maxLength",)
    return {"name": name, "type": spelled, **dict(zip(keys, numbers, strict=False))}


def _renamed(fields: Sequence[Field], tree: exp.Create) -> list[Field]:
    """Return a view's columns, with the names that CREATE VIEW gives. Raises ApiError."""
    if not isinstance(tree.this, exp.Schema):
        return list(fields)
    if [each.name for each in tree.this.expressions] != [each["name"] for each in fields]:
        raise unsupported("names of columns in CREATE VIEW that are not those of its query")
    return list(fields)


def _drop(catalog: Catalog, kind: str, name: Name, quiet: bool) -> str:
    there = catalog.tables.get(name)
    if there is None:
        if quiet:
            return "SKIP"
        catalog.table(name)
        return "SKIP"
    wanted = kind.removeprefix("DROP_")
    if there.about.get("type", "TABLE") != wanted:
        found = there.about.get("type", "TABLE")
        raise ApiError("invalidQuery", f"{name} is not allowed for this operation because it is currently a {found}.")
    catalog.need("bigquery.tables.delete", f"Table {name}")
    del catalog.tables[name]
    return "DROP"


def _alter(catalog: Catalog, name: Name, tree: exp.Alter) -> str:
    table = catalog.stored(name)
    catalog.need("bigquery.tables.update", f"Table {name}")
    fields, about = list(table.fields), dict(table.about)
    for action in tree.args["actions"]:
        there = {each["name"].lower() for each in fields}
        if isinstance(action, exp.ColumnDef):
            if action.name.lower() in there and action.args.get("exists"):
                continue
            if action.name.lower() in there:
                raise ApiError("invalidQuery", f"Column already exists: {action.name}")
            fields = alter(name, fields, [*fields, *normal([_field(action)])])
        elif isinstance(action, exp.Drop) and str(action.args.get("kind")).upper() == "COLUMN":
            gone = (action.args.get("tables") or [action.this])[0].name.lower()
            if gone not in there and not action.args.get("exists"):
                raise ApiError("invalidQuery", f"Column not found: {gone}")
            if gone in ((about.get("clustering") or {}).get("fields", []), table.day_field):
                raise ApiError("invalidQuery", f"ALTER TABLE DROP COLUMN cannot drop partitioning column {gone}")
            fields = [each for each in fields if each["name"].lower() != gone]
        elif isinstance(action, exp.AlterSet):
            for group in action.expressions:
                for each in group.expressions:
                    about |= _option(each.name.lower(), _constant(each.args["value"]))
        else:
            raise unsupported(f"ALTER TABLE {action.sql('bigquery')}")
    catalog.change(table, {**about, "schema": {"fields": fields}}, conform(table.rows, fields))
    return "ALTER"


def _schema(catalog: Catalog, reader: Reader, tree: exp.Create | exp.Drop) -> Mapping[str, Any]:
    place = tree.args["tables"][0] if isinstance(tree, exp.Drop) else tree.this
    project, name = reader.dataset(place)
    reference = {"projectId": project, "datasetId": name}
    if isinstance(tree, exp.Drop):
        if (project, name) not in catalog.datasets and tree.args.get("exists"):
            return {"ddlOperationPerformed": "SKIP", "ddlTargetDataset": reference}
        catalog.drop(project, name, contents=bool(tree.args.get("cascade")))
        return {"ddlOperationPerformed": "DROP", "ddlTargetDataset": reference}
    if tree.args.get("replace"):
        raise ApiError("invalidQuery", "CREATE OR REPLACE SCHEMA is not supported")
    if (project, name) in catalog.datasets and tree.args.get("exists"):
        return {"ddlOperationPerformed": "SKIP", "ddlTargetDataset": reference}
    about: dict[str, Any] = {"datasetReference": reference}
    for each in (tree.args.get("properties") or exp.Properties()).expressions:
        if isinstance(each, exp.LocationProperty):
            about["location"] = each.this.name
        elif isinstance(each, exp.Property):
            about |= _option(each.name.lower(), _constant(each.args["value"]))
        else:
            raise unsupported(f"CREATE SCHEMA with {each.sql('bigquery')}")
    catalog.need("bigquery.datasets.create", f"Project {project}")
    catalog.add(project, about)
    return {"ddlOperationPerformed": "CREATE", "ddlTargetDataset": reference}
