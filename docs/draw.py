"""Draws which package imports which, by the imports in the code: `make architecture` writes docs/architecture.svg.

An arrow stands for every import, those within functions and those for type hints included. A package that is reached
through others anyway has no arrow of its own, so that the picture can be read.
"""

import ast
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "architecture.svg"
PACKAGES = ("bigquery_sql", "localcloud", "millrace", "pipelines", "workflows")
_COLOURS = {"millrace": "#cfe8e4", "localcloud": "#e3e0f3", "bigquery_sql": "#e3e0f3"}

Imports = Mapping[str, set[str]]


def imports() -> Imports:
    """Return each package → the packages that it imports; of the library, each of its parts is one."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for module in graph.modules - {"millrace.__main__"}:  # another name for the command of millrace.ops
        for imported in graph.find_modules_directly_imported_by(module):
            if _package(imported) != _package(module):
                found[_package(module)].add(_package(imported))
            found.setdefault(_package(imported), set())
    return found


def _package(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "millrace" else parts[0]


def direct(imports: Imports) -> Imports:
    """Return the imports without those that others imply."""
    return {
        package: {each for each in imported if not any(each in _reached(imports, other) for other in imported - {each})}
        for package, imported in imports.items()
    }


def _reached(imports: Imports, package: str) -> set[str]:
    """Return what a package imports, directly or not."""
    found: set[str] = set()
    left = [package]
    while left:
        new = imports[left.pop()] - found
        found |= new
        left += new
    return found


def drawing(imports: Imports) -> Iterator[str]:
    """Yield the lines of the graph in Graphviz's language."""
    yield 'digraph { bgcolor=transparent; nodesep=0.3; ranksep=0.4; edge [color="#55606a", arrowsize=0.7];'
    yield 'node [shape=box, style="rounded,filled", fontname="Helvetica,Arial,sans-serif", color="#55606a"];'
    for package in sorted(imports):
        colour = _COLOURS.get(package.partition(".")[0], "#fbe6bd")
        said = "<br/>".join(escape(line) for line in textwrap.wrap(_purpose(package), 34))
        label = f'<b>{package}</b><br/><font point-size="10">{said}</font>'
        yield f'"{package}" [label=<{label}>, fillcolor="{colour}"];'
    for package, imported in sorted(direct(imports).items()):
        for each in sorted(imported):
            yield f'"{package}" -> "{each}";'
    yield "}"


def _purpose(package: str) -> str:
    """Return the first sentence of a package's docstring."""
    path = ROOT / package.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    said = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return " ".join(said.partition("\n\n")[0].split()).rstrip(".")


if __name__ == "__main__":
    try:
        drawn = subprocess.run(["dot", "-Tsvg"], input="\n".join(drawing(imports())), capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit("error: Graphviz, which draws the picture, is not installed; on Debian: apt-get install graphviz")
    if drawn.returncode:
        sys.exit(drawn.stderr)
    PICTURE.write_text(drawn.stdout, encoding="utf-8")
