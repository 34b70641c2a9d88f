"""A source's name leads to its files and their bytes, or to an error that says what is wrong."""

import bz2
import dataclasses
import datetime
import glob
import gzip
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from http_source import Reply, Server, serving

from localcloud.storage import Storage
from millrace.beam import gcs
from millrace.beam.sources import downloads
from millrace.beam.sources import named as sources
from millrace.errors import SourceBusyError, SourceError
from pipelines.posts import sample
from pipelines.posts.sources import SAMPLE

DATE = datetime.date(2017, 8, 27)
TEXT = b"one\ntwo\n" * 1000
MAX = 1 << 20
GENERATED = {SAMPLE: sample.lines}


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "zstd": zstd,
}
#: Bytes that don't compress, so that a cut lies where it should.
NOISE = random.Random(1).randbytes(300_000)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, asked at most three times, without pauses."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before = downloads.set_patience(downloads.Patience(attempts=3, pause=0))
    try:
        with serving() as running:
            yield running
    finally:
        downloads.set_patience(before)


def read(uri: str, max_bytes: int = MAX) -> bytes:
    with sources.open_uri(uri, max_bytes, generated=GENERATED) as stream:
        return b"".join(iter(lambda: stream.read(999), b""))


# ----------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "source",
    [
        "sample://",
        "a/b.jsonl",
        "/a/*.gz",
        "~/x.jsonl",
        "file:///a/b",
        "HTTP://a.example/x",
        "gs://bucket/archive/*.jsonl",
        "gs://bucket-{date:%Y}/posts-{date:%Y-%m-%d}.jsonl.gz",
        "https://a.example/{date:%Y/%m/%d}",
        "posts-{date:%Y-%m-%d}.jsonl.gz",
        "{date}",
        "posts-{date:%j}.jsonl",
        "x-{date.day}",
    ],
)
def test_what_can_be_a_source_is_let_through(source: str) -> None:
    sources.check(source, GENERATED)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("s3://b/x", "has the scheme s3://; allowed are sample://, a path or glob, file://, gs://, http(s)://"),
        ("gs://bucket", "names no object of Cloud Storage; write gs://bucket/object"),
        ("gs://bucket/", "names no object of Cloud Storage"),
        ("gs://*/x", "names no object of Cloud Storage"),
        ("gs://b/posts-{day}.jsonl", "a field is written {date:%Y-%m-%d}"),
        ("ftp://a.example/x", "ftp://"),
        ("sample://more", "the built-in sample is called sample://"),
        ("posts-{day}.jsonl", "a field is written {date:%Y-%m-%d}"),
        ("posts-{}.jsonl", "a field is written {date:%Y-%m-%d}"),
        ("posts-{date.nothing}.jsonl", "a field is written {date:%Y-%m-%d}"),
        ("posts-{date", "a field is written {date:%Y-%m-%d}"),
        ("posts-}.jsonl", "a field is written {date:%Y-%m-%d}"),
        ("posts-{date:always}.jsonl", "its field gives every day the same name"),
    ],
)
def test_what_can_be_no_source_is_refused_with_the_reason(source: str, reason: str) -> None:
    """The message names the source, and what is allowed."""
    with pytest.raises(SourceError, match=re.escape(repr(source)) + ".*" + re.escape(reason)):
        sources.check(source, GENERATED)


def test_a_source_that_another_workflow_generates_is_refused() -> None:
    with pytest.raises(SourceError, match=r"has the scheme sample://; allowed are a path or glob, file://"):
        sources.check("sample://")


def test_a_source_without_a_field_is_an_archive() -> None:
    assert sources.is_archive("posts.jsonl")
    assert sources.is_archive("http://a.example/x.gz")
    assert not sources.is_archive("posts-{date:%Y}.jsonl")
    assert not sources.is_archive("sample://")


def test_a_key_is_safe_in_a_path_and_tells_sources_apart() -> None:
    names = [
        "a/posts.jsonl",
        "b/posts.jsonl",
        "sample://",
        "http://a.example/?q=1",
        "*",
        "x" * 300,
        "ü/…",
        "a/posts.jsonl/",
    ]
    keys = [sources.key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,60}", key) for key in keys)
    assert keys[0].startswith("posts-jsonl-")
    assert keys == [sources.key(name) for name in names]


# ----------------------------------------------------------------------------------------------------------- paths


def test_paths_globs_and_file_uris_lead_to_files_in_order(tmp_path: Path) -> None:
    """Folders are no files; ** goes down; a name with a glob's characters is found as it stands."""
    (tmp_path / "sub" / "folder.jsonl").mkdir(parents=True)
    for name in ("b.jsonl", "a.jsonl", "sub/c.jsonl", "with space.txt", "[x].txt"):
        (tmp_path / name).write_bytes(TEXT)

    def found(source: str) -> list[str]:
        return [os.path.relpath(path, tmp_path) for path in sources.resolve(source, None)]

    assert found(f"{tmp_path}/a.jsonl") == ["a.jsonl"]
    assert found(f"{tmp_path}/*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert found(f"{tmp_path}/**/*.jsonl") == ["a.jsonl", "b.jsonl", "sub/c.jsonl"]
    assert found(f"file://{tmp_path}/*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert found(f"file://{tmp_path}/with%20space.txt") == ["with space.txt"]
    assert found(f"{tmp_path}/[x].txt") == ["[x].txt"]
    assert found(f"{tmp_path}/none-*") == found(f"{tmp_path}/none") == found(f"{tmp_path}") == []


PATTERNS = [
    *("*", "?.x", "[!a].x", ".*", "*/*", "*/*.x", ".*/*", "*/.*", "one/*", "one//*.x", "one/b.x/*", "none/*"),
    *("*/two/*", "*/two/d.x", "one/*/d.x", "*/two/none", "[1]/*", "*/*/*", "**", "**/*.x", "**/**/*.x", "one/**"),
    *("[[]1]/*", "**/two/*", "**/two/d.x", "**/.c", "*/**/*.x", "one/b.x/**"),
]


@pytest.mark.parametrize("where", ["absolute", "relative"])
def test_a_pattern_means_what_pythons_glob_says(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders in the middle of it, hidden files and all."""
    for name in ("a.x", ".h.x", "one/b.x", "one/.c", "one/two/d.x", "one/two/e.y", "[1]/f.x", ".g/i.x", "3/two/j.x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    below = f"{tmp_path}/" if where == "absolute" else ""
    for pattern in PATTERNS:
        globbed = {path for path in glob.glob(below + pattern, recursive=True) if os.path.isfile(path)}
        found = sources.resolve(below + pattern, None)
        assert [*map(os.path.normpath, found)] == sorted(map(os.path.normpath, globbed)), pattern


def test_a_strftime_field_selects_the_days_file(tmp_path: Path) -> None:
    for day in (26, 27):
        (tmp_path / f"posts-2017-08-{day}.jsonl").write_bytes(b"%d" % day)
    source = f"{tmp_path}/posts-{{date:%Y-%m-%d}}.jsonl"
    assert [read(uri) for uri in sources.resolve(source, DATE)] == [b"27"]
    assert sources.resolve(source, DATE + datetime.timedelta(days=1)) == []
    assert sources.resolve(f"{tmp_path}/posts-{{date:%Y}}-*{{date:%d}}*", DATE) == sources.resolve(source, DATE)


def test_the_sample_is_a_source_of_any_day() -> None:
    (uri,) = sources.resolve("sample://", DATE)
    assert read(uri, 1 << 30).count(b"\n") > 1000
    assert read(uri, 1 << 30) == read(uri, 1 << 30)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("name", ["posts.jsonl", "posts.gz", "posts"])
def test_compression_is_told_by_content_not_by_name(compression: str, name: str, tmp_path: Path) -> None:
    for data in (TEXT, b"", b"x", NOISE):
        (tmp_path / name).write_bytes(COMPRESSIONS[compression](data))
        assert read(f"{tmp_path}/{name}") == data


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_files_put_together_are_read_to_their_end(compression: str, tmp_path: Path) -> None:
    """`cat a.gz b.gz` is a gzip file; the same goes for the others."""
    compress = COMPRESSIONS[compression]
    (tmp_path / "x").write_bytes(compress(TEXT) + compress(NOISE) + compress(TEXT))
    assert read(f"{tmp_path}/x") == TEXT + NOISE + TEXT


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "zstd"])
@pytest.mark.parametrize("cut", [5, 1000, 200_000, -1])
def test_a_compressed_file_that_breaks_off_is_an_error_that_names_it(
    compression: str, cut: int, tmp_path: Path
) -> None:
    """And never just a shorter file."""
    (tmp_path / "posts.x").write_bytes(COMPRESSIONS[compression](NOISE)[:cut])
    with pytest.raises(SourceError, match=re.escape(f"source {tmp_path}/posts.x is broken")):
        read(f"{tmp_path}/posts.x")


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "zstd"])
def test_a_damaged_file_is_an_error_that_names_it(compression: str, tmp_path: Path) -> None:
    data = bytearray(COMPRESSIONS[compression](TEXT * 50))
    data[len(data) // 2] ^= 0xFF
    data[20:30] = bytes(10)
    (tmp_path / "posts.x").write_bytes(data)
    with pytest.raises(SourceError, match=re.escape(f"source {tmp_path}/posts.x is broken")):
        read(f"{tmp_path}/posts.x")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_file_of_exactly_the_bound_is_read_and_one_byte_more_is_an_error(compression: str, tmp_path: Path) -> None:
    """The bound is on what comes out, so a small file can be too large."""
    (tmp_path / "x").write_bytes(COMPRESSIONS[compression](bytes(MAX)))
    assert len(read(f"{tmp_path}/x", MAX)) == MAX
    (tmp_path / "x").write_bytes(COMPRESSIONS[compression](bytes(MAX + 1)))
    with pytest.raises(SourceError, match=r"more than 1,048,576 bytes; raise the setting max_source_bytes"):
        read(f"{tmp_path}/x", MAX)


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "zstd"])
def test_a_bomb_is_defused(compression: str, tmp_path: Path) -> None:
    """64 MiB of zeros, read at once and bounded to 1 MiB."""
    (tmp_path / "x").write_bytes(COMPRESSIONS[compression](bytes(64 << 20)))
    with (
        pytest.raises(SourceError, match="more than 1,048,576 bytes"),
        sources.open_uri(f"{tmp_path}/x", MAX) as stream,
    ):
        stream.read()


def test_a_file_that_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=re.escape(f"source {tmp_path}/x can't be read: No such file")):
        read(f"{tmp_path}/x")


def test_a_version_changes_when_the_archive_does(tmp_path: Path) -> None:
    """Grown, rewritten at the same length, or another file more; "" when there is none."""
    source = f"{tmp_path}/*.jsonl"
    assert sources.version(source) == ""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\n")
    os.utime(path, ns=(1, 1))
    versions = [sources.version(source)]
    assert sources.version(source) == versions[0]
    path.write_bytes(b"one\ntwo\n")
    os.utime(path, ns=(1, 1))
    versions.append(sources.version(source))
    os.utime(path, ns=(1, 2))
    versions.append(sources.version(source))
    (tmp_path / "b.jsonl").write_bytes(b"")
    versions.append(sources.version(source))
    assert len({*versions, ""}) == 5


# ------------------------------------------------------------------------------------------------------------ HTTP


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_http_is_downloaded_and_decompressed(compression: str, server: Server) -> None:
    url = server.reply("/posts", Reply(body=COMPRESSIONS[compression](TEXT)))
    assert sources.resolve(url, None) == [url]
    assert read(url) == TEXT


def test_an_encoding_of_the_transfer_is_not_one_of_the_file(server: Server) -> None:
    headers = {"Content-Encoding": "gzip"}
    assert read(server.reply("/plain", Reply(body=gzip.compress(TEXT), headers=headers))) == TEXT
    assert read(server.reply("/twice", Reply(body=gzip.compress(gzip.compress(TEXT)), headers=headers))) == TEXT


def test_the_day_is_put_into_a_url(server: Server) -> None:
    server.reply("/2017/08/27.jsonl", Reply(body=TEXT))
    source = server.url + "/{date:%Y/%m/%d}.jsonl"
    assert [read(uri) for uri in sources.resolve(source, DATE)] == [TEXT]


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_no_error(status: int, server: Server) -> None:
    """It may come later: nothing is found, and nothing is tried again."""
    url = server.reply("/none", Reply(status))
    assert sources.resolve(url, DATE) == []
    assert sources.version(url) == ""
    assert len(server.asked) == 2


def test_what_goes_between_look_up_and_download_is_an_error(server: Server) -> None:
    url = server.reply("/gone", Reply(404), head=[Reply()])
    assert sources.resolve(url, DATE) == [url]
    with pytest.raises(SourceError, match="has gone"):
        read(url)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_is_an_error_at_once(status: int, server: Server) -> None:
    url = server.reply("/mine", Reply(status))
    for action in (lambda: sources.resolve(url, DATE), lambda: read(url)):
        with pytest.raises(SourceError, match=f"source {url} answers {status} .*may this machine read it"):
            action()
    assert server.count("GET /mine") <= 2


@pytest.mark.parametrize("status", [403, 405, 501])
def test_a_server_that_answers_only_get_will_do(status: int, server: Server) -> None:
    url = server.reply("/posts", Reply(body=TEXT), head=[Reply(status)])
    assert sources.resolve(url, DATE) == [url]
    assert read(url) == TEXT


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(status: int, server: Server) -> None:
    url = server.reply("/busy", Reply(status), Reply(status), Reply(body=TEXT), head=[Reply(status), Reply()])
    assert sources.resolve(url, DATE) == [url]
    assert read(url) == TEXT
    assert server.count("GET /busy") == 3


def test_a_server_that_stays_busy_is_given_up(server: Server) -> None:
    """After as many times as patience lasts, with an error that a later run may not meet."""
    url = server.reply("/busy", Reply(503))
    with pytest.raises(SourceBusyError, match=f"source {url} answers 503 Service Unavailable"):
        read(url)
    assert server.count("GET /busy") == 3
    with pytest.raises(SourceBusyError):
        sources.resolve(url, DATE)


CHUNKED = {"Transfer-Encoding": "chunked"}
CUT = [Reply(body=TEXT, claimed=2 * len(TEXT)), Reply(body=b"5\r\none\nt\r\n", headers=CHUNKED)]


@pytest.mark.parametrize("cut", CUT, ids=["length", "chunks"])
def test_a_download_that_breaks_off_starts_again(cut: Reply, server: Server) -> None:
    sooner = dataclasses.replace(cut, body=cut.body[:-1], claimed=cut.claimed)
    url = server.reply("/cut", cut, sooner, Reply(body=TEXT))
    assert read(url) == TEXT
    assert server.count("GET /cut") == 3


@pytest.mark.parametrize("cut", CUT, ids=["length", "chunks"])
def test_a_download_that_always_breaks_off_is_given_up(cut: Reply, server: Server) -> None:
    url = server.reply("/cut", *(dataclasses.replace(cut, body=cut.body[n:]) for n in range(3)))
    with pytest.raises(SourceBusyError, match=f"source {url} "):
        read(url)
    assert server.count("GET /cut") == 3


def test_a_server_that_does_not_answer_is_given_up(server: Server) -> None:
    downloads.set_patience(downloads.Patience(attempts=2, pause=0, read_timeout=0.05))
    url = server.reply("/slow", Reply(hang=True))
    with pytest.raises(SourceBusyError, match=f"source {url} does not answer"):
        read(url)
    assert server.count("GET /slow") == 2
    with pytest.raises(SourceBusyError):
        sources.resolve("http://127.0.0.1:9/none", DATE)


def test_a_download_is_bounded(server: Server) -> None:
    """By its own size and by what it holds when decompressed; it is not tried again."""
    for path, body in [("/large", NOISE), ("/bomb", gzip.compress(bytes(1 << 20)))]:
        with pytest.raises(SourceError, match="200,000 bytes; raise the setting max_source_bytes"):
            read(server.reply(path, Reply(body=body)), 200_000)
        assert server.count(f"GET {path}") == 1


def test_an_http_archives_version_changes_with_what_its_headers_tell(server: Server) -> None:
    replies = [
        Reply(body=b"1"),
        Reply(body=b"12"),
        Reply(body=b"12", headers={"ETag": '"a"'}),
        Reply(body=b"12", headers={"Last-Modified": "Sun, 27 Aug 2017 04:05:34 GMT"}),
    ]
    versions = [sources.version(server.reply("/archive", reply)) for reply in replies]
    assert len({*versions, ""}) == 5
    assert sources.version(server.reply("/archive", replies[-1])) == versions[-1]


def test_a_url_that_is_none_is_an_error() -> None:
    with pytest.raises(SourceError, match="can't be read"):
        sources.resolve("http://", DATE)


# --------------------------------------------------------------------------------------------------- Cloud Storage


def put(uri: str, data: bytes) -> str:
    gcs.delete(uri)
    with gcs.Writer(uri) as writer:
        writer.write(data)
    return uri


@pytest.fixture
def impatient(cloud_storage: Storage) -> Iterator[Storage]:
    """Cloud Storage, asked once."""
    before = downloads.set_patience(downloads.Patience(attempts=1))
    try:
        yield cloud_storage
    finally:
        downloads.set_patience(before)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_object_is_read_and_decompressed(compression: str, cloud_storage: Storage) -> None:
    uri = put("gs://bucket/posts", COMPRESSIONS[compression](TEXT))
    assert sources.resolve(uri, None) == [uri]
    assert read(uri) == TEXT


def test_a_large_object_is_read_by_ranges(cloud_storage: Storage) -> None:
    """It is never held whole."""
    data = NOISE * 120
    uri = put("gs://bucket/posts", data)
    cloud_storage.requests.clear()
    with sources.open_uri(uri, len(data)) as stream:
        assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == data
    assert sum(request.path.startswith("/download/") for request in cloud_storage.requests) == 3


def test_objects_of_a_day_and_of_an_archive(cloud_storage: Storage) -> None:
    """A field, a pattern, both; nothing found is no error, and each look is one request."""
    for name in ("posts-2017-08-27.jsonl", "a/2017-08-27/2.jsonl", "a/2017-08-27/1.jsonl", "a/2017-08-28/1.jsonl"):
        put(f"gs://bucket/{name}", TEXT)
    cloud_storage.requests.clear()
    found = ["gs://bucket/a/2017-08-27/1.jsonl", "gs://bucket/a/2017-08-27/2.jsonl"]
    assert sources.resolve("gs://bucket/posts-{date:%Y-%m-%d}.jsonl", DATE) == ["gs://bucket/posts-2017-08-27.jsonl"]
    assert sources.resolve("gs://bucket/a/{date:%Y-%m-%d}/*.jsonl", DATE) == found
    assert sources.resolve("gs://bucket/a/**", None) == [*found, "gs://bucket/a/2017-08-28/1.jsonl"]
    assert sources.resolve("gs://bucket/none-{date:%Y}", DATE) == []
    assert sum(request.call == "objects.list" for request in cloud_storage.requests) == 4


def test_an_objects_archives_version_changes_when_the_archive_does(cloud_storage: Storage) -> None:
    """Rewritten with the same bytes too, or another object more; one listing tells."""
    source = "gs://bucket/archive/*.jsonl"
    assert sources.version(source) == ""
    versions = []
    for name in ("a", "a", "b"):
        put(f"gs://bucket/archive/{name}.jsonl", TEXT)
        versions.append(sources.version(source))
    cloud_storage.requests.clear()
    assert sources.version(source) == versions[-1]
    assert [request.call for request in cloud_storage.requests if request.call != "buckets.get"] == ["objects.list"]
    assert len({*versions, ""}) == 4


def test_an_object_is_bounded(cloud_storage: Storage) -> None:
    """By its own size, before it is read, and by what it holds when decompressed."""
    for name, body in [("large", NOISE), ("bomb", gzip.compress(bytes(1 << 20)))]:
        with pytest.raises(SourceError, match="200,000 bytes; raise the setting max_source_bytes"):
            read(put(f"gs://bucket/{name}", body), 200_000)


def test_what_cloud_storage_refuses_is_the_sources_error(cloud_storage: Storage) -> None:
    uri = put("gs://bucket/posts", TEXT)
    with pytest.raises(SourceError, match="gs://nobucket/x: it does not exist"):
        sources.resolve("gs://nobucket/x", None)
    with pytest.raises(SourceError, match="gs://bucket/none: it does not exist"):
        read("gs://bucket/none")
    cloud_storage.denied |= {"storage.objects.get", "storage.objects.list"}
    for action in (lambda: sources.resolve(uri, None), lambda: sources.version(uri), lambda: read(uri)):
        with pytest.raises(SourceError, match="source gs://bucket/posts can't be read: .*permission is missing"):
            action()


def test_a_busy_cloud_storage_is_given_up(impatient: Storage) -> None:
    """With an error that a later run may not meet; also in the middle of an object."""
    uri = put("gs://bucket/posts", NOISE * 120)
    with sources.open_uri(uri, 1 << 30) as stream:
        stream.read(1 << 20)
        impatient.faults.randomly(1.0, 1, ("status", "cut"))
        with pytest.raises(SourceBusyError, match="source gs://bucket/posts does not answer"):
            stream.read(1 << 30)
    for action in (lambda: sources.resolve(uri, None), lambda: sources.version(uri), lambda: read(uri)):
        with pytest.raises(SourceBusyError, match="source gs://bucket/posts does not answer"):
            action()
    impatient.faults.clear()


def test_an_object_is_read_however_often_cloud_storage_fails(cloud_storage: Storage) -> None:
    uri = put("gs://bucket/posts", gzip.compress(NOISE * 120))
    for seed in range(2):
        cloud_storage.faults.randomly(0.2, seed)
        assert sources.resolve("gs://bucket/*", None) == [uri]
        assert read(uri, 1 << 30) == NOISE * 120


def test_braces_of_an_archives_name_are_doubled(tmp_path: Path) -> None:
    """As a day's are; and {date} alone is a field."""
    (tmp_path / "a {}.jsonl").write_text("1\n")
    source = f"{tmp_path}/a {{{{}}}}.jsonl"
    sources.check(source)
    assert sources.is_archive(source)
    assert sources.resolve(source, None) == [f"{tmp_path}/a {{}}.jsonl"]
    assert sources.version(source) == sources.version(f"{tmp_path}/a*.jsonl")
