"""`python -m workflows.engine.commands.where Report [flags]`: where a report's page is. Takes the run's own flags."""

import sys

from luigi.cmdline_parser import CmdlineParser

from pipelines.errors import MillraceError
from workflows.engine import console


def main(argv: list[str]) -> int:
    """Prints the page's path; the exit code says whether it is there."""
    try:
        with CmdlineParser.global_instance(["--module", "workflows", *argv]) as parser:
            task = parser.get_task_obj()
            if not task.made():
                print(f"error: {task} is not complete; run it again", file=sys.stderr)
                return 1
            print(f"The page is {_opened(task.page)}")
    except MillraceError as error:
        return console.print_error(error)
    return 0


def _opened(uri: str) -> str:
    """What a browser opens."""
    return uri.replace("gs://", "https://storage.cloud.google.com/", 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
