"""The options of what reads sources: which one, what bounds a file of it, in which ranges large ones are read."""

import argparse
from collections.abc import Mapping
from typing import Any

from millrace.beam.sources import ranges


def add_options(parser: argparse.ArgumentParser, what: str, large: str) -> None:
    """Add the options to a parser; what: says what the source is, and large: which files are read in ranges."""
    parser.add_argument("--source", required=True, help=what)
    parser.add_argument("--max_source_bytes", type=int, default=10 << 30, help="larger files are refused")
    parser.add_argument("--max_transfer_seconds", type=int, default=3600, help="a file by HTTP may take so long")
    parser.add_argument("--redirect_hosts", default="", help="other hosts that HTTP may redirect to, by commas")
    parser.add_argument(
        "--range_bytes", type=_bytes, default=ranges.LENGTH, help=f"larger {large} are read in such ranges"
    )


def hosts(options: Mapping[str, Any]) -> list[str]:
    """Return the hosts that HTTP may redirect to."""
    return [host for host in options["redirect_hosts"].split(",") if host]


def transfer(options: Mapping[str, Any]) -> tuple[int, int, list[str]]:
    """Return what bounds reading a file: its bytes, its seconds by HTTP, and the hosts of redirects."""
    return options["max_source_bytes"], options["max_transfer_seconds"], hosts(options)


def _bytes(text: str) -> int:
    """Return an option's bytes."""
    if not text.isdecimal() or not (value := int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of bytes from 1 on")
    return value
