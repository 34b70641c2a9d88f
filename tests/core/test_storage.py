"""What LocalStorage alone does; what it has in common with GcsStorage is in tests/contract."""

import os
from pathlib import Path

import pytest

from millrace.core import damage
from millrace.core.manifests import FileEntry
from millrace.core.storage import LocalStorage, Storage, crc32c, readable
from millrace.errors import AccessError, ConflictError, DamagedError, SettingError


@pytest.fixture(params=["local", "gcs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A storage of each kind."""
    if request.param == "local":
        return LocalStorage(str(tmp_path / "root"))
    return request.getfixturevalue("gcs")  # type: ignore[no-any-return]


def test_an_empty_folder_has_a_name(tmp_path: Path) -> None:
    """What a process made that died before it wrote a file there can be found, and so cleared."""
    storage = LocalStorage(str(tmp_path))
    storage.create("d/a", b"")
    (tmp_path / "d/attempt").mkdir()
    (tmp_path / "d/.a.tmp").write_bytes(b"half")
    assert storage.names("d") == {"a", "attempt"}


def test_a_temporary_file_is_not_shown(tmp_path: Path) -> None:
    """list does not give what a dead process was about to write."""
    storage = LocalStorage(str(tmp_path))
    for name in (".hidden", "a", "b.tmp"):
        storage.create(f"d/{name}", b"")
    (tmp_path / "d/.a.tmp").write_bytes(b"half")
    assert list(storage.list("d")) == ["d/.hidden", "d/a", "d/b.tmp"]


def test_what_a_dead_writer_left_is_taken_over(tmp_path: Path) -> None:
    """Half a file that a dead process left beside a file's place is gone when the file is written."""
    storage = LocalStorage(str(tmp_path / "root"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/.f.tmp").write_bytes(b"half of something long")
    storage.create("f", b"all")
    assert os.listdir(tmp_path / "root") == ["f"]
    assert (tmp_path / "root/f").read_bytes() == b"all"


@pytest.mark.parametrize(("umask", "mode"), [(0o007, "0o660"), (0o022, "0o644"), (0, "0o666")])
def test_others_may_do_what_the_umask_lets_them(tmp_path: Path, umask: int, mode: str) -> None:
    """Files and locks have the modes that the user's umask leaves, so that a group can work in one storage."""
    storage = LocalStorage(str(tmp_path))
    before = os.umask(umask)
    try:
        storage.create("d/a", b"")
        storage.replace("d/b", b"")
        with storage.lock("d/c.lock"):
            pass
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "d").iterdir()} == dict.fromkeys(
        ("a", "b", "c.lock"), mode
    )


def test_no_link_is_locked_or_written_through(tmp_path: Path) -> None:
    """A link where a lock or half a file would be is not followed: what it leads to stays as it is."""
    storage = LocalStorage(str(tmp_path / "root"))
    (tmp_path / "root").mkdir()
    (tmp_path / "other").write_bytes(b"other")
    for name in ("a.lock", ".f.tmp", "c"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "other")
    with pytest.raises(SettingError, match="can't be written"), storage.lock("a.lock"):
        pass
    with pytest.raises(ConflictError):
        storage.create("c", b"mine")
    storage.create("f", b"mine")
    assert not (tmp_path / "root/f").is_symlink()
    assert (tmp_path / "other").read_bytes() == b"other"


def test_what_can_t_be_read_is_named(tmp_path: Path) -> None:
    """The error has the path, the system's reason and what mends it, whether the system names the path or not."""
    storage = LocalStorage(str(tmp_path))
    storage.create("d/a", b"")
    with pytest.raises(AccessError, match=f"^{tmp_path}/d can't be read: Is a directory; let this user read it"):
        storage.read("d")
    with pytest.raises(AccessError, match=f"^{tmp_path}/d can't be read: no reason"), readable(storage.uri("d")):
        raise OSError(5, "no reason")


def test_place_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path) -> None:
    """Where the storage can't be written, the error says where, why and which setting to change."""
    (tmp_path / "file").write_bytes(b"")
    storage = LocalStorage(str(tmp_path / "file"))
    with pytest.raises(SettingError, match=r"storage '.*/file' can't be written: .*--millrace-storage"):
        storage.create("a", b"")
    with pytest.raises(SettingError, match="can't be written"), storage.lock("a.lock"):
        pass
    with pytest.raises(SettingError, match=rf"can't be written: Not a directory \({tmp_path}/file/a\); set storage"):
        storage.create("a/b/c", b"")


def test_checksum_is_crc32c() -> None:
    """The checksum is CRC-32C (RFC 3720 gives 8a9136aa for 32 zero bytes), as Cloud Storage has it."""
    assert crc32c(bytes(32)) == "8a9136aa"


def test_files_are_as_a_manifest_says_or_are_told_of(storage: Storage) -> None:
    """What was replaced or has gone since it was written is told of, wherever it lies, with what makes it anew."""
    files = [FileEntry(f"d/date=2026-11-01/{name}", "d", 0, 32, "8a9136aa") for name in ("same", "other", "gone")]
    for file in files:
        storage.create(file.path, bytes(32))
    damage.check(storage, "d/date=2026-11-01", files)
    storage.replace(files[1].path, bytes(31) + b"\1")
    storage.delete(files[2].path)
    damage.check(storage, "d/date=2026-11-01", files[:1])
    mend = r"; make partition d/date=2026-11-01 anew: bin/clear d/date=2026-11-01.*, then run again"
    for file, what in zip(files[1:], ("is damaged: it has 32 bytes", "was written, but is not there"), strict=True):
        with pytest.raises(DamagedError, match=f"^{storage.uri(file.path)} {what}.*{mend}"):
            damage.check(storage, "d/date=2026-11-01", [file])
