"""Patterns match, and are refused, as Cloud Storage's reference has it and as people found Cloud Storage to do it.

The reference: https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-object-glob. Found at the real one in
August and September 2026: https://github.com/fsouza/fake-gcs-server/pull/2328 (what matches) and /2344 (what is
refused, and in which words), https://github.com/floci-io/floci-gcp/pull/188 (escapes, folders).
"""

from collections.abc import Iterator

import google.cloud.storage as api
import pytest
from google.api_core.exceptions import BadRequest
from google.auth.credentials import AnonymousCredentials

from localcloud import globs
from localcloud.storage import Storage


@pytest.mark.parametrize(
    ("glob", "matched", "others"),
    [
        ("foo*bar", ["foobar", "foo1bar", "foo.bar", "foo\nbar"], ["foo/bar", "xfoobar", "foobarx"]),
        ("foo**bar", ["foobar", "foo/bar", "foo/a/b/bar"], ["foobar/"]),
        ("foo**/bar", ["foo/bar", "foox/bar", "foo/a/bar"], ["foobar", "foo/abar"]),
        ("img/**.jpg", ["img/brand.jpg", "img/hi-res/party-01.jpg"], ["img/x.png", "x/img/a.jpg"]),
        ("a/**/b/*.avro", ["a/b/x.avro", "a/c/b/x.avro", "a/c/d/b/x.avro"], ["a/b/c/x.avro", "a/cb/x.avro"]),
        ("**/b", ["b", "a/b", "a/c/b"], ["ab", "a/ab"]),
        ("a/**", ["a/", "a/b", "a/b/c"], ["a", "ab"]),
        ("foo?bar", ["foo1bar", "foo.bar", "fooübar"], ["foobar", "foo12bar", "foo/bar"]),
        ("foo[ab]bar", ["fooabar", "foobbar"], ["foocbar", "foobar", "foo[ab]bar"]),
        ("foo[0-9a]", ["foo0", "foo5", "fooa"], ["foob", "foo-", "foo55"]),
        ("foo[!0-9]", ["fooa", "foo-"], ["foo1", "foo/", "foo"]),
        ("foo[^0-9]", ["fooa"], ["foo1"]),
        ("[-a]", ["-", "a"], ["b"]),
        ("[a-]", ["-", "a"], ["b"]),
        (r"[\]\\^]", ["]", "\\", "^"], ["a"]),
        ("[α-ω]", ["β"], ["b"]),
        ("{abc,xyz}", ["abc", "xyz"], ["ab", "{abc,xyz}", "abcxyz"]),
        ("{a*,b?,[cd]}.x", ["a.x", "all.x", "bb.x", "c.x"], ["b.x", "e.x"]),
        ("{a,{b,c}}.jpg", ["a.jpg", "b.jpg", "c.jpg"], ["d.jpg"]),
        ("{a,}b", ["ab", "b"], ["cb"]),
        ("a,b", ["a,b"], ["a"]),
        (r"a\b/*", ["ab/file.txt"], [r"a\b/file.txt"]),
        (r"a\\b/*", [r"a\b/file.txt"], ["ab/file.txt"]),
        (r"\*\?\[x\]\{a,b\}", ["*?[x]{a,b}"], ["*?[x]a", "a?[x]{a,b}"]),
        (r"{a\,b,c}", ["a,b", "c"], ["a"]),
        ("a.b+(c)|d$", ["a.b+(c)|d$"], ["axb+(c)|d$"]),
    ],
)
def test_a_pattern_matches_what_the_reference_says(glob: str, matched: list[str], others: list[str]) -> None:
    found = [name for name in [*matched, *others] if globs.compiled(glob).fullmatch(name)]
    assert found == matched


@pytest.mark.parametrize(
    ("glob", "said"),
    [
        ("test/[abc.jpg", "Glob pattern character class has no closing ']' for opening '[' at index 5. Either"),
        ("é[abc", "Glob pattern character class has no closing ']' for opening '[' at index 2. Either"),
        ("test/[{a}].jpg", "Glob pattern character class has no closing ']' for opening '[' at index 5. Either"),
        ("test/{[a,b]}.jpg", "Glob pattern character class has no closing ']' for opening '[' at index 6. Either"),
        ("test/{a,[}]}.jpg", "Glob pattern character class has no closing ']' for opening '[' at index 8. Either"),
        ("test/{a,b.jpg", "Glob pattern brace expansion opening '{' at index 5 has no closing '}'. Use"),
        ("test/{a,{b", "Glob pattern brace expansion opening '{' at index 8 has no closing '}'. Use"),
        ("test/[].jpg", "Glob pattern character class at index 5 must have at least one character in it."),
        ("test/[!].jpg", "Glob pattern character class at index 5 must have at least one character in it."),
        ("test/[]a].jpg", "Glob pattern character class at index 5 must have at least one character in it."),
        ("test/a].jpg", "Glob pattern had closing character class ']' at index 6 without any previous opening '['."),
        ("test/a}.jpg", "Glob pattern brace expansion closing '}' at index 6 has no previous opening '{'. Use"),
        ("test/[ab}.jpg", "Glob pattern brace expansion closing '}' at index 8 has no previous opening '{'. Use"),
        ("test/[z-a].jpg", "Invalid range 'z-a' in glob pattern character class."),
        ("test/[[].jpg", "Glob pattern character class does not support the unescaped '[' at index 6. Use"),
    ],
)
def test_a_pattern_is_refused_in_the_words_of_cloud_storage(glob: str, said: str) -> None:
    with pytest.raises(globs.GlobError) as raised:
        globs.compiled(glob)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    "glob", ["test/a\\", "test/[a/b].jpg", "test/\\a.jpg", "test/\\{a.jpg", "test/[\\a-b].jpg", "test/{a,[b]}", "a,b"]
)
def test_what_cloud_storage_takes_is_no_error(glob: str) -> None:
    globs.compiled(glob)


@pytest.fixture(scope="module")
def client() -> Iterator[api.Client]:
    """A client, and a bucket with some objects."""
    with Storage() as service:
        service.create_bucket("globs")
        credentials, options = AnonymousCredentials(), {"api_endpoint": service.url}  # type: ignore[no-untyped-call]
        made = api.Client(project="p", credentials=credentials, client_options=options)
        for name in ("a/b/deep", "a/file", "level0/file", "other/file", "top"):
            made.bucket("globs").blob(name).upload_from_string("")
        yield made
        made.close()


@pytest.mark.parametrize(
    ("glob", "objects", "folders"),
    [
        ("*/", [], {"a/", "level0/", "other/"}),
        ("*", ["top"], set()),
        ("a/*", ["a/file"], set()),
        ("a/**", ["a/file"], {"a/b/"}),
    ],
)
def test_folders_are_told_of_where_the_pattern_matches_them(
    client: api.Client, glob: str, objects: list[str], folders: set[str]
) -> None:
    """With the delimiter /, a pattern selects among objects and folders, from the folder on that it names."""
    listing = client.list_blobs("globs", match_glob=glob, delimiter="/")
    assert ([blob.name for blob in listing], listing.prefixes) == (objects, folders)


def test_a_listing_with_a_wrong_pattern_is_a_bad_request(client: api.Client) -> None:
    """So is one with another delimiter than /."""
    with pytest.raises(BadRequest, match="Invalid range 'z-a' in glob pattern"):
        list(client.list_blobs("globs", match_glob="[z-a]"))
    with pytest.raises(BadRequest, match="the only supported delimiter is '/'"):
        list(client.list_blobs("globs", match_glob="*", delimiter="-"))
