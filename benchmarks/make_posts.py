"""Write synthetic posts as one JSON lines file a day: `posts-YYYY-MM-DD.jsonl`.

Posts are drawn with replacement from real ones (shared/data/posts beside the project) or, where those are missing,
from the project's own sample. A share of the plain words is replaced by words drawn from the corpus' unigram
distribution, so that the number of distinct words stays and the number of distinct word pairs grows with the number of
posts, as it does in real streams. A day's file follows from the seed, the date and its number of posts alone.

    python -m benchmarks.make_posts --posts 1000000 --days 7 --last-day 2026-11-07 --out /tmp/posts
"""

import argparse
import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "posts"
REPLACED = 0.13
SAMPLE_DAYS = 14
BLOCK = 50_000


class Template(NamedTuple):
    """A post, its text split at the spaces, every part encoded as JSON already."""

    head: bytes  # `,"user":…,"text":"`
    words: list[bytes]
    plain: list[int]  # which of the words consist of letters only: the ones that may be replaced
    tail: bytes  # `Z","urls":[…]}\n`


class Corpus(NamedTuple):
    templates: list[Template]
    unigrams: list[bytes]  # every plain word as often as it occurs


def source_lines() -> Iterator[bytes]:
    files = sorted(SHARED.glob("*.jsonl"))
    for file in files:
        yield from file.read_bytes().splitlines()
    if not files:
        from pipelines.posts import sample

        for day in range(SAMPLE_DAYS):
            yield from sample.lines(dt.date(2026, 11, 1) + dt.timedelta(days=day))


def source_posts() -> Iterator[dict[str, Any]]:
    for line in source_lines():
        try:
            post = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # the project's sample has malformed lines on purpose
        if isinstance(post, dict) and isinstance(post.get("text"), str):
            yield post


def inner(text: str) -> bytes:
    """Return the text as it stands between the quotes of a JSON string."""
    return orjson.dumps(text)[1:-1]


def corpus() -> Corpus:
    templates, unigrams = [], []
    for post in source_posts():
        words = post["text"].split(" ")
        plain = [i for i, word in enumerate(words) if word.isalpha()]
        encoded = [inner(word) for word in words]
        unigrams += [encoded[i] for i in plain]
        user, urls = str(post.get("user") or "someone"), [u for u in post.get("urls") or [] if isinstance(u, str)]
        templates.append(
            Template(
                b',"user":%s,"text":"' % orjson.dumps(user),
                encoded,
                plain,
                b'Z","urls":%s}\n' % orjson.dumps(urls),
            )
        )
    return Corpus(templates, unigrams)


def replacements(random: np.random.Generator, unigrams: int) -> Iterator[tuple[int, int]]:
    """Yield for each word replaced its distance from the one replaced before, and which unigram takes its place."""
    while True:
        distances = random.geometric(REPLACED, size=BLOCK).tolist()
        yield from zip(distances, random.integers(unigrams, size=BLOCK).tolist(), strict=True)


def day_lines(source: Corpus, day: dt.date, posts: int, seed: int) -> Iterator[bytes]:
    """Yield one day's lines in blocks, in the order of their time."""
    random = np.random.default_rng([seed, day.toordinal()])
    templates, unigrams = source
    clock = [b"%02d:%02d:%02d" % (s // 3600, s // 60 % 60, s % 60) for s in range(86_400)]
    created = b'","created_at":"%sT' % day.isoformat().encode()
    first_id = day.toordinal() * 10**11
    draws = replacements(random, len(unigrams))
    gap, new = next(draws)
    gap -= 1
    for start in range(0, posts, BLOCK):
        size = min(BLOCK, posts - start)
        picks = random.integers(len(templates), size=size).tolist()
        lines = []
        for i, pick in enumerate(picks, start):
            head, words, plain, tail = templates[pick]
            if gap < len(plain):
                words = words.copy()
                while gap < len(plain):
                    words[plain[gap]] = unigrams[new]
                    skip, new = next(draws)
                    gap += skip
            gap -= len(plain)
            time = clock[i * 86_400 // posts]
            lines.append(b'{"tid":%d%b%b%b%b%b' % (first_id + i, head, b" ".join(words), created, time, tail))
        yield b"".join(lines)


def write(out: Path, posts: int, days: int, last_day: dt.date, seed: int = 1) -> list[Path]:
    """Spread the posts evenly over the days; return the files."""
    out.mkdir(parents=True, exist_ok=True)
    source = corpus()
    files = []
    for index in range(days):
        day = last_day - dt.timedelta(days=days - 1 - index)
        file = out / f"posts-{day}.jsonl"
        part = file.with_suffix(".part")
        with part.open("wb") as stream:
            stream.writelines(day_lines(source, day, posts * (index + 1) // days - posts * index // days, seed))
        os.replace(part, file)
        files.append(file)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=1_000_000, help="posts in all (default: %(default)s)")
    parser.add_argument("--days", type=int, default=7, help="days to spread them over (default: %(default)s)")
    parser.add_argument("--last-day", type=dt.date.fromisoformat, default=dt.date(2026, 11, 7))
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    files = write(args.out, args.posts, args.days, args.last_day, args.seed)
    print(f"{args.posts:,} posts, {sum(f.stat().st_size for f in files):,} bytes, {len(files)} files in {args.out}")


if __name__ == "__main__":
    main()
