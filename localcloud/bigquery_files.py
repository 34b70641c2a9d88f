"""The files that the local BigQuery loads and extracts: objects in the local Cloud Storage, and their formats."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import fastavro
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import requests

from localcloud import bigquery_values as values
from localcloud.bigquery_errors import ApiError, unsupported
from localcloud.bigquery_fields import Field, arrow_schema, fields_of


class Objects:
    """Cloud Storage, as a worker of BigQuery reaches it."""

    def __init__(self, url: str | Callable[[], str]) -> None:
        self._url = url

    def matching(self, uri: str) -> list[str]:
        """Return the objects that a URI with at most one * names. Raises ApiError if there are none."""
        bucket, path = _split(uri)
        prefix, star, end = path.partition("*")
        if not star:
            return [uri]
        if "*" in end:
            raise ApiError("invalid", f"Source URI must not contain more than one wildcard (*): {uri}")
        names: list[str] = []
        query = {"prefix": prefix}
        while True:
            page = self._call("GET", f"/storage/v1/b/{bucket}/o", uri, params=query).json()
            names += [item["name"] for item in page.get("items", [])]
            if "nextPageToken" not in page:
                break
            query["pageToken"] = page["nextPageToken"]
        found = [name for name in sorted(names) if name.endswith(end) and len(name) >= len(prefix) + len(end)]
        if not found:
            raise ApiError("notFound", f"Not found: URI {uri}")
        return [f"gs://{bucket}/{name}" for name in found]

    def read(self, uri: str) -> bytes:
        """Return an object's bytes. Raises ApiError if there is none."""
        bucket, path = _split(uri)
        where = f"/storage/v1/b/{bucket}/o/{quote(path, safe='')}"
        return bytes(self._call("GET", where, uri, params={"alt": "media"}).content)

    def write(self, uri: str, data: bytes) -> None:
        """Write an object over whatever is there. Raises ApiError if there is no bucket."""
        bucket, path = _split(uri)
        query = {"uploadType": "media", "name": path}
        self._call("POST", f"/upload/storage/v1/b/{bucket}/o", uri, params=query, data=data)

    def check_location(self, uri: str, dataset: str) -> None:
        """Raise ApiError if a dataset of that location can't load from the URI's bucket: only US loads from all."""
        bucket, _ = _split(uri)
        there = self._call("GET", f"/storage/v1/b/{bucket}", uri, params={}).json().get("location", "US").upper()
        here = dataset.upper()
        families = {"US": ("US", "NORTHAMERICA"), "EU": ("EU", "EUROPE")}
        # Both are multi-regions that hold regions: a bucket in EU serves europe-west1, and the other way round.
        related = any(
            (here == multi and there.startswith(names)) or (there == multi and here.startswith(names))
            for multi, names in families.items()
        )
        if not (here in (there, "US") or related):
            message = f"Cannot read and write in different locations: source: {there}, destination: {dataset}"
            raise ApiError("invalid", message)

    def _call(self, method: str, path: str, uri: str, **how: Any) -> requests.Response:
        base = self._url if isinstance(self._url, str) else self._url()
        # Always another connection, so that nothing stays open that somebody would have to close.
        answer = requests.request(method, base + path, timeout=60, **how)
        if answer.status_code == 404:
            raise ApiError("notFound", f"Not found: URI {uri}")
        answer.raise_for_status()
        return answer


def _split(uri: str) -> tuple[str, str]:
    bucket, _, path = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket or not path:
        raise ApiError("invalid", f"Source URI must be a Google Cloud Storage location: {uri}")
    if "//" in f"/{path}":
        # The reference says that BigQuery takes no such file, but not with which words.
        raise ApiError("invalid", f"Source URI must not contain consecutive slashes: {uri}")
    return bucket, path


def read(data: bytes, where: str, config: Mapping[str, Any], fields: Sequence[Field]) -> tuple[pa.Table, list[Field]]:
    """Return the rows of a file and their fields.

    config: of the load job. fields: what the job or else the table says that they are, [] for neither. Raises ApiError
    for a file that can't be read or is of another format.
    """
    kind = config.get("sourceFormat", "CSV")
    try:
        if kind in ("CSV", "NEWLINE_DELIMITED_JSON") and data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if kind == "PARQUET":
            return _parquet(data, where, config, fields)
        if kind == "NEWLINE_DELIMITED_JSON":
            return _json_lines(data, config, fields)
        if kind == "CSV":
            return _csv(data, config, fields)
        if kind == "AVRO":
            return _avro(data, config, fields)
    except (pa.ArrowException, ValueError, OSError, EOFError, csv.Error) as error:
        raise _unreadable(f"{error}; file: {where}", where) from None
    raise unsupported(f"loading {kind}")


def _unreadable(why: str, where: str) -> ApiError:
    location = where if where.startswith("gs://") else ""
    return ApiError("invalid", f"Error while reading data, error message: {why}", location)


def _parquet(
    data: bytes, where: str, config: Mapping[str, Any], fields: Sequence[Field]
) -> tuple[pa.Table, list[Field]]:
    rows = pq.read_table(io.BytesIO(data))
    found = fields_of(rows.schema)
    if not config.get("parquetOptions", {}).get("enableListInference"):
        for each in found:
            if each["mode"] == "REPEATED":
                raise unsupported(f"lists in Parquet (field {each['name']}) without enableListInference")
    hints = {each["name"].lower(): each["type"] for each in fields}
    modes = {each["name"].lower(): each["mode"] for each in fields}
    for each, column in zip(found, rows.schema, strict=True):
        # A time without a zone is loaded as a TIMESTAMP or a DATETIME, whichever the table has.
        if hints.get(each["name"].lower()) == "DATETIME" and column.type == pa.timestamp("us"):
            each["type"] = "DATETIME"
    if not config.get("schema"):
        return rows, found
    for each in found:
        if each["name"].lower() not in hints:
            message = f"Provided schema is not compatible with the file '{where}'. Field '{each['name']}' is not in it."
            raise _unreadable(message, where)
        if hints[each["name"].lower()] != each["type"]:
            clash = f"Field '{each['name']}' has type {hints[each['name'].lower()]} in provided schema, but"
            message = f"Provided schema is not compatible with the file '{where}'. {clash} {each['type']} in the file."
            raise _unreadable(message, where)
        if (each["mode"], modes[each["name"].lower()]) == ("REQUIRED", "NULLABLE"):
            clash = f"Field '{each['name']}' is specified as NULLABLE in provided schema which does not match REQUIRED"
            message = f"Provided schema is not compatible with the file '{where}'. {clash} as specified in the file."
            raise _unreadable(message, where)
    return rows, list(fields)


def _avro(data: bytes, config: Mapping[str, Any], fields: Sequence[Field]) -> tuple[pa.Table, list[Field]]:
    try:
        reader = fastavro.reader(io.BytesIO(data))
        schema: Any = reader.writer_schema
        found = values.fields_of_avro(schema, logical=bool(config.get("useAvroLogicalTypes")))
        rows: list[dict[str, Any]] = [dict(each) for each in reader if isinstance(each, Mapping)]
    except (KeyError, IndexError, TypeError, StopIteration) as error:
        raise ValueError(f"The Apache Avro library failed to parse the file: {error}") from None
    hints = {each["name"].lower(): each for each in fields}
    for each in found:
        wanted = hints.get(each["name"].lower())
        # What Avro holds as text may be for a column of another type.
        if wanted and each["type"] in ("STRING", "DATETIME") and wanted["type"] != "RECORD":
            for row in rows:
                row[each["name"]] = values.from_json(row[each["name"]], {**wanted, "mode": each["mode"]})
            each["type"] = wanted["type"]
        if each["type"] == "DATETIME":
            for row in rows:
                if isinstance(row[each["name"]], str):
                    row[each["name"]] = values.from_json(row[each["name"]], each)
        if wanted and wanted["mode"] == "NULLABLE" and each["mode"] == "REQUIRED":
            each["mode"] = "NULLABLE"
    return pa.Table.from_pylist(rows, arrow_schema(found)), found


def _json_lines(data: bytes, config: Mapping[str, Any], fields: Sequence[Field]) -> tuple[pa.Table, list[Field]]:
    lines = [json.loads(line) for line in data.splitlines() if line.strip()]
    names = {each["name"].lower() for each in fields}
    for line in lines:
        for name in line:
            if fields and name.lower() not in names and not config.get("ignoreUnknownValues"):
                raise ValueError(f"JSON parsing error: No such field: {name}.")
    if not fields:
        rows = pa.json.read_json(io.BytesIO(data)) if lines else pa.table({})
        return rows, fields_of(rows.schema)
    columns = {}
    for each, target in zip(fields, arrow_schema(fields), strict=True):
        given = [{name.lower(): value for name, value in line.items()}.get(each["name"].lower()) for line in lines]
        columns[each["name"]] = _from_text(given, each, target, bool(config.get("ignoreUnknownValues")))
    return pa.table(columns, schema=arrow_schema(fields)), list(fields)


def _from_text(given: Sequence[Any], each: Field, target: pa.Field, unknown: bool = False) -> pa.Array:
    """Return values of JSON as a column; other values become text first, so that "12" can be a number and 12 can be
    text.
    """
    nested = each["mode"] == "REPEATED" or each["type"] in ("RECORD", "BYTES", "JSON", "BIGNUMERIC", "BOOLEAN", "TIME")
    numbers = each["type"] == "TIMESTAMP" and any(isinstance(v, int | float) for v in given)
    if nested or numbers:
        return pa.array([values.from_json(v, each, unknown=unknown) for v in given], target.type)
    texts = [None if v is None else v if isinstance(v, str) else json.dumps(v) for v in given]
    return _times(pa.array(texts, pa.string()), target.type)


def _times(texts: pa.Array, target: pa.DataType) -> pa.Array:
    """Return text as another type; a TIMESTAMP that names no zone is in UTC."""
    if pa.types.is_timestamp(target) and target.tz:
        plain = [text and re.sub(r" ?UTC$", "Z", text) for text in texts.to_pylist()]
        zoned = [text and (text if re.search(r"(Z|[+-]\d\d(:?\d\d)?)$", text[10:]) else text + "Z") for text in plain]
        texts = pa.array(zoned, pa.string())
    return texts.cast(target)


def _csv(data: bytes, config: Mapping[str, Any], fields: Sequence[Field]) -> tuple[pa.Table, list[Field]]:
    delimiter = {"\\t": "\t", "tab": "\t"}.get(config.get("fieldDelimiter", ","), config.get("fieldDelimiter", ","))
    skipped = int(config.get("skipLeadingRows") or 0)
    if config.get("encoding", "UTF-8") not in ("UTF-8", "UTF8", "ISO-8859-1"):
        raise unsupported(f"the encoding {config['encoding']}")
    if not fields:
        rows = pa.csv.read_csv(io.BytesIO(data), parse_options=pa.csv.ParseOptions(delimiter=delimiter))
        return rows, fields_of(rows.schema)
    text = data.decode("latin-1" if config.get("encoding") == "ISO-8859-1" else "utf-8")
    quote = config.get("quote", '"')
    how: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, **how) if line][skipped:]
    null = config.get("nullMarker", "")
    for number, line in enumerate(lines, skipped + 1):
        if len(line) < len(fields) and config.get("allowJaggedRows"):
            line += [null] * (len(fields) - len(line))
        if len(line) > len(fields) and config.get("ignoreUnknownValues"):
            del line[len(fields) :]
        if len(line) != len(fields):
            raise ValueError(f"CSV table references column position {len(fields) - 1}, but line {number} has {line}")
    columns = {}
    for at, (each, target) in enumerate(zip(fields, arrow_schema(fields), strict=True)):
        if each["mode"] == "REPEATED" or each["type"] == "RECORD":
            raise ValueError(f"Unsupported field type in CSV: the field {each['name']} is nested or repeated")
        texts = [line[at] for line in lines]
        # Text that is empty is NULL but in a column of text, unless another mark is said.
        given = [None if v == null and (null or each["type"] != "STRING") else v for v in texts]
        columns[each["name"]] = _from_text(given, each, target)
    return pa.table(columns, schema=arrow_schema(fields)), list(fields)


def written(rows: pa.Table, fields: Sequence[Field], config: Mapping[str, Any]) -> bytes:
    """Return rows as a file of an extract job: in the format and compression that its configuration says.

    Raises ApiError.
    """
    kind, compression = config.get("destinationFormat", "CSV"), config.get("compression", "NONE")
    allowed = {"CSV": "NONE GZIP", "NEWLINE_DELIMITED_JSON": "NONE GZIP", "AVRO": "NONE DEFLATE SNAPPY"}
    if compression not in allowed.get(kind, "NONE SNAPPY GZIP ZSTD").split():
        raise ApiError("invalid", f"Compression {compression} is not supported for {kind}.")
    if kind == "PARQUET":
        return parquet(rows, compression)
    if kind == "AVRO":
        return _avro_file(rows, fields, compression, logical=bool(config.get("useAvroLogicalTypes")))
    if kind == "CSV":
        text = _csv_file(rows, fields, config)
    elif kind == "NEWLINE_DELIMITED_JSON":
        lines = [
            json.dumps(values.to_row(row, fields), ensure_ascii=False, separators=(",", ":"))
            for row in rows.to_pylist()
        ]
        text = "".join(line + "\n" for line in lines)
    else:
        raise unsupported(f"extracting {kind}")
    return gzip.compress(text.encode(), mtime=0) if compression == "GZIP" else text.encode()


def parquet(rows: pa.Table, compression: str) -> bytes:
    """Return rows as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression=compression)
    return sink.getvalue()


def _csv_file(rows: pa.Table, fields: Sequence[Field], config: Mapping[str, Any]) -> str:
    for each in fields:
        if each["mode"] == "REPEATED" or each["type"] == "RECORD":
            raise ApiError("invalid", f"Operation cannot be performed on a nested schema. Field: {each['name']}")
    sink = io.StringIO()
    delimiter = {"\\t": "\t", "tab": "\t"}.get(config.get("fieldDelimiter", ","), config.get("fieldDelimiter", ","))
    writer = csv.writer(sink, delimiter=delimiter, lineterminator="\n")
    if str(config.get("printHeader", True)).lower() == "true":
        writer.writerow([each["name"] for each in fields])
    for row in rows.to_pylist():
        writer.writerow(
            ["" if row[each["name"]] is None else values.to_text(row[each["name"]], each) for each in fields]
        )
    return sink.getvalue()


def _avro_file(rows: pa.Table, fields: Sequence[Field], compression: str, *, logical: bool) -> bytes:
    sink = io.BytesIO()
    records = [
        {each["name"]: values.to_avro(row[each["name"]], each, logical=logical) for each in fields}
        for row in rows.to_pylist()
    ]
    codec = {"NONE": "null"}.get(compression, compression.lower())
    try:
        fastavro.writer(sink, values.avro_schema(fields, logical=logical), records, codec=codec)
    except ValueError as error:
        raise unsupported(f"Avro's compression {compression} ({error})") from None
    return sink.getvalue()
