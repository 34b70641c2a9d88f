"""Writes docs/localcloud-api.md: each method of Google's APIs, and whether the local cloud serves it.

The methods are those of the discovery documents that google-api-python-client brings. Whether a method is served says
the service itself, which is asked what it takes a request of that method for: `python docs/localcloud_api.py`.
"""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import Any

from localcloud.bigquery import BigQuery
from localcloud.dataflow import Dataflow
from localcloud.serving import Request, Service
from localcloud.storage import Storage

PAGE = Path(__file__).parent / "localcloud-api.md"
APIS: Mapping[str, type[Service]] = {"Cloud Storage": Storage, "BigQuery": BigQuery, "Dataflow": Dataflow}
_HEAD = """\
# The local cloud, method by method

What [the local cloud](localcloud.md) serves of each API: every method that Google's discovery document of it names.
This page is made by `docs/localcloud_api.py` from what the services themselves say of a request, and a test fails when
it differs. What is not served is refused with status 501, or 400 where a method is served in part; its message
names it.
"""
Row = tuple[str, str, str]


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for title, service in APIS.items():
        found = list(rows(service, _document(*service.api)))
        counts = ", ".join(f"{sum(row[1] == kind for row in found)} {kind}" for kind in ("served", "partly", "refused"))
        lines = [f"| `{name}` | {kind} | {note} |" for name, kind, note in found]
        table = "\n".join(["| Method | | |", "|---|---|---|", *lines])
        parts.append(f"## {title} {service.api[1]}\n\n{counts} of {len(found)}.\n\n{table}\n")
    return "\n".join(parts)


def rows(kind: type[Service], document: Mapping[str, Any]) -> Iterator[Row]:
    """Yield each method of an API: its name, "served", "partly" or "refused", and what there is to say of it."""
    service = object.__new__(kind)  # which call a request is depends on the class alone
    for name, method in sorted(_methods(document)):
        call = next((call for request in _requests(document, method) if (call := _call(service, request))), "")
        why = next((text for begin, text in kind.refused.items() if call.startswith(begin)), "") if call else ""
        partly = kind.partly.get(call, "")
        if why or not call:
            yield name, "refused", f"It has no {why}." if why else ""
        else:
            yield name, "partly" if partly else "served", partly


def _document(api: str, version: str) -> Any:
    package = importlib.util.find_spec("googleapiclient")
    if package is None or not package.origin:
        raise RuntimeError("google-api-python-client is not installed; it has the discovery documents")
    folder = Path(package.origin).parent / "discovery_cache" / "documents"
    return json.loads((folder / f"{api}.{version}.json").read_bytes())


def _methods(resource: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for method in resource.get("methods", {}).values():
        yield method["id"].partition(".")[2], method
    for below in resource.get("resources", {}).values():
        yield from _methods(below)


def _requests(document: Mapping[str, Any], method: Mapping[str, Any]) -> Iterator[Request]:
    """Yield a request of a method, and one that uploads where the method takes one."""
    paths = ["/" + document["servicePath"] + (method.get("flatPath") or method["path"])]
    paths += [each["path"] for each in method.get("mediaUpload", {}).get("protocols", {}).values()]
    for path in paths:
        # A variable stands for one name, or, as in {+name}, for several.
        target = re.sub(r"\{\+?(\w+)\}", "name", path)
        yield Request.of(method["httpMethod"], target, Message(), b"")


def _call(service: Service, request: Request) -> str:
    call = service.call_of(request)
    return "" if call == "unknown" else call


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(page(), end="")
    else:
        PAGE.write_text(page(), encoding="utf-8")
