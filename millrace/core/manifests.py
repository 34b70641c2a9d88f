"""The manifest: what makes an attempt's files a partition. It is the completeness contract and the lineage."""

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.common.results import File
from millrace.core import values
from millrace.core.storage import Storage, crc32c, read_all
from millrace.core.values import Value
from millrace.errors import Command, DamagedError, ManifestError

NAME = "_MANIFEST.json"
FORMAT = 1


#: A file as its pipeline told of it, but for the path, which is relative to the storage.
FileEntry = File


@dataclass(frozen=True)
class InputEntry:
    """A partition that was read: its path in the storage and the SHA-256 (hex) of its manifest."""

    partition: str
    digest: str


@dataclass(frozen=True)
class Manifest:
    """A partition's manifest.

    attempt: the execution whose files count. files: all of them, those of further datasets of the same task too.
    schemas: table → column → Arrow type. settings: what the partition was made with; a run with other settings must not
    take the partition for its own. options: what the pipeline was given. started, ended: UTC, ISO 8601. counters: name
    → records.
    code: stage → the code that made this and all that it is built on, one or, of several, two (code.py, staleness.py).
    versions: what the result was made of that no stage made → a digest of what that was like.
    usage: what a Dataflow job used, in hours and GB, and an estimate of what that cost in US dollars.
    value: what the task hands to others beside files, None where there is none.
    """

    partition: str
    attempt: str
    files: Sequence[FileEntry]
    schemas: Mapping[str, Mapping[str, str]]
    inputs: Sequence[InputEntry]
    pipeline: str
    code_version: str
    settings: Mapping[str, str]
    options: Mapping[str, str]
    runner: str
    job_id: str | None
    started: str
    ended: str
    counters: Mapping[str, int] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    code: Mapping[str, Sequence[str]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    value: Value | None = None
    format: int = FORMAT

    @property
    def seconds(self) -> float:
        """Seconds from the attempt's start to its end."""
        started, ended = map(datetime.datetime.fromisoformat, (self.started, self.ended))
        return (ended - started).total_seconds()

    def rows(self, table: str) -> int:
        """Return the rows of a table, over its files."""
        return sum(file.rows for file in self.files if file.table == table)

    def files_of(self, table: str) -> list[FileEntry]:
        """Return the files of a table."""
        return [file for file in self.files if file.table == table]

    def files_in(self, partition: str) -> list[FileEntry]:
        """Return the files that lie in a partition: the manifest's own, or one of a further dataset."""
        return [file for file in self.files if file.path.startswith(f"{partition}/")]

    def to_json(self) -> bytes:
        """Return the manifest as it is written, with the checksum of all that it says."""
        value = dataclasses.asdict(self)
        if self.value is None:  # so that earlier versions can read what has none
            del value["value"]
        return json.dumps({**value, "checksum": _checksum(value)}, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, path: str) -> "Manifest":
        """Read what `to_json` wrote. Raises ManifestError, naming the path; DamagedError for what says something else.

        Manifests of earlier versions have no checksum.
        """
        try:
            value: dict[str, Any] = json.loads(data)
            written = value.get("format", FORMAT) if isinstance(value, dict) else FORMAT
            if written != FORMAT:
                raise ManifestError(f"{path} has format {written}; this Millrace reads {FORMAT}")
            if (noted := value.pop("checksum", None)) and noted != (found := _checksum(value)):
                raise DamagedError(
                    f"{path} is damaged: its checksum is {found}, but it was written with {noted}",
                    Command("clear", [path.removesuffix(f"/{NAME}")]),
                    mend="make its partition anew: {0}, then run again",
                )
            if path.endswith(f"/{NAME}") and not f"/{path}".endswith(f"/{value['partition']}/{NAME}"):
                raise ManifestError(
                    f"{path} is the manifest of {value['partition']}, so that its folder is a copy of that one, or a "
                    "link to it: take it away, then run again"
                )
            value["files"] = [FileEntry(**entry) for entry in value["files"]]
            value["inputs"] = [InputEntry(**entry) for entry in value["inputs"]]
            value["value"] = values.read(value["value"], path) if "value" in value else None
            return cls(**value)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            forget = Command("clear", [path.removesuffix(f"/{NAME}")])
            raise ManifestError(
                f"{path} is no manifest ({error})", forget, mend="delete its partition with {0}"
            ) from None


def _checksum(value: Mapping[str, Any]) -> str:
    """Return the CRC-32C of a manifest's values, however they are laid out."""
    return crc32c(json.dumps(value, sort_keys=True).encode())


def digest(data: bytes) -> str:
    """Return the SHA-256 of a manifest's bytes, as hex."""
    return hashlib.sha256(data).hexdigest()


def read(storage: Storage, paths: Sequence[str]) -> Iterator[tuple[str, "Manifest | ManifestError"]]:
    """Yield the manifests at some paths by their partitions; the error that says what is wrong with one in its place.

    Where none is left, none is yielded.
    """
    for path, found in zip(paths, read_all(storage, paths), strict=True):
        if found:
            try:
                manifest: Manifest | ManifestError = Manifest.from_json(found.data, storage.uri(path))
            except ManifestError as error:
                manifest = error
            yield path.rpartition("/")[0], manifest
