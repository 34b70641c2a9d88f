"""Functions whose arguments are more than values: parts of dates, patterns, names; the others are macros by name."""

import re
from collections.abc import Callable

from sqlglot import exp

from bigquery_sql import aggregates, macros
from bigquery_sql.build import (
    Translator,
    call,
    cast,
    count_arguments,
    is_text,
    is_whole,
    number,
    text,
    typed,
    unsupported,
)
from bigquery_sql.casts import named_struct
from bigquery_sql.errors import SqlError

Arguments = list[exp.Expr]
_WEEKDAYS = ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"]
#: Microseconds of the parts that are always as long.
_MICROS = {"MICROSECOND": 1, "MILLISECOND": 1_000, "SECOND": 10**6, "MINUTE": 60 * 10**6, "HOUR": 3600 * 10**6}
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}


def function(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return a function's call. Raises SqlError for one that is not known."""
    name = _SYNONYMS.get(node.name.upper(), node.name.upper())
    if name in _SPECIAL:
        return _SPECIAL[name](translator, node.expressions)
    if name in aggregates.NAMES:
        raise SqlError(f"Aggregate function {name} not allowed here")
    macro = f"bq_{name.lower()}"
    if (
        macro not in macros.known()
        or name in _INTERNAL
        or name.endswith("_")
        or name.startswith("TO_")
        and name not in _TO
    ):
        raise unsupported(f"the function {name}")
    if any(isinstance(each, exp.Kwarg | exp.Star | exp.Distinct | exp.Order | exp.Limit) for each in node.expressions):
        raise unsupported(f"{name} with such arguments")
    return call(macro, *translator.all(node.expressions))


_SYNONYMS = {
    "CEILING": "CEIL",
    "POWER": "POW",
    "OCTET_LENGTH": "BYTE_LENGTH",
    "SUBSTRING": "SUBSTR",
    "CHARACTER_LENGTH": "CHAR_LENGTH",
    "REGEXP_SUBSTR": "REGEXP_EXTRACT",
    "JSON_EXTRACT_SCALAR": "JSON_VALUE",
    "JSON_EXTRACT": "JSON_QUERY",
    "JSON_EXTRACT_ARRAY": "JSON_QUERY_ARRAY",
    "JSON_EXTRACT_STRING_ARRAY": "JSON_VALUE_ARRAY",
}
#: Macros that are no functions of GoogleSQL.
_INTERNAL = set(
    "FAIL FAIL_TEXT FAIL_BOOL FAIL_FLOAT NONE NUMBER EQ NE LT LE FINITE ADD SUB MUL NEG AND OR XOR NOT SHL SHR LIKE "
    "FINITE_OR_NULL MATCHED RANKED MOMENT POSITIVE TEXT STAMP FRACTION FROM COUNT OFFSET SAFE_OFFSET STEP UNNESTED "
    "NARROW FLOAT_ONLY MIN_WINDOW ZONE LOCAL INSTANT DOW WEEK_OF ISOYEAR_OF CLIP FLOOR_TO JSON_FIELD "
    "JOINED TOP NO_STRUCT".split()
)
_TO = {"TO_JSON", "TO_CODE_POINTS", "TO_HEX", "TO_BASE64", "TO_JSON_STRING"}


def _part(node: exp.Expr) -> tuple[str, int]:
    """Return a date part and the day that its weeks begin with (0 is Sunday): WEEK(MONDAY) is ("WEEK", 1)."""
    name = node.name.upper()
    if isinstance(node, exp.Anonymous | exp.WeekStart) and node.expressions:
        day = node.expressions[0].name.upper()
        if name != "WEEK" or day not in _WEEKDAYS:
            raise SqlError(f"A valid date part is required, not {node.sql('bigquery')}")
        return "WEEK", _WEEKDAYS.index(day)
    if name == "ISOWEEK":
        return "WEEK", 1
    return name, 0


def amount(translator: Translator, interval: exp.Expr) -> exp.Expr:
    """Return the number of an INTERVAL."""
    this = interval.this
    if isinstance(this, exp.Literal):
        if not re.fullmatch(r"-?\d+", this.name):
            raise unsupported(f"INTERVAL '{this.name}'")
        return cast(text(this.name), "BIGINT")
    return translator.node(this)


def extract(translator: Translator, node: exp.Expr) -> exp.Expr:
    """Return EXTRACT(part FROM value [AT TIME ZONE zone])."""
    whole, of = node.this.name.upper(), node.expression
    part, first = _part(node.this)
    if isinstance(of, exp.AtTimeZone):
        value = call("bq_local", translator.node(of.this), translator.node(of.args["zone"]))
        if part in ("DATETIME",):
            return value
    else:
        value = translator.node(of)
    if whole == "ISOWEEK":
        return call("bq_extract_isoweek", value)
    if part == "WEEK":
        return call("bq_extract_week", value, number(first))
    macro = f"bq_extract_{part.lower()}"
    if macro not in macros.known():
        raise unsupported(f"EXTRACT({part})")
    return call(macro, value)


def _of_kind(translator: Translator, node: exp.Expr, name: str) -> exp.Expr:
    """Return an argument of DATE_…, DATETIME_… or TIMESTAMP_…: a literal of text is a date or time there."""
    kind = name.replace("GENERATE_", "").replace("FORMAT_", "").split("_")[0]
    if is_text(node):
        return translator.node(exp.cast(node, kind, dialect="bigquery"))
    return translator.node(node)


def _format(name: str) -> Callable[[Translator, Arguments], exp.Expr]:
    def made(translator: Translator, arguments: Arguments) -> exp.Expr:
        count_arguments(name, arguments, 2, 3 if name == "FORMAT_TIMESTAMP" else 2)
        form, value, *zone = arguments
        zones = translator.all(zone)
        return call(f"bq_{name.lower()}", translator.node(form), _of_kind(translator, value, name), *zones)

    return made


def _truncated(name: str) -> Callable[[Translator, Arguments], exp.Expr]:
    def made(translator: Translator, arguments: Arguments) -> exp.Expr:
        count_arguments(name, arguments, 1, 3)
        value = _of_kind(translator, arguments[0], name)
        zone = translator.all(arguments[2:])
        if len(arguments) == 1 and name != "TRUNC":
            raise unsupported(f"{name} without a part")
        part, first = _part(arguments[1])
        if part == "WEEK":
            return call("bq_trunc_week_", number(first), value, *zone)
        if part == "ISOYEAR":
            return call("bq_trunc_isoyear_", number(0), value, *zone)
        if part in _MICROS:
            return call("bq_trunc_clock_", text(part.lower()), value, *zone)
        if part in ("DAY", *_MONTHS):
            return call("bq_trunc_day_", text(part.lower()), value, *zone)
        raise unsupported(f"{name} to {part}")

    return made


def _added(name: str, sign: int) -> Callable[[Translator, Arguments], exp.Expr]:
    def made(translator: Translator, arguments: Arguments) -> exp.Expr:
        count_arguments(name, arguments, 2, 2)
        value, interval = arguments
        if not isinstance(interval, exp.Interval) or interval.args.get("unit") is None:
            raise unsupported(f"{name} with anything but INTERVAL n PART")
        return plus(translator, name, _of_kind(translator, value, name), interval, sign)

    return made


def plus(translator: Translator, name: str, value: exp.Expr, interval: exp.Expr, times: int) -> exp.Expr:
    """Return a date or time and so many times an INTERVAL. name: the function that was called."""
    part = interval.args["unit"].name.upper()
    count = amount(translator, interval)
    sizes = {"DAY": ("days", 1), "WEEK": ("days", 7)}
    sizes |= {each: ("months", size) for each, size in _MONTHS.items()}
    sizes |= {each: ("micros", size) for each, size in _MICROS.items()}
    if (
        part not in sizes
        or (name.startswith("TIME") and sizes[part][0] == "months")
        or (part == "WEEK" and name[:4] == "TIME")
    ):
        raise SqlError(f"{name} does not support the {part} date part")
    macro, size = sizes[part]
    return call(f"bq_add_{macro}_", value, call("bq_mul", count, cast(text(str(size * times)), "BIGINT")))


def _difference(name: str) -> Callable[[Translator, Arguments], exp.Expr]:
    def made(translator: Translator, arguments: Arguments) -> exp.Expr:
        count_arguments(name, arguments, 3, 3)
        a, b = (_of_kind(translator, each, name) for each in arguments[:2])
        part, first = _part(arguments[2])
        if name == "TIMESTAMP_DIFF":
            if part not in (*_MICROS, "DAY"):
                raise SqlError(f"TIMESTAMP_DIFF does not support the {part} date part")
            size = _MICROS.get(part, 24 * _MICROS["HOUR"])
            return call("bq_diff_whole_", a, b, cast(text(str(size)), "BIGINT"))
        if part in _MICROS and name in ("DATETIME_DIFF", "TIME_DIFF"):
            return call("bq_diff_clock_", a, b, cast(text(str(_MICROS[part])), "BIGINT"))
        if name == "DATETIME_DIFF":
            a, b = call("bq_date", a), call("bq_date", b)
        if name == "TIME_DIFF" or part not in ("DAY", "WEEK", "ISOYEAR", *_MONTHS):
            raise SqlError(f"{name} does not support the {part} date part")
        if part == "WEEK":
            return call("bq_diff_weeks_", a, b, number(first))
        if part in _MONTHS:
            return call("bq_diff_months_", a, b, number(_MONTHS[part]))
        return call("bq_diff_days_" if part == "DAY" else "bq_diff_isoyears_", a, b)

    return made


def _last_day(translator: Translator, arguments: Arguments) -> exp.Expr:
    count_arguments("LAST_DAY", arguments, 1, 2)
    value = _of_kind(translator, arguments[0], "DATE")
    part, first = _part(arguments[1]) if len(arguments) == 2 else ("MONTH", 0)
    if part == "WEEK":
        return call("bq_last_day_week_", value, number(first))
    if part in ("QUARTER", "YEAR"):
        return call("bq_last_day_months_", value, text(part.lower()), number(_MONTHS[part]))
    if part in ("MONTH", "ISOYEAR"):
        return call(f"bq_last_day_{part.lower()}_", value)
    raise unsupported(f"LAST_DAY of {part}")


def _dates(name: str) -> Callable[[Translator, Arguments], exp.Expr]:
    """Return what translates GENERATE_DATE_ARRAY or GENERATE_TIMESTAMP_ARRAY.

    Each item is so many steps after the first, so that none drifts.
    """

    def made(translator: Translator, arguments: Arguments) -> exp.Expr:
        count_arguments(name, arguments, 2 if name == "GENERATE_DATE_ARRAY" else 3, 3)
        one = exp.Interval(this=text("1"), unit=exp.Var(this="DAY"))
        interval = arguments[2] if len(arguments) == 3 else one
        if not isinstance(interval, exp.Interval) or not isinstance(interval.this, exp.Literal | exp.Neg):
            raise unsupported(f"{name} with a step that is no literal")
        step = interval.args["unit"].name.upper()
        count = int(str(interval.this.sql("bigquery")).strip("'").replace(" ", ""))
        if count == 0:
            raise SqlError("Sequence step cannot be 0")
        interval = exp.Interval(this=exp.column("k"), unit=interval.args["unit"])
        first, last = (_of_kind(translator, each, name) for each in arguments[:2])
        smallest = {"DAY": 86400, "WEEK": 7 * 86400, "MONTH": 28 * 86400, "QUARTER": 89 * 86400, "YEAR": 365 * 86400}
        micros = smallest.get(step, 0) * 10**6 or _MICROS.get(step, 0)
        if not micros:
            raise unsupported(f"{name} by {step}")
        add = "TIMESTAMP_ADD" if name == "GENERATE_TIMESTAMP_ARRAY" else "DATE_ADD"
        moved = plus(translator, add, exp.column("first"), interval, 1)
        begin, end, made_of = (each.sql(dialect="duckdb", identify=True) for each in (first, last, moved))
        sign, turn, within = ("", 1, "<=") if count > 0 else ("-", -1, ">=")
        most = f'greatest(({sign}(epoch_us("last") - epoch_us("first"))) // {micros * abs(count)}, -1)'
        steps = f"SELECT unnest(generate_series(0, {most})) * {count} AS k"
        items = (
            f'SELECT list(v ORDER BY k * {turn}) FROM (SELECT k, {made_of} AS v FROM ({steps})) WHERE v {within} "last"'
        )
        both = f'SELECT {begin} AS "first", {end} AS "last"'
        there = '"first" IS NOT NULL AND "last" IS NOT NULL'
        sql = f"(SELECT CASE WHEN {there} THEN coalesce(({items}), []) END FROM ({both}))"
        return exp.Anonymous(this="bq_unnested", expressions=[exp.Var(this=sql)])

    return made


def _formatted(translator: Translator, arguments: Arguments) -> exp.Expr:
    if len(arguments) == 1:
        raise unsupported("FORMAT of a format alone")
    return call("py_format", *translator.all(arguments))


def _struct(translator: Translator, arguments: Arguments) -> exp.Expr:
    fields = {}
    for at, each in enumerate(arguments, 1):
        name = each.alias_or_name if isinstance(each, exp.Alias | exp.Column | exp.Dot) else ""
        value = translator.node(each.this if isinstance(each, exp.Alias) else each)
        if (name or f"_field_{at}") in fields:
            raise unsupported(f"a STRUCT with two fields {name}")
        fields[name or f"_field_{at}"] = value
    if not fields:
        raise unsupported("a STRUCT without fields")
    return named_struct(fields)


def _groups(pattern: exp.Expr, name: str) -> exp.Expr:
    """Return which group of a pattern is wanted: the first, or all of the match where there is no group."""
    if not is_text(pattern):
        raise unsupported(f"{name} with a pattern that is no literal")
    plain = re.sub(r"\\Q.*?(\\E|$)|\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]", "", pattern.name, flags=re.DOTALL)
    groups = len(re.findall(r"\((?!\?)|\(\?P?<", plain))
    if groups > 1:
        raise SqlError(f"Regular expression has more than one capturing group, which {name} does not take")
    return number(groups)


def _extracted(translator: Translator, arguments: Arguments) -> exp.Expr:
    count_arguments("REGEXP_EXTRACT", arguments, 2, 4)
    group = _groups(arguments[1], "REGEXP_EXTRACT")
    value, pattern, *rest = translator.all(arguments)
    if not rest:
        return call("bq_regexp_extract_", value, pattern, group)
    occurrence = rest[1] if len(rest) == 2 else cast(text("1"), "BIGINT")
    return call("bq_regexp_extract_at_", value, pattern, group, rest[0], occurrence)


def _found_at(translator: Translator, arguments: Arguments) -> exp.Expr:
    count_arguments("REGEXP_INSTR", arguments, 2, 5)
    places = [*arguments[2:], *(exp.Literal.number(each) for each in (1, 1, 0)[len(arguments) - 2 :])]
    begin, occurrence, end = places
    if not is_whole(occurrence) or occurrence.name != "1" or not is_whole(end) or end.name not in ("0", "1"):
        raise unsupported("REGEXP_INSTR with an occurrence other than 1, or with one that is no literal")
    if _groups(arguments[1], "REGEXP_INSTR").name != "0":
        raise unsupported("REGEXP_INSTR with a capturing group")
    value, pattern = translator.all(arguments[:2])
    return call("bq_regexp_instr_", value, pattern, translator.node(begin), number(int(end.name)))


def _all_extracted(translator: Translator, arguments: Arguments) -> exp.Expr:
    count_arguments("REGEXP_EXTRACT_ALL", arguments, 2, 2)
    group = _groups(arguments[1], "REGEXP_EXTRACT_ALL")
    return call("bq_regexp_extract_all_", *translator.all(arguments), group)


def _normalized(name: str) -> Callable[[Translator, Arguments], exp.Expr]:
    def made(translator: Translator, arguments: Arguments) -> exp.Expr:
        count_arguments(name, arguments, 1, 2)
        form = arguments[1].name.upper() if len(arguments) == 2 else "NFC"
        return call(f"bq_{name.lower()}_", translator.node(arguments[0]), text(form))

    return made


def _folded(name: str, least: int = 1) -> Callable[[Translator, Arguments], exp.Expr]:
    """Return what translates a function of any number of arguments into calls of a function of two."""

    def made(translator: Translator, arguments: Arguments) -> exp.Expr:
        count_arguments(name, arguments, least, 1000)
        values = translator.all(arguments)
        found = typed(values[0])
        for value in values[1:]:
            found = call(name, found, value)
        return found

    return made


def _concatenated(translator: Translator, arguments: Arguments) -> exp.Expr:
    count_arguments("CONCAT", arguments, 1, 1000)
    return _folded("bq_concat_")(translator, list(arguments))


def _plain(name: str, least: int, most: int) -> Callable[[Translator, Arguments], exp.Expr]:
    """Return what translates a function into DuckDB's of a given name; text stays a literal, so that it takes the type
    of the other arguments.
    """

    def made(translator: Translator, arguments: Arguments) -> exp.Expr:
        count_arguments(name, arguments, least, most)
        return exp.Anonymous(this=name, expressions=translator.all(arguments))

    return made


def _if(translator: Translator, arguments: Arguments) -> exp.Expr:
    count_arguments("IF", arguments, 3, 3)
    condition, yes, no = translator.all(arguments)
    return exp.Case(ifs=[exp.If(this=condition, true=yes)], default=no)


def _nullif(translator: Translator, arguments: Arguments) -> exp.Expr:
    count_arguments("NULLIF", arguments, 2, 2)
    value, other = translator.all(arguments)
    return exp.Anonymous(this="nullif", expressions=[value, matched(other)])


def matched(value: exp.Expr) -> exp.Expr:
    """Return a value for a comparison by DuckDB's =, with NULL for NaN, because NaN equals nothing."""
    return value if is_text(value) or isinstance(value, exp.Null) else call("bq_matched", value)


def _safely(macro: str, most: int) -> Callable[[Translator, Arguments], exp.Expr]:
    """Return what translates SAFE_ADD and its like, which give NULL where the operator would fail."""

    def made(translator: Translator, arguments: Arguments) -> exp.Expr:
        count_arguments(f"SAFE of {macro}", arguments, most, most)
        return call("TRY", call(macro, *translator.all(arguments)))

    return made


def _json_object(translator: Translator, arguments: Arguments) -> exp.Expr:
    keys, values = arguments[::2], translator.all(arguments[1::2])
    if len(keys) > len(values) or not all(is_text(key) for key in keys):
        raise unsupported("JSON_OBJECT with names that are no literals")
    if not keys:
        return call("bq_parse_json", text("{}"))
    # Of members with one name the first counts.
    return call(
        "bq_to_json", named_struct({key.name: each for key, each in reversed(list(zip(keys, values, strict=True)))})
    )


def _distance(translator: Translator, arguments: Arguments) -> exp.Expr:
    values = [each.expression if isinstance(each, exp.Kwarg) else each for each in arguments]
    return call("bq_edit_distance", *translator.all(values))


def _json(name: str) -> Callable[[Translator, Arguments], exp.Expr]:
    def made(translator: Translator, arguments: Arguments) -> exp.Expr:
        count_arguments(name, arguments, 1, 2)
        path = arguments[1] if len(arguments) == 2 else text("$")
        if not is_text(path):
            raise unsupported(f"{name} with a path that is no literal")
        return call(f"bq_{name.lower()}", translator.node(arguments[0]), path)

    return made


_SPECIAL: dict[str, Callable[[Translator, Arguments], exp.Expr]] = {
    **{name: _truncated(name) for name in ("DATE_TRUNC", "DATETIME_TRUNC", "TIMESTAMP_TRUNC", "TIME_TRUNC")},
    **{f"{kind}_ADD": _added(f"{kind}_ADD", 1) for kind in ("DATE", "DATETIME", "TIMESTAMP", "TIME")},
    **{f"{kind}_SUB": _added(f"{kind}_SUB", -1) for kind in ("DATE", "DATETIME", "TIMESTAMP", "TIME")},
    **{f"{kind}_DIFF": _difference(f"{kind}_DIFF") for kind in ("DATE", "DATETIME", "TIMESTAMP", "TIME")},
    **{name: _json(name) for name in ("JSON_VALUE JSON_QUERY JSON_VALUE_ARRAY JSON_QUERY_ARRAY").split()},
    "SAFE_ADD": _safely("bq_add", 2),
    "SAFE_SUBTRACT": _safely("bq_sub", 2),
    "SAFE_MULTIPLY": _safely("bq_mul", 2),
    "SAFE_NEGATE": _safely("bq_neg", 1),
    **{name: _format(name) for name in ("FORMAT_DATE", "FORMAT_DATETIME", "FORMAT_TIME", "FORMAT_TIMESTAMP")},
    "ARRAY": lambda translator, arguments: translator.array(exp.Array(expressions=arguments)),
    "LAST_DAY": _last_day,
    "GENERATE_DATE_ARRAY": _dates("GENERATE_DATE_ARRAY"),
    "GENERATE_TIMESTAMP_ARRAY": _dates("GENERATE_TIMESTAMP_ARRAY"),
    "FORMAT": _formatted,
    "STRUCT": _struct,
    "REGEXP_EXTRACT": _extracted,
    "REGEXP_INSTR": _found_at,
    "JSON_OBJECT": _json_object,
    "REGEXP_EXTRACT_ALL": _all_extracted,
    "NORMALIZE": _normalized("NORMALIZE"),
    "NORMALIZE_AND_CASEFOLD": _normalized("NORMALIZE_AND_CASEFOLD"),
    "CONCAT": _concatenated,
    "ARRAY_CONCAT": _folded("bq_concat_"),
    "GREATEST": _folded("bq_greatest_"),
    "LEAST": _folded("bq_least_"),
    "COALESCE": _plain("coalesce", 1, 1000),
    "IFNULL": _plain("ifnull", 2, 2),
    "IF": _if,
    "NULLIF": _nullif,
    "EDIT_DISTANCE": _distance,
}
