"""Prints the predictions that the stream publishes, one a line: id, digit, how sure, and what the message says besides.

    bin/stream-consume --subscription projects/P/subscriptions/predictions

What is printed is acknowledged, and so not there any more for others that read this subscription. With --topic in place
of --subscription a subscription is made for the time that the command runs.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from millrace.beam import pubsub
from millrace.common.text import plain
from millrace.errors import SettingError


def line(message: pubsub.Message) -> str:
    """Return a prediction, or a rejected message, as a line for people."""
    extra = " ".join(f"{name}={value}" for name, value in sorted(message.attributes.items()))
    try:
        said = json.loads(message.data)
        told = f"{said['id']:>8}  {said['digit']}  {max(said['p']):6.1%}"
    except (ValueError, TypeError, KeyError):
        told = f"{message.data[:60]!r}"
    return plain(f"{told}  {extra}".rstrip())


def consume(args: argparse.Namespace) -> int:
    """Print messages; return how many."""
    if bool(args.subscription) == bool(args.topic):
        raise SettingError("predictions come from one place: say --subscription or --topic")
    for name, kind in (("subscription", "subscriptions"), ("topic", "topics")):
        if value := getattr(args, name):
            pubsub.check_name(f"--{name}", value, kind)
    if args.count < 0:
        raise SettingError(f"--count = {args.count}: allowed is a whole number from 0")
    count = 0
    with pubsub.subscriber(args.subscription, args.topic) as pull:
        for messages in pull(args.seconds, args.count):
            try:
                print("\n".join(map(line, messages)), flush=True)
            except BrokenPipeError:  # its reader, such as head, has had enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                break
            count += len(messages)
    return count


def main(argv: Sequence[str]) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="bin/stream-consume", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subscription", default="", help="projects/P/subscriptions/S")
    parser.add_argument("--topic", default="", help="projects/P/topics/T")
    parser.add_argument("--count", type=int, default=0, help="end after so many; runs until Ctrl-C otherwise")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end when so long nothing has come")
    args = parser.parse_args(argv)
    pubsub.command(lambda: print(f"{consume(args):,} messages", file=sys.stderr))


if __name__ == "__main__":
    main(sys.argv[1:])
