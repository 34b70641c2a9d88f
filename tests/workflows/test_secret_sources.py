"""A run over a source that takes secrets leaves them nowhere; one that has them literally stops before any work."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import running
from http_source import Reply, Server, serving

SECRETS = {"ANN": "anns-n4me", "PASSWORD": "anns-p4ssword", "TOKEN": "anns-t0ken"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running_server:
        yield running_server


def test_a_run_shows_no_secret_and_a_literal_one_is_refused(server: Server, tmp_path: Path) -> None:
    """Not in names, manifests, ledger, tables and messages: there the variables' names are, as luigi.cfg has them."""
    path = f"/posts-{running.DAY}.jsonl?token={SECRETS['TOKEN']}"
    server.reply(
        path, Reply(body=json.dumps({"id": 1, "text": "hello", "created_at": f"{running.DAY}T01:00Z"}).encode())
    )
    source = server.url.replace("//", "//${ANN}:${PASSWORD}@") + "/posts-{date:%Y-%m-%d}.jsonl?token=${TOKEN}"
    config = tmp_path / "luigi.cfg"
    config.write_text(f"[posts]\nsource = {source}\n[core]\nworkers = 2\n", encoding="utf-8")
    env = running.environment(LUIGI_CONFIG_PATH=str(config), NO_PROXY="127.0.0.1", **SECRETS)
    storage = tmp_path / "data"
    ran = running.luigi("Etl", "--date", running.DAY, storage=storage, env=env)
    assert ran.code == 0, ran
    assert source in ran.out + ran.err
    assert running.select(storage, "SELECT id, source FROM posts") == [{"id": "1", "source": source}]
    refused = running.luigi(
        "Etl", "--date", running.DAY, "--posts-source", "https://ann:anns-l1teral@a.example/x", storage=storage, env=env
    )
    assert refused.code != 0
    (sentence,) = refused.errors
    assert "write https://${NAME}:${PASSWORD}@… with the names of environment variables" in sentence
    said = "".join([ran.out, ran.err, refused.out, refused.err])
    names = "".join(str(path) for path in storage.rglob("*"))
    written = b"".join(running.files(storage).values())
    for secret in [*SECRETS.values(), "anns-l1teral"]:
        assert secret not in said
        assert secret not in names
        assert secret.encode() not in written
