"""Lays out what the site of the documentation is built from: `make docs` runs this, then mkdocs.

The guides stay where they are, and links between them and to files of the project work on the site as in a checkout,
because the folder has the same layout. The pages of the reference name what mkdocstrings then reads from the sources.
"""

import ast
import shutil
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "build" / "docs"
#: What the site shows or links to.
SHOWN = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "luigi.cfg", "crontab.example", "*.Dockerfile"),
    *("graphs/*.toml", "graphs/*.yaml"),
    "workflows/examples.py",
    *("docs/*.md", "docs/*.png", "docs/*.svg", "docs/*.css", "docs/serverless_costs.py", "benchmarks/README.md"),
)
#: What has a page of the reference, and which of its modules the page shows where the package has no `__all__`.
REFERENCE = {
    "millrace": (),
    "millrace.errors": (),
    "millrace.beam": ("batch", "files", "options", "shards", "sources.downloads", "sources.records"),
    "millrace.testing": (),
    "localcloud": ("faults", "serving"),
    "bigquery_sql": (),
}
_ABOUT = "::: {}\n    options: {{members: false, show_root_heading: false, show_root_toc_entry: false}}\n\n"


def lay_out() -> None:
    """Make the folder of sources anew: links to the project's files, and the pages of the reference."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            link = SOURCES / path.relative_to(ROOT)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    (SOURCES / "reference").mkdir()
    for package, modules in REFERENCE.items():
        entries = "".join(f"::: {package}.{name}\n\n" for name in exported(package) or modules)
        page = SOURCES / "reference" / f"{package}.md"
        page.write_text(f"# {package}\n\n{_ABOUT.format(package)}{entries}", encoding="utf-8")


def exported(package: str) -> Sequence[str]:
    """Return the names of a package's, or a module's, `__all__`; none where it has none."""
    path = ROOT / package.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: Sequence[str] = ast.literal_eval(node.value)
            return names
    return ()


if __name__ == "__main__":
    lay_out()
