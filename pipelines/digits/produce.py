"""Publishes images of a file to a Pub/Sub topic at a set rate, as the stream reads them: to try the stream.

    bin/stream-produce sample:// --topic projects/P/topics/images --rate 20

A file is of `key:784 numbers` lines, IDX or CSV, packed or not, here or at a gs:// or http(s):// URI. Where Pub/Sub is
its emulator, PUBSUB_EMULATOR_HOST names it.
"""

import argparse
import contextlib
import datetime
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence

from millrace.beam import pubsub
from millrace.beam.sources import named
from millrace.beam.sources.named import Stored
from millrace.errors import SettingError, SourceError
from pipelines.digits import readers, sample, sources

#: Images of one request, at most.
_AT_ONCE = 500
#: Bytes of a file, as stored or decompressed, at most.
_MOST = 10 << 30


def images(source: str) -> Iterator[tuple[int, str]]:
    """Yield the ids and images of a source, as text. Raises SourceError."""
    sources.check(source)
    if source == sources.SAMPLE:
        blocks: Iterator[readers.Images] = iter([sample.images()])
    else:
        files = named.stored(source, None)
        if not files:
            raise SourceError(f"there is nothing at {source}", mend="name a file of images")
        blocks = itertools.chain.from_iterable(map(_read, files))
    for block in blocks:
        yield from zip(block.table["id"].to_pylist(), block.table["image"].to_pylist(), strict=True)


def _read(file: Stored) -> Iterator[readers.Images]:
    with named.open_uri(file.uri, _MOST) as stream:
        yield from readers.read(stream, file.uri)


def produce(args: argparse.Namespace) -> int:
    """Publish images; return how many."""
    pubsub.check_name("--topic", args.topic, "topics")
    if args.count is not None and args.count < 0:
        raise SettingError(f"--count = {args.count}: allowed is a whole number from 0")
    for each in args.attribute:
        if each.find("=") < 1:
            raise SettingError(f"--attribute {each}: write NAME=VALUE")
    extra = dict(each.partition("=")[::2] for each in args.attribute)
    found = images(args.source)
    if args.again:
        found = itertools.cycle(found)
    found = itertools.islice(found, args.count)
    begun, count = time.monotonic(), 0
    with pubsub.publisher(args.topic) as publish:
        while True:
            # By the clock and not by pauses, so that the rate holds whatever publishing takes.
            time.sleep(max(0.0, begun + count / args.rate - time.monotonic()))
            due = int((time.monotonic() - begun) * args.rate) + 1 - count
            messages = [_message(args, extra, *each) for each in itertools.islice(found, min(max(due, 1), _AT_ONCE))]
            if not messages:
                return count
            publish(messages)
            told, count = count, count + len(messages)
            if count // (5 * args.rate) > told // (5 * args.rate):
                print(f"{count:,} images published", file=sys.stderr, flush=True)


def _message(args: argparse.Namespace, extra: dict[str, str], number: int, image: str) -> pubsub.Message:
    now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
    attributes = {**extra, **({args.time_attribute: now} if args.time_attribute else {})}
    return pubsub.Message(json.dumps({"id": number, "image": image}).encode(), attributes, args.ordering_key)


def main(argv: Sequence[str]) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="bin/stream-produce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="a file, glob or URI of images, or sample://")
    parser.add_argument("--topic", required=True, help="projects/P/topics/T")
    parser.add_argument("--rate", type=_rate, default=10.0, help="images a second (10)")
    parser.add_argument("--count", type=int, help="publish so many images and end; all of the source otherwise")
    parser.add_argument("--again", action="store_true", help="begin again at the source's end, until Ctrl-C")
    parser.add_argument("--attribute", action="append", default=[], metavar="NAME=VALUE", help="for each message")
    parser.add_argument("--ordering_key", default="", help="of each message")
    parser.add_argument("--time_attribute", default="", help="attribute that says when the image was published")
    args = parser.parse_args(argv)
    pubsub.command(lambda: print(f"{produce(args):,} images published to {args.topic}"))


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (rate := float(text)) < float("inf"):
            return rate
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


if __name__ == "__main__":
    main(sys.argv[1:])
