"""Gcloud's own parser over command lines, which runs none of them: a program for a Python without other packages."""

import contextlib
import io
import json
import os
import sys


def _parse(library: str) -> None:
    sys.path[:0] = [library, os.path.join(library, "third_party")]
    from googlecloudsdk import gcloud_main

    parser = gcloud_main.CreateCLI([])._CLI__parser
    wrong = []
    for call in json.load(sys.stdin):
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                parser.parse_args(call)
        except BaseException as error:
            wrong.append(f"{call}: {said.getvalue() or error!r}")
    json.dump(wrong, sys.stdout)


if __name__ == "__main__":
    _parse(sys.argv[1])
