"""Which code makes a stage's result: a digest of the module that makes it, and of all modules of ours that it imports.

Modules are read, not imported, and count as they are parsed: comments, docstrings and layout don't. Ours is what lies
in the module's own top-level package, in `pipelines`, in what the library ships to workers, or wherever else no
libraries are installed; but neither the rest of the library nor workflows/ where another package's module imports its
tasks, which are stages of their own. A package counts as a whole where it is named, with its files that are no Python;
another package beside it, of which something itself is imported (`from workflows.pages import environment`), with its
files that are no Python.

Parsing takes a quarter of a second. So what stands in a manifest is two digests, DIGEST/BYTES: where the files have the
bytes that they had, they need not be parsed.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple, Protocol

#: The parts of the library that ship to workers and can so make a result.
_SHIPPED = ("millrace.beam", "millrace.common", "millrace.errors")
_LIBRARY = "millrace"
_PIPELINES, _TASKS = "pipelines", "workflows"
_VERSION = "version "
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
#: Whatever may be an import, from its word "import" on, and what may stand before that.
_IMPORT = re.compile(r"import\b[ \t]*(\((?:[^)#]|#[^\n]*\n)*\)|[^\n;]*)")
_FROM = re.compile(r"from[ \t]*([.\w]+)[ \t]*$")


class _Found(NamedTuple):
    """A module's file, "" for a package without one, and a package's folders."""

    path: str
    folders: Sequence[str]


class Made(Protocol):
    """What makes results: a stage."""

    @property
    def version(self) -> Any:
        """What is said of the code instead of a digest of it; the class has it too."""

    @classmethod
    def maker(cls) -> tuple[str, bool]:
        """Return the module whose code makes the result, and whether it may be a package that counts as a whole."""


#: A module's package, and its bytes → the names of what it imports: modules, or names in them.
_Imports = Callable[[str, bytes], Sequence[str]]


def of(stage: "Made | type[Made]") -> str:
    """Return what makes a stage's result, as its manifest says it: "DIGEST/BYTES", or the "version TEXT" declared."""
    if declared := _declared(stage):
        return declared
    digest = _parsed(*stage.maker())
    return f"{digest}/{_bytes(*stage.maker())}" if digest else ""


def is_of(said: str, stage: "Made | type[Made]") -> bool:
    """Return whether a manifest names the code that would make a stage's result now, as far as that is known."""
    if (declared := _declared(stage)) or said.startswith(_VERSION):
        return said == declared
    files = _bytes(*stage.maker())
    return not files or said.endswith(f"/{files}") or said.partition("/")[0] == _parsed(*stage.maker())


def same(said: str, other: str) -> bool:
    """Return whether two manifests name the same code."""
    return said.partition("/")[0] == other.partition("/")[0] if not said.startswith(_VERSION) else said == other


def short(said: str) -> str:
    """Return a code as people are told of it."""
    return said if said.startswith(_VERSION) else said[:4]


def _declared(stage: "Made | type[Made]") -> str:
    kind: Any = stage if isinstance(stage, type) else type(stage)
    version = kind.version
    return f"{_VERSION}{version}" if version and isinstance(version, str) else ""  # it may be a task's parameter


@functools.cache
def _parsed(module: str, whole: bool) -> str:
    """Return a digest of what the files mean; "" where there are none."""
    return _digest({name: _meaning(data) for name, data in _files(module, whole, _imports).items()})


@functools.cache
def _bytes(module: str, whole: bool) -> str:
    """Return a digest of the files as they are."""
    return _digest(_files(module, whole, _likely_imports))


def _digest(files: dict[str, bytes]) -> str:
    hashed = hashlib.sha256()
    for name, data in sorted(files.items()):
        hashed.update(b"%s %d\n%s" % (name.encode(), len(data), data))
    return hashed.hexdigest()[:12] if files else ""


def _files(root: str, whole: bool, imports: _Imports) -> dict[str, bytes]:
    """Return the files of a module and of all of ours that it imports, by module, or by path if they are no Python."""
    found: dict[str, bytes] = {}
    left = [root]
    top = _found(root) if whole else None
    for inside, path in _inside(top) if top else ():
        if path.suffix == ".py":
            left.append(".".join([root, *inside.with_suffix("").parts]).removesuffix(".__init__"))
        else:
            found[inside.as_posix()] = _read(str(path))
    seen = set(left)
    for name in left:
        module = _found(name)
        if module is not None and module.path.endswith(".py"):
            found[name] = _read(module.path)
            if not f"{name}.".startswith(f"{root}.") and name.startswith(f"{root.partition('.')[0]}."):
                others = [(inside, path) for inside, path in _inside(module) if path.suffix != ".py"]
                found |= {f"{name}/{inside.as_posix()}": _read(str(path)) for inside, path in others}
            needed = set(_needed(name, root.partition(".")[0], imports)) - seen
            left += needed
            seen |= needed
    return found


def _inside(package: _Found) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a package, those of packages in it too, each by its path in the package and as a whole."""
    for folder in map(Path, package.folders):
        for path in folder.rglob("*"):
            inside = path.relative_to(folder)
            if not path.is_dir() and not any(part.startswith((".", "__pycache__")) for part in inside.parts):
                yield inside, path


@functools.cache
def _needed(name: str, own: str, imports: _Imports) -> Sequence[str]:
    """Return the modules of ours that a module imports; own: the top-level package of what makes the result."""
    module = _found(name)
    assert module is not None
    names = imports(name if module.folders else name.rpartition(".")[0], _read(module.path))
    return [each for imported in names if (each := _module_in(imported, own))]


def _module_in(name: str, own: str) -> str | None:
    """Return the module that a name names, or lies in, if that module is ours."""
    if not _ours(name.partition(".")[0], own):
        return None
    library, _, public = name.partition(".")
    if library == _LIBRARY and (home := importlib.import_module(_LIBRARY).HOMES.get(public)):
        name = f"{home}.{public}"
    if name.partition(".")[0] == _LIBRARY and not f"{name}.".startswith(tuple(f"{each}." for each in _SHIPPED)):
        return None
    while name and not _found(name):
        name = name.rpartition(".")[0]
    return name


@functools.cache
def _ours(top: str, own: str) -> bool:
    """Return whether a top-level module is ours, seen from a module in another one."""
    if top in (own, _PIPELINES, _LIBRARY):
        return True
    return top != _TASKS and top not in sys.stdlib_module_names and PathFinder.find_spec(top, _own_paths()) is not None


@functools.cache
def _own_paths() -> list[str]:
    """Return where modules are found that are neither Python's nor installed."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    installed = {"site-packages", "dist-packages"}
    paths = [Path(entry or ".").resolve() for entry in sys.path]
    return [str(path) for path in paths if not installed & {*path.parts} and stdlib not in (path, *path.parents)]


@functools.cache
def _found(name: str) -> _Found | None:
    """Return where a module lies; None if nowhere. Nothing is imported."""
    parent, _, own = name.rpartition(".")
    if not parent:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):  # a script that runs
            return None
        return None if spec is None else _Found(spec.origin or "", [*(spec.submodule_search_locations or ())])
    above = _found(parent)
    for folder in above.folders if above else ():
        inside = os.path.join(folder, own)
        if own in (names := _names(folder)) and "__init__.py" in _names(inside):
            return _Found(os.path.join(inside, "__init__.py"), [inside])
        if f"{own}.py" in names:
            return _Found(f"{inside}.py", [])
        if own in names and os.path.isdir(inside):
            return _Found("", [inside])
    return None


@functools.cache
def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


@functools.cache
def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # what can't be read can't have made anything
        return b""


class _Parsed(NamedTuple):
    """What a file means, and its imports: how many packages above, the module, and names in it, None for all of it."""

    meaning: bytes
    imports: Sequence[tuple[int, str, Sequence[str] | None]]


@functools.cache
def _tree(data: bytes) -> _Parsed | None:
    """Return what a file says, parsed once, since that is most of the work; None for what is no Python."""
    try:
        tree = ast.parse(data)
        return _Parsed(_told(tree).encode("utf-8", "surrogatepass"), list(_imported(tree.body)))
    except (SyntaxError, ValueError):
        return None


def _meaning(data: bytes) -> bytes:
    """Return what a file means; the bytes of a file that is no Python."""
    parsed = _tree(data)
    return data if parsed is None else parsed.meaning


def _told(node: object) -> str:
    """Return a piece of a syntax tree as a text that is the same in every Python, without docstrings."""
    if isinstance(node, ast.AST):
        kind: Any = type(node)
        parts = []
        for name, begin in _fields(kind):
            value: Any = getattr(node, name, None)
            if name == "body" and isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                value = value[1:]
            if isinstance(node, ast.JoinedStr):  # Python 3.12 has empty texts in it
                value = [each for each in value if getattr(each, "value", None) != ""]
            if value is not None and value != []:
                parts.append(begin + _told(value))
        return f"{kind.__name__}({', '.join(parts)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_told, node))}]"
    return repr(node)


@functools.cache
def _fields(kind: Any) -> Sequence[tuple[str, str]]:
    """Return the fields of a kind of node that count, each with how it begins as text."""
    return [(name, f"{name}=") for name in kind._fields if name not in ("ctx", "kind", "type_comment")]


@functools.cache
def _imports(package: str, data: bytes) -> Sequence[str]:
    """Return what a file imports when it runs: modules, or names in modules; package: where the file is."""
    parsed = _tree(data)
    if parsed is None:
        return _likely_imports(package, data)
    found: list[str] = []
    for level, module, names in parsed.imports:
        found += [module] if names is None else _from(package, "." * level + module, names)
    return found


def _imported(statements: Sequence[ast.AST]) -> Iterator[tuple[int, str, Sequence[str] | None]]:
    """Yield the imports among some statements and in those that they hold: an import is nothing else's part."""
    for each in statements:
        if isinstance(each, ast.Import):
            yield from ((0, alias.name, None) for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            yield each.level, each.module or "", [alias.name for alias in each.names]
        elif isinstance(each, ast.If) and _is_for_types(each.test):
            yield from _imported(each.orelse)
        else:
            for name in ("body", "handlers", "cases", "orelse", "finalbody"):
                yield from _imported(getattr(each, name, ()))


def _is_for_types(test: ast.expr) -> bool:
    """Return whether a condition holds only for what checks types."""
    return isinstance(test, ast.Name | ast.Attribute) and ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@functools.cache
def _likely_imports(package: str, data: bytes) -> Sequence[str]:
    """Return what _imports() returns, and perhaps more, never less, in a hundredth of the time."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\\\n", " ")
    found: list[str] = []
    for each in _IMPORT.finditer(text):
        names = re.findall(r"[\w.]+|\*", each[1])
        before = _FROM.search(text[text.rfind("\n", 0, each.start()) + 1 : each.start()])
        found += _from(package, before[1], names) if before else names
    return found


def _from(package: str, module: str, names: Sequence[str]) -> list[str]:
    """Return the modules that `from module import names` may mean."""
    try:
        base = importlib.util.resolve_name(module, package)
    except ImportError:  # from above the top
        return []
    return [f"{base}.{name}" for name in names]
