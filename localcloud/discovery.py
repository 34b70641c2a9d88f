"""Google's discovery documents: what bq, and googleapiclient when told to, ask for to know an API's methods.

None is kept here, because the clients that ask bring them: the document is that of google-api-python-client if it is
installed, else that of the Cloud SDK's bq, with this machine's address in it. It names all of the API's methods, those
too that are refused here.
"""

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PATHS = re.compile(r"/\$discovery/rest|/discovery/v1/apis/(?P<api>\w+)/(?P<version>\w+)/rest")


def asked(path: str, query: Mapping[str, str], api: str, version: str) -> bool:
    """Return whether a request is one for a discovery document. Raises LookupError for one of another API."""
    found = _PATHS.fullmatch(path) if api else None
    wanted = found and (found["api"] or api, found["version"] or query.get("version") or version)
    if wanted and wanted != (api, version):
        raise LookupError(f"The discovery document of {' '.join(wanted)} is not of this service: {api} {version}.")
    return bool(wanted)


def document(api: str, version: str, root: str) -> Any:
    """Return the document of an API whose methods are at an address. Raises LookupError if nobody brought one."""
    for path in _files(api, version):
        found = json.loads(path.read_bytes())
        found.pop("mtlsRootUrl", None)
        return {**found, "rootUrl": root, "baseUrl": root + found["servicePath"]}
    raise LookupError(
        f"The discovery document of {api} {version} is in google-api-python-client and in the Cloud SDK, and neither "
        "is installed here."
    )


def _files(api: str, version: str) -> Iterator[Path]:
    """Yield the files of an API's document that this machine has."""
    package = importlib.util.find_spec("googleapiclient")
    for folder in (package.submodule_search_locations or ()) if package else ():
        path = Path(folder) / "discovery_cache" / "documents" / f"{api}.{version}.json"
        if path.exists():
            yield path
    if command := shutil.which("bq"):
        path = Path(command).resolve().parent.parent / "platform" / "bq" / "discovery_next" / f"{api}.json"
        if path.exists():
            yield path
