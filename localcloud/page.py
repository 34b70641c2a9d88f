"""The page of the local cloud: buckets with objects, tables with rows, Dataflow's jobs with graph, log and counters.

It shows and changes nothing, and takes nothing from elsewhere: no script, font or picture.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from urllib.parse import urlencode

from google.cloud import dataflow_v1beta3 as api

from localcloud import PROJECT
from localcloud.bigquery import BigQuery
from localcloud.bigquery_tables import Name, Table
from localcloud.dataflow import Dataflow
from localcloud.dataflow_jobs import Job
from localcloud.dataflow_views import metrics
from localcloud.page_graph import drawn
from localcloud.serving import Request, Response, Service
from localcloud.storage import Storage

#: How many objects, rows and messages a page has, and how many bytes of an object.
_MOST, _ROWS, _MESSAGES, _BYTES = 500, 100, 1000, 20_000
_HEADERS = {
    "Content-Type": "text/html; charset=UTF-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --faint: #5c6773; --line: #d9dee4; --paper: #fff; --panel: #f5f7f9;
  --link: #1558b0; --good: #1a6b3a; --bad: #a8201a; --busy: #7a4b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ed; --faint: #9aa5b1; --line: #36404b; --paper: #14181d;
  --panel: #1d232a; --link: #8ab8ff; --good: #7fd69b; --bad: #ff9a92; --busy: #f2c46d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1rem 1.25rem 3rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
h1 { font-size: 1.4rem; margin: .2rem 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
nav, .faint { color: var(--faint); } nav { overflow-wrap: anywhere; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; }
td, th { padding: .35rem .7rem; text-align: left; vertical-align: top; }
tr + tr td, thead + tbody td { border-top: 1px solid var(--line); } th { color: var(--faint); font-weight: 600;
  background: var(--panel); white-space: nowrap; } .number { text-align: right; font-variant-numeric: tabular-nums; }
.time { font-variant-numeric: tabular-nums; } td { overflow-wrap: anywhere; min-width: 5.5rem; }
td > span { white-space: nowrap; } td > a { overflow-wrap: break-word; } th.number { text-align: right; }
pre { background: var(--panel); padding: .7rem; border-radius: 6px; overflow: auto; max-height: 30rem; margin: 0;
  font: 13px/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.DONE, .DRAINED, .UPDATED { color: var(--good); } .FAILED, .ERROR { color: var(--bad); }
.RUNNING, .PENDING, .QUEUED, .CANCELLING, .DRAINING, .WARNING { color: var(--busy); }
svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
svg rect { fill: var(--panel); stroke: var(--line); }
svg path { fill: none; stroke: var(--faint); } svg marker path { fill: var(--faint); stroke: none; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; text-anchor: middle; }
"""


class NotThereError(LookupError):
    """What a page is asked for and the cloud has not."""


class Page(Service):
    """The page, for a browser on this machine."""

    name = "page"

    def __init__(self, storage: Storage, bigquery: BigQuery, dataflow: Dataflow) -> None:
        super().__init__()
        self._storage, self._bigquery, self._dataflow = storage, bigquery, dataflow
        self._pages: dict[str, Callable[[dict[str, str]], str]] = {
            "/": self._overview,
            "/bucket": self._bucket,
            "/object": self._object,
            "/table": self._table,
            "/job": self._job,
        }

    def call_of(self, request: Request) -> str:
        return request.path

    def handle(self, request: Request) -> Response:
        made = self._pages.get(request.path)
        try:
            if made is None or request.method not in ("GET", "HEAD"):
                raise NotThereError("There is no such page.")
            return Response(200, made(request.query).encode(), dict(_HEADERS))
        except NotThereError as problem:
            text = _document("Not here", f"<p>{escape(str(problem))}</p>", [])
            return Response(404, text.encode(), dict(_HEADERS))

    def _overview(self, _: dict[str, str]) -> str:
        with self._storage.lock:
            buckets = [
                (
                    _link(name, "/bucket", name=name),
                    len(bucket.objects),
                    _size(sum(len(each.data) for each in bucket.objects.values())),
                )
                for name, bucket in sorted(self._storage.store.buckets.items())
            ]
        with self._bigquery.lock:
            catalog = self._bigquery.catalog
            tables = [
                (_link(_dotted(table), "/table", name=_dotted(table)), table.rows.num_rows, _moment(table.changed))
                for table in sorted(catalog.tables.values(), key=_dotted)
            ]
            empty = [
                f"{project}.{name}"
                for project, name in sorted(catalog.datasets)
                if not any((each.project, each.dataset) == (project, name) for each in catalog.tables)
            ]
        with self._dataflow.life.changed:
            jobs = [
                (_link(job.name, "/job", id=job.id), _state(job.state), _moment(job.created), _lasted(job))
                for job in reversed(self._dataflow.jobs)
            ]
            active = any(not job.over for job in self._dataflow.jobs)
        without = f'<p class="faint">Datasets without tables: {escape(", ".join(empty))}</p>' if empty else ""
        body = (
            "<h2>Jobs</h2>"
            + _grid(["Job", "State", "Created (UTC)", "Time"], jobs, "No job yet.")
            + "<h2>Buckets</h2>"
            + _grid(["Bucket", "Objects", "Size"], buckets, "No bucket yet.")
            + "<h2>Tables</h2>"
            + _grid(["Table", "Rows", "Changed (UTC)"], tables, "No table yet.")
            + without
        )
        return _document(f"Local cloud: {PROJECT}", body, [], refresh=active)

    def _bucket(self, query: dict[str, str]) -> str:
        name, prefix = query.get("name", ""), query.get("prefix", "")
        with self._storage.lock:
            bucket = self._storage.store.buckets.get(name)
            if bucket is None:
                raise NotThereError(f"There is no bucket {name}.")
            folders: dict[str, int] = {}
            rows: list[tuple[object, ...]] = []
            for each in bucket.names:
                if not each.startswith(prefix):
                    continue
                head, slash, _ = each[len(prefix) :].partition("/")
                if slash:
                    folders[head + "/"] = folders.get(head + "/", 0) + 1
                else:
                    one = bucket.objects[each]
                    link = _link(head, "/object", bucket=name, name=each)
                    rows.append((link, _size(len(one.data)), _time(one.resource.get("updated", ""))))
        below = [
            (_link(each, "/bucket", name=name, prefix=prefix + each), f"{number} objects", "")
            for each, number in folders.items()
        ]
        shown: list[tuple[object, ...]] = [*below, *rows]
        more = f'<p class="faint">The first {_MOST} of {len(shown)}.</p>' if len(shown) > _MOST else ""
        body = _grid(["Name", "Size", "Updated (UTC)"], shown[:_MOST], "Nothing is here.") + more
        return _document(f"gs://{name}/{prefix}", body, _path(name, prefix))

    def _object(self, query: dict[str, str]) -> str:
        bucket, name = query.get("bucket", ""), query.get("name", "")
        with self._storage.lock:
            there = self._storage.store.buckets.get(bucket)
            found = there.objects.get(name) if there else None
            if found is None:
                raise NotThereError(f"There is no object gs://{bucket}/{name}.")
            about = [(key, _plain(value)) for key, value in sorted(found.resource.items())]
            size, start = len(found.data), bytes(found.data[:_BYTES])
        try:
            text = start.decode() if size <= _BYTES else start.decode(errors="ignore")
        except UnicodeDecodeError:
            text = ""
        if "\0" in text or (size and not text):
            content = f'<p class="faint">{_size(size)} that are no text.</p>'
        else:
            content = f"<pre>{escape(text)}</pre>" + (
                f'<p class="faint">The first {_size(_BYTES)} of {_size(size)}.</p>' if size > _BYTES else ""
            )
        folder = name.rpartition("/")[0]
        body = f"<h2>Content</h2>{content}<h2>Metadata</h2>" + _grid(["Field", "Value"], about, "")
        return _document(f"gs://{bucket}/{name}", body, _path(bucket, folder + "/" if folder else ""))

    def _table(self, query: dict[str, str]) -> str:
        whole = query.get("name", "")
        project, _, rest = whole.partition(".")
        dataset, _, name = rest.partition(".")
        with self._bigquery.lock:
            table = self._bigquery.catalog.tables.get(Name(project, dataset, name))
            if table is None:
                raise NotThereError(f"There is no table {whole}.")
            number, rows = table.rows.num_rows, table.rows.slice(0, _ROWS).to_pylist()
            columns = [(each["name"], each["type"], each.get("mode", "")) for each in table.fields]
            view = table.about.get("view", {}).get("query", "")
        names = [each[0] for each in columns]
        body = f"<h2>Columns</h2>{_grid(['Name', 'Type', 'Mode'], columns, 'No columns.')}"
        if view:
            body += f"<h2>Query</h2><pre>{escape(view)}</pre>"
        else:
            body += f"<h2>Rows</h2>{_grid(names, [[_plain(row[each]) for each in names] for row in rows], 'No rows.')}"
            if number > _ROWS:
                body += f'<p class="faint">The first {_ROWS} of {number}.</p>'
        return _document(whole, body, [])

    def _job(self, query: dict[str, str]) -> str:
        with self._dataflow.life.changed:
            job = next((each for each in self._dataflow.jobs if each.id == query.get("id")), None)
            if job is None:
                raise NotThereError(f"There is no job {query.get('id', '')}.")
            counters = [
                (escape(step), escape(name), str(value))
                for step, name, value in sorted(_counters(metrics(job)), key=lambda each: each[:2])
            ]
            said = [
                (
                    _time(each.time),
                    _coloured(each.importance.removeprefix("JOB_MESSAGE_")),
                    f"<pre>{escape(each.text)}</pre>" if "\n" in each.text else escape(each.text),
                )
                for each in job.messages[-_MESSAGES:]
            ]
            about = [
                ("State", _state(job.state)),
                ("Id", escape(job.id)),
                ("Project and region", escape(f"{job.project}, {job.location}")),
                ("Kind", "streaming" if job.streaming else "batch"),
                ("Created (UTC)", _moment(job.created)),
                ("Time", _lasted(job)),
            ]
            stages = [
                (escape(each.id), escape(", ".join(each.transforms)), _time(each.started), _time(each.ended))
                for each in job.stages
            ]
            graph, over, name = drawn(job.graph), job.over, job.name
        body = (
            _grid([], about, "", raw=True)
            + f"<h2>Graph</h2>{graph or '<p class=faint>Its graph is not known.</p>'}"
            + "<h2>Counters</h2>"
            + _grid(["Step", "Counter", "Value"], counters, "No counters.", raw=True)
            + "<h2>Log</h2>"
            + _grid(["Time (UTC)", "", "Message"], said, "It said nothing yet.", raw=True)
            + "<h2>Stages</h2>"
            + _grid(["Stage", "Transforms", "Started (UTC)", "Ended (UTC)"], stages, "None was executed.", raw=True)
        )
        return _document(name, body, [], refresh=not over)


class _Html(str):
    """Text that is HTML already."""


def _document(title: str, body: str, path: Sequence[str], *, refresh: bool = False) -> str:
    again = '<meta http-equiv="refresh" content="3">' if refresh else ""
    home = "" if title.startswith("Local cloud") else f"<nav>{' / '.join([_link('Local cloud', '/'), *path])}</nav>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{again}'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{home}<main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )


def _grid(names: Sequence[str], rows: Iterable[Sequence[object]], empty: str, *, raw: bool = False) -> str:
    """Return a table; raw: its cells are HTML. Numbers stand at the right."""
    lines, numbers = [], set[int]()
    for row in rows:
        numbers |= {place for place, cell in enumerate(row) if isinstance(cell, int)}
        cells = [
            f'<td class="number">{cell:,}</td>'
            if isinstance(cell, int)
            else f"<td>{cell if raw or isinstance(cell, _Html) else escape(str(cell))}</td>"
            for cell in row
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    if not lines:
        return f'<p class="faint">{escape(empty)}</p>'
    head = "".join(
        f"<th{' class=number' if place in numbers else ''}>{escape(name)}</th>" for place, name in enumerate(names)
    )
    return (
        '<div class="wide"><table>'
        + (f"<thead><tr>{head}</tr></thead>" if names else "")
        + f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _link(text: str, path: str, **query: str) -> _Html:
    target = path + (f"?{urlencode(query)}" if query else "")
    return _Html(f'<a href="{escape(target)}">{escape(text)}</a>')


def _path(bucket: str, prefix: str) -> list[str]:
    """Return links to a bucket and to each folder on the way."""
    links: list[str] = [_link(bucket, "/bucket", name=bucket)]
    so_far = ""
    for part in prefix.split("/")[:-1]:
        so_far += part + "/"
        links.append(_link(part or "(empty)", "/bucket", name=bucket, prefix=so_far))
    return links


def _counters(found: "api.JobMetrics") -> Iterable[tuple[str, str, object]]:
    """Yield the counters of a job that its own code counts: step, name, value."""
    for each in found.metrics:
        context = dict(each.name.context)
        if each.name.origin == "user" and "tentative" not in context:
            yield context.get("step", ""), each.name.name, _number(each)


def _number(update: "api.MetricUpdate") -> object:
    value = update.distribution if update.distribution is not None else update.scalar
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return ", ".join(f"{key} {value[key]:g}" for key in sorted(value)) if hasattr(value, "keys") else value


def _coloured(word: str) -> _Html:
    return _Html(f'<span class="{escape(word)}">{escape(word.lower())}</span>')


def _state(state: str) -> _Html:
    return _coloured(state.removeprefix("JOB_STATE_"))


def _moment(value: float | datetime) -> _Html:
    return _time(datetime.fromtimestamp(value, UTC) if isinstance(value, float | int) else value)


def _time(value: datetime | str | None) -> _Html:
    """Return a time, to seconds."""
    text = value.isoformat() if isinstance(value, datetime) else value or ""
    return _Html(f'<span class="time">{escape(text[:19].replace("T", " "))}</span>')


def _lasted(job: Job) -> _Html:
    if not job.over:
        return _Html("")
    return _Html(f"{(job.entered - job.created).total_seconds():.1f} s")


def _dotted(table: Table) -> str:
    return f"{table.name.project}.{table.name.dataset}.{table.name.table}"


def _plain(value: object) -> str:
    return "" if value is None else str(value)


def _size(number: int) -> str:
    """Return a number of bytes as people read it."""
    power = max(0, min(4, (len(str(number)) - 1) // 3))
    return f"{number} B" if not power else f"{number / 1000**power:.1f} {' kMGT'[power]}B"
