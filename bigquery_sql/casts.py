"""CAST, SAFE_CAST, and literals of dates and times."""

from decimal import ROUND_HALF_UP, Context, Decimal

from sqlglot import exp

from bigquery_sql import scalars, times
from bigquery_sql.build import Translator, call, cast, is_text, text, typed, unsupported
from bigquery_sql.errors import SqlError, UnsupportedError

_T = exp.DataType.Type
#: sqlglot's types → GoogleSQL's name and DuckDB's.
_TYPES = {
    _T.TEXT: ("STRING", "VARCHAR"),
    _T.VARCHAR: ("STRING", "VARCHAR"),
    _T.BIGINT: ("INT64", "BIGINT"),
    _T.INT: ("INT64", "BIGINT"),
    _T.SMALLINT: ("INT64", "BIGINT"),
    _T.TINYINT: ("INT64", "BIGINT"),
    _T.DOUBLE: ("FLOAT64", "DOUBLE"),
    _T.DECIMAL: ("NUMERIC", "DECIMAL(38,9)"),
    _T.BOOLEAN: ("BOOL", "BOOLEAN"),
    _T.BINARY: ("BYTES", "BLOB"),
    _T.VARBINARY: ("BYTES", "BLOB"),
    _T.DATE: ("DATE", "DATE"),
    _T.TIMESTAMPTZ: ("TIMESTAMP", "TIMESTAMPTZ"),
    _T.TIMESTAMP: ("DATETIME", "TIMESTAMP"),
    _T.DATETIME: ("DATETIME", "TIMESTAMP"),
    _T.TIME: ("TIME", "TIME"),
}
_READERS = {
    "DATE": times.date_text,
    "TIME": times.time_text,
    "DATETIME": times.datetime_text,
    "TIMESTAMP": times.timestamp_text,
}


#: The largest BIGNUMERIC: 2 to the 255th less one, in units of 10 to the minus 38th.
_WIDEST = Decimal(2**255 - 1).scaleb(-38, Context(prec=80))


def duckdb_type(kind: exp.DataType) -> str:
    """Return the name of a type in DuckDB. Raises SqlError for one that is not supported."""
    if kind.this == _T.ARRAY and len(kind.expressions) == 1:
        return duckdb_type(kind.expressions[0]) + "[]"
    if kind.this == _T.STRUCT:
        fields = [
            ('"' + each.name.replace('"', '""') + '"', each.args["kind"])
            if isinstance(each, exp.ColumnDef)
            else ("", each)
            for each in kind.expressions
        ]
        inner = ", ".join(f"{name or _unnamed(at)} {duckdb_type(each)}" for at, (name, each) in enumerate(fields, 1))
        return f"STRUCT({inner})"
    if kind.this == _T.JSON:
        return 'STRUCT("json$" VARCHAR)'
    if kind.this == _T.BIGDECIMAL and not kind.expressions:
        return 'STRUCT("bignumeric$" VARCHAR)'
    if kind.this not in _TYPES or kind.expressions:
        raise unsupported(f"the type {kind.sql('bigquery')}")
    return _TYPES[kind.this][1]


def _unnamed(at: int) -> str:
    return f"_field_{at}"


def cast_to(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return CAST, or a literal such as DATE '…'."""
    kind, this = node.args["to"], node.this
    if node.args.get("format") is not None or node.args.get("action") is not None:
        raise unsupported("CAST with FORMAT")
    whole = duckdb_type(kind)
    if isinstance(this, exp.Null):
        return cast(this, whole)
    if kind.this == _T.JSON:
        if is_text(this):
            return call("bq_parse_json", this)
        raise unsupported("CAST AS JSON")
    if kind.this == _T.BIGDECIMAL:
        return _bignumeric(this)
    if kind.this in (_T.ARRAY, _T.STRUCT):
        if not isinstance(this, exp.Array | exp.Struct):
            raise unsupported(f"CAST AS {kind.sql('bigquery')}")
        return cast(_constructed(translator, this, kind), whole)
    name = _TYPES[kind.this][0]
    if is_text(this) and name in _READERS:
        try:
            return cast(text(_READERS[name](this.name)), whole)
        except ValueError as error:
            raise SqlError(str(error)) from None
    if is_text(this) and name in ("INT64", "NUMERIC"):
        read = scalars.int64 if name == "INT64" else scalars.numeric_of
        try:
            return cast(text(str(read(this.name))), whole)
        except (ValueError, ArithmeticError) as error:
            raise SqlError(str(error)) from None
    return call("bq_text" if name == "STRING" else f"bq_to_{name.lower()}", translator.node(this))


def _bignumeric(this: exp.Expr) -> exp.Expr:
    """Return a BIGNUMERIC that is written as a literal; DuckDB has no number that is so wide, so it is text."""
    if not isinstance(this, exp.Literal):
        raise unsupported("CAST AS BIGNUMERIC of anything but a literal")
    try:
        value = Decimal(this.name.strip()).quantize(Decimal(1).scaleb(-38), ROUND_HALF_UP, Context(prec=77))
    except ArithmeticError:
        raise SqlError(f"Invalid BIGNUMERIC value: {this.name}") from None
    if not value.is_finite() or abs(value) > _WIDEST:
        raise SqlError(f"Invalid BIGNUMERIC value: {this.name}")
    shown = format(value.normalize(Context(prec=80)), "f")
    return named_struct({"bignumeric$": text(shown)})


def _constructed(translator: Translator, this: exp.Expr, kind: exp.DataType) -> exp.Expr:
    """Return ARRAY<…>[…] or STRUCT<…>(…), whose items take the types that are given."""
    if isinstance(this, exp.Array):
        return translator.array(this)
    names = [
        each.name if isinstance(each, exp.ColumnDef) else _unnamed(at) for at, each in enumerate(kind.expressions, 1)
    ]
    if len(names) != len(this.expressions):
        raise SqlError(f"STRUCT type has {len(names)} fields but constructor call has {len(this.expressions)} fields")
    return named_struct(dict(zip(names, translator.all(this.expressions), strict=True)))


def named_struct(fields: dict[str, exp.Expr]) -> exp.Expr:
    """Return a struct of DuckDB's."""
    return exp.Struct(
        expressions=[
            exp.PropertyEQ(this=exp.to_identifier(k, quoted=True), expression=typed(v)) for k, v in fields.items()
        ]
    )


def try_cast(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return SAFE_CAST, which gives NULL for what can't be cast."""
    try:
        return call("TRY", cast_to(translator, node))
    except SqlError as error:
        if not is_text(node.this) or isinstance(error, UnsupportedError):
            raise
        return cast(exp.null(), duckdb_type(node.args["to"]))
