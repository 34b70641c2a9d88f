"""Lays out what the site of the documentation is built from: `make docs` runs this, then mkdocs.

The guides stay where they are, and links between them and to files of the project work on the site as in a checkout,
because the folder has the same layout. The pages of the reference name what mkdocstrings then reads from the sources.
"""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "build" / "docs"
#: What the site shows or links to.
SHOWN = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "luigi.cfg", "crontab.example", "worker.Dockerfile"),
    *("docs/*.md", "docs/*.png", "docs/*.svg", "docs/*.css", "benchmarks/README.md"),
)
#: Page of the reference → the package it is of, and what it is for.
REFERENCE = {
    "millrace": "What workflows use.",
    "millrace.errors": "What goes wrong, and what an error carries.",
    "millrace.beam": "What pipelines use; it ships to workers.",
    "localcloud": "Google Cloud on this machine.",
    "bigquery_sql": "BigQuery's SQL on DuckDB.",
}


def lay_out() -> None:
    """Make the folder of sources anew: links to the project's files, and the pages of the reference."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            link = SOURCES / path.relative_to(ROOT)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    (SOURCES / "reference").mkdir()
    for package, purpose in REFERENCE.items():
        entries = "".join(f"::: {name}\n\n" for name in documented(package))
        page = SOURCES / "reference" / f"{package}.md"
        page.write_text(f"# {package}\n\n{purpose}\n\n{entries}", encoding="utf-8")


def documented(package: str) -> Iterator[str]:
    """Yield what the reference says of a package: each name of its `__all__`, or each of its modules."""
    path = ROOT / package.replace(".", "/")
    if not path.is_dir():
        yield package
        return
    tree = ast.parse((path / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            yield from (f"{package}.{name}" for name in ast.literal_eval(node.value))
            return
    yield package
    for module in sorted(path.rglob("*.py")):
        if not module.name.startswith("_"):
            yield ".".join(module.relative_to(ROOT).with_suffix("").parts)


if __name__ == "__main__":
    lay_out()
