"""Preconditions: of generations and metagenerations in the query, of ETags in the headers."""

from collections.abc import Mapping
from typing import Any

from localcloud.serving import Request
from localcloud.storage.state import Object, RefusedError

_FAILED = "At least one of the pre-conditions you specified did not hold."


def check(query: Mapping[str, Any], there: Object | None, *, reading: bool = False) -> None:
    """Refuse a call whose preconditions don't hold. "0" is the generation of what is not there."""
    generation = there.generation if there else "0"
    metageneration = there.metageneration if there else ""
    if str(query.get("ifGenerationMatch", generation)) != generation:
        raise RefusedError(412, _FAILED)
    # "If no live object exists, the precondition fails", whatever the generation that must not be there.
    if "ifGenerationNotMatch" in query and (not there or str(query["ifGenerationNotMatch"]) == generation):
        raise RefusedError(304 if reading else 412, _FAILED)
    check_metageneration(query, metageneration, reading=reading)


def check_metageneration(query: Mapping[str, Any], metageneration: str, *, reading: bool = False) -> None:
    """Refuse a call whose preconditions on a metageneration don't hold."""
    if str(query.get("ifMetagenerationMatch", metageneration)) != metageneration:
        raise RefusedError(412, _FAILED)
    if "ifMetagenerationNotMatch" in query:
        unwanted = str(query["ifMetagenerationNotMatch"])
        if not metageneration or unwanted == metageneration:
            raise RefusedError(304 if reading else 412, _FAILED)


def check_source(query: Mapping[str, Any], source: Object) -> None:
    """Refuse a copy whose preconditions on its source don't hold."""
    check({"if" + key.removeprefix("ifSource"): query[key] for key in query if key.startswith("ifSource")}, source)


def check_etag(request: Request, etag: str, *, reading: bool = False) -> None:
    """Refuse a call whose If-Match or If-None-Match does not hold."""
    wanted, unwanted = (_tags(request.headers.get_all(name, [])) for name in ("If-Match", "If-None-Match"))
    if wanted and not wanted & {etag, "*"}:
        raise RefusedError(412, _FAILED)
    if unwanted & {etag, "*"}:
        raise RefusedError(304 if reading else 412, _FAILED, headers={"ETag": etag})


def _tags(headers: list[str]) -> set[str]:
    found = (each.strip().removeprefix("W/").strip('"') for header in headers for each in header.split(","))
    return {each for each in found if each}
