"""GoogleSQL's grammar: sqlglot's, with every function kept as it is written, and literals read as GoogleSQL reads them.

sqlglot turns functions that it knows into its own notions, which lose what the function was; here each is a name with
arguments, so that what it means is said once, in functions.py and macros.sql.
"""

import re
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.parsers.bigquery import BigQueryParser

from bigquery_sql.errors import SqlError

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|\#[^\n]*|/\*.*?\*/)|(?P<name>`[^`]*`)
    |(?P<prefix>(?<!\w)(?:[rR][bB]?|[bB][rR]?)|)(?P<quote>\"\"\"|'''|"|')""",
    re.DOTALL | re.VERBOSE,
)


#: Functions with a word for an argument: the third one of …_DIFF, the second one of the others.
_TAKES_PART = re.compile(
    r"(DATE|DATETIME|TIMESTAMP|TIME)_(DIFF|TRUNC)|LAST_DAY|NORMALIZE(_AND_CASEFOLD)?", re.IGNORECASE
)
_FORMS = {
    name: made
    for name, made in BigQueryParser.FUNCTION_PARSERS.items()
    if name in ("CAST", "SAFE_CAST", "EXTRACT", "STRING_AGG")
}


class _Parser(BigQueryParser):
    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    FUNCTION_PARSERS: ClassVar = _FORMS


class GoogleSQL(BigQuery):
    """BigQuery's dialect without sqlglot's own functions."""

    Parser = _Parser


def parse(sql: str) -> list[exp.Expr]:
    """Return the statements of a text. Raises SqlError for what is no SQL."""
    try:
        return [_with_parts(tree) for tree in sqlglot.parse(_plain(sql), read=GoogleSQL) if tree is not None]
    except sqlglot.errors.ParseError as error:
        found = error.errors[0] if error.errors else {}
        where = f" at [{found['line']}:{found['col']}]" if found.get("line") else ""
        raise SqlError(f"Syntax error: {found.get('description') or str(error).splitlines()[0]}{where}") from None
    except sqlglot.errors.SqlglotError as error:
        raise SqlError(f"Syntax error: {str(error).splitlines()[0]}") from None


def _with_parts(tree: exp.Expr) -> exp.Expr:
    """Return the same tree, whose date parts and modes are no columns: MONTH, WEEK(MONDAY), NFKC."""
    for node in list(tree.find_all(exp.Anonymous)):
        if _TAKES_PART.fullmatch(node.name):
            at = 2 if node.name.upper().endswith("_DIFF") else 1
            for part in node.expressions[at : at + 1]:
                word = part.expressions[0] if isinstance(part, exp.Anonymous) and len(part.expressions) == 1 else part
                if isinstance(word, exp.Column) and not word.table:
                    word.replace(exp.Var(this=word.name))
    return tree


def _plain(sql: str) -> str:
    """Return the same text with every literal in the one form that sqlglot reads as GoogleSQL does: '…' or b'…'."""
    pieces, at = [], 0
    while found := _TOKEN.search(sql, at):
        pieces.append(sql[at : found.start()])
        at = found.end()
        if not found["quote"]:
            pieces.append(found[0])
            continue
        raw, is_bytes = "r" in found["prefix"].lower(), "b" in found["prefix"].lower()
        end = re.compile(r"(?:\\.|(?!" + re.escape(found["quote"]) + r").)*", re.DOTALL).match(sql, at)
        assert end
        body, at = end[0], end.end() + len(found["quote"])
        if sql[end.end() : at] != found["quote"] or (len(found["quote"]) == 1 and "\n" in body):
            raise SqlError("Syntax error: Unclosed string literal")
        value = _value(body, raw, is_bytes)
        if is_bytes:
            pieces.append(f"FROM_HEX('{value.encode('latin-1').hex()}')")
        else:
            pieces.append("'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'")
    return "".join([*pieces, sql[at:]])


def _value(body: str, raw: bool, is_bytes: bool) -> str:
    """Return what a literal's text stands for; of BYTES each letter is a byte."""
    if is_bytes:
        body = body.encode().decode("latin-1")
    if raw:
        return body

    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] in "xX" or code[0] in "uU":
            value = int(code[1:], 16)
        elif code[0].isdigit():
            value = int(code, 8)
        elif code in _ESCAPES:
            return _ESCAPES[code]
        elif code in "\\?\"'`\n":
            return code
        else:
            raise SqlError(f"Syntax error: Illegal escape sequence: \\{code}")
        if value > 0x10FFFF or 0xD800 <= value < 0xE000 or (is_bytes and value > 255):
            raise SqlError(f"Syntax error: Illegal escape sequence: \\{code}")
        return chr(value)

    codes = r"\\([xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)"
    return re.sub(codes, one, body, flags=re.DOTALL)
