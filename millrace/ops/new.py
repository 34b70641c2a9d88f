"""Write a new workflow, or a new stage of one, into the project whose folder this is.

What is written runs at once, and is there to be changed. It is made of templates/, in which %%word%% stands for what
differs.
"""

import ast
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import click

from millrace.errors import SettingError
from millrace.ops import arguments
from millrace.tasks.base import registered
from millrace.tasks.beam_task import BeamTask
from millrace.tasks.settings import Settings
from millrace.tasks.tasks import known_tasks

_TASKS, _PIPELINES = "workflows", "pipelines"
#: What may lie in a folder that is to become a project: nothing that is anybody's work.
_NO_WORK = {"LICENSE", "venv"}
_WIDTH = 120


@click.command("new-workflow")
@click.argument("name")
def workflow(name: str) -> None:
    """Write a workflow that fetches a day's lines, counts them by kind into a table, and makes a page of that.

    It goes into the project in whose folder you are. An empty folder becomes a project.
    """
    folder, words = Path.cwd(), _words(name)
    fresh = not _is_project(folder)
    if fresh and (there := sorted(each.name for each in folder.iterdir() if not _no_work(each))):
        raise SettingError(f"{folder} is no project: it has {there[0]}, but no luigi.cfg and no {_TASKS}/__init__.py")
    tests = _tests(folder)
    made = {
        f"{_TASKS}/{name}.py": "workflow/workflow.py",
        f"{_PIPELINES}/{name}/__init__.py": "workflow/pipelines.py",
        f"{_PIPELINES}/{name}/tables.py": "workflow/tables.py",
        f"{_PIPELINES}/{name}/counts.py": "workflow/counts.py",
        f"{tests}/test_{name}.py": "workflow/test.py",
        f"in/{name}-2026-11-19.txt": "workflow/example.txt",
    }
    project = {
        "luigi.cfg": "project/luigi.cfg",
        "pyproject.toml": "project/pyproject.toml",
        "README.md": "project/README.md",
        ".gitignore": "project/gitignore",
        f"{_TASKS}/__init__.py": "project/workflows.py",
        f"{_PIPELINES}/__init__.py": "project/pipelines.py",
    }
    if not fresh:
        arguments.load([])
    _refuse_names(name, f"{words['Name']}Counts", f"{words['Name']}Page", f"{words['Name']}Fetch")
    words["project"] = re.sub(r"[^A-Za-z0-9]+", "-", folder.name).strip("-") or "project"
    _refuse_files(folder, [*made, f"{_TASKS}/{name}"])
    if fresh:
        _write(folder, project, words)
    _write(folder, made, words)
    _append(folder / "luigi.cfg", _filled("workflow/luigi.cfg", words))
    _offer(
        folder / f"{_TASKS}/__init__.py",
        f"{_TASKS}.{name}",
        [f"{words['Name']}{each}" for each in ("Counts", "Fetch", "Page")],
    )
    run = f"{arguments.called()}run {words['Name']}Page"
    _append(folder / "README.md", f"\n**{name}** counts a day's lines by kind, and makes a page of that: `{run}`.\n")
    _tell([*(project if fresh else ()), *made], f"{run} --date 2026-11-19")


@click.command("new-stage")
@click.argument("name")
@click.option("--workflow", "of", metavar="WORKFLOW", help="the workflow that it is of; not needed where there is one")
@click.option("--after", metavar="TASK", help="the stage whose rows it reads; not needed where there is one")
def stage(name: str, of: str | None, after: str | None) -> None:
    """Write a stage: a task with its table, its pipeline, a setting and a test, into a workflow of this project."""
    folder, words = Path.cwd(), _words(name)
    if not _is_project(folder):
        raise SettingError(f"{folder} is no project: there is no luigi.cfg, or no {_TASKS}/__init__.py")
    arguments.load([])
    of = _one("workflow", of, _workflows())
    read = {
        family: task
        for family, task in known_tasks().items()
        if issubclass(task, BeamTask) and task.__module__ == f"{_TASKS}.{of}" and _by_day(task)
    }
    after = _one("after", after, list(read))
    _refuse_names(words["Name"], dataset=name)
    words |= {"workflow": of, "After": after}
    made = {
        f"{_PIPELINES}/{of}/{name}.py": "stage/pipeline.py",
        f"{_tests(folder)}/test_{name}.py": "stage/test.py",
    }
    _refuse_files(folder, made)
    tables, module = folder / f"{_PIPELINES}/{of}/tables.py", folder / f"{_TASKS}/{of}.py"
    if not tables.exists():
        tables.write_text(
            f'"""The tables of the {of} workflow."""\n\nfrom millrace.common.tables import Table\n', encoding="utf-8"
        )
    _write(folder, made, words)
    _append(tables, _filled("stage/table.py", words))
    text = _with_setting(module.read_text(encoding="utf-8"), of, _filled("stage/setting.py", words))
    for source, imported in {
        f"{_PIPELINES}.{of}.tables": words["NAME"],
        "millrace": ("BeamTask", "Day", "Setting", "whole_number"),
    }.items():
        text = _importing(text, source, [imported] if isinstance(imported, str) else imported)
    if "import datetime\n" not in text:
        text = _importing(text, "datetime", [])
    module.write_text(text.rstrip("\n") + "\n" + _filled("stage/task.py", words), encoding="utf-8")
    _set(folder / "luigi.cfg", of, _filled("stage/luigi.cfg", words))
    _offer(folder / f"{_TASKS}/__init__.py", f"{_TASKS}.{of}", [words["Name"]])
    run = f"{arguments.called()}run {words['Name']}"
    _append(
        folder / "README.md", f"\n**{words['Name']}** counts the rows of {after}, into the table {name}: `{run}`.\n"
    )
    _tell([*made, *(str(each.relative_to(folder)) for each in (tables, module))], run)


def _words(name: str) -> dict[str, str]:
    """Return a name in the forms in which templates have it. Raises SettingError for what is no name."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise SettingError(f"{name!r} is no name: write small letters, digits and single _, such as web_logs")
    camel = "".join(part.capitalize() for part in name.split("_"))
    return {"name": name, "NAME": name.upper(), "Name": camel, "flag": name.replace("_", "-")}


def _is_project(folder: Path) -> bool:
    return (folder / "luigi.cfg").is_file() and (folder / _TASKS / "__init__.py").is_file()


def _no_work(path: Path) -> bool:
    return path.name.startswith(".") or path.name in _NO_WORK or (path / "pyvenv.cfg").exists()


def _tests(folder: Path) -> str:
    return "tests/workflows" if (folder / "tests/workflows").is_dir() else "tests"


def _workflows() -> list[str]:
    """Return the modules of workflows/ that have settings."""
    modules = {each.__module__ for each in registered().values() if issubclass(each, Settings)}
    return sorted(each.removeprefix(f"{_TASKS}.") for each in modules if each.startswith(f"{_TASKS}."))


def _by_day(task: type[BeamTask]) -> bool:
    """Return whether a task can be made of a day alone."""
    needed = [name for name, parameter in task.get_params() if not parameter.has_task_value(task.__name__, name)]
    return hasattr(task, "date") and not needed


def _one(flag: str, given: str | None, there: Sequence[str]) -> str:
    """Return what a flag says, or the one thing that there is. Raises SettingError."""
    if given is None and len(there) == 1:
        return there[0]
    if given in there:
        return str(given)
    allowed = ", ".join(there) or "none in this project"
    raise SettingError(f"--{flag} is {'needed' if given is None else repr(given)}: allowed is one of {allowed}")


def _refuse_names(*names: str, dataset: str = "") -> None:
    """Raise SettingError for a name that a task or section has, or a dataset."""
    for name in names:
        if name in registered():
            raise SettingError(f"there is a task or section {name} already; take another name")
    for family, task in known_tasks().items():
        if dataset and dataset in getattr(task, "writes", ()):
            raise SettingError(f"{family} writes a dataset {dataset} already; take another name")


def _refuse_files(folder: Path, made: Iterable[str]) -> None:
    for name in made:
        if (folder / name).exists():
            raise SettingError(f"{folder / name} is there already; take another name, or move it away")


def _filled(template: str, words: Mapping[str, str]) -> str:
    text = resources.files("millrace.ops").joinpath("templates", f"{template}.tmpl").read_text(encoding="utf-8")
    return re.sub(r"%%(\w+)%%", lambda found: words[found[1]], text)


def _write(folder: Path, made: Mapping[str, str], words: Mapping[str, str]) -> None:
    for name, template in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(_filled(template, words), encoding="utf-8")


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _set(path: Path, section: str, added: str) -> None:
    """Put lines after the last key of a section of luigi.cfg."""
    lines = path.read_text(encoding="utf-8").splitlines()
    inside, at = False, None
    for number, line in enumerate(lines):
        if line.startswith("["):
            inside = line.partition("]")[0] == f"[{section}"
        if inside and line.strip() and not line.startswith(("#", ";")):
            at = number + 1
    if at is None:
        lines, at = [*lines, "", f"[{section}]"], len(lines) + 2
    path.write_text("\n".join([*lines[:at], added.rstrip("\n"), *lines[at:]]) + "\n", encoding="utf-8")


def _offer(path: Path, module: str, names: Sequence[str]) -> None:
    """Have workflows/__init__.py import tasks of a module and name them in its __all__."""
    text = _importing(path.read_text(encoding="utf-8"), module, names)
    for node in ast.parse(text).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            listed = sorted({*ast.literal_eval(node.value or ast.List([])), *names})
            text = _replaced(text, node, _listing("__all__ = [", [f'"{each}"' for each in listed], "]"))
    path.write_text(text, encoding="utf-8")


def _importing(text: str, module: str, names: Sequence[str]) -> str:
    """Return a module's text with an import of names from another module, or of that itself, where isort has it."""
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == module and names:
            all_names = sorted({*(alias.name for alias in node.names), *names}, key=_by_kind)
            return _replaced(text, node, _import(module, all_names))
    line = _import(module, sorted(names, key=_by_kind)) if names else f"import {module}"
    lines, after = text.split("\n"), [node for node in nodes if _place(node) <= (bool(names), module)]
    if not nodes:  # below the docstring
        at = ast.parse(text).body[0].end_lineno or 0
        return "\n".join([*lines[:at], "", line, *lines[at:]])
    at = (after[-1].end_lineno or 0) if after else nodes[0].lineno - 1
    return "\n".join([*lines[:at], line, *lines[at:]])


def _place(node: ast.Import | ast.ImportFrom) -> tuple[bool, str]:
    return isinstance(node, ast.ImportFrom), str(
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
    )


def _by_kind(name: str) -> tuple[int, str]:
    """Return what isort sorts names by: constants, classes, functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name.lower())


def _import(module: str, names: Sequence[str]) -> str:
    return _listing(f"from {module} import ", names, "", "(", ")")


def _listing(before: str, names: Sequence[str], after: str, *around: str) -> str:
    """Return names on a line or, where they are too many for one, on a line each."""
    line = f"{before}{', '.join(names)}{after}"
    if len(line) <= _WIDTH:
        return line
    first, last = around or ("", "")
    return "\n".join([f"{before}{first}", *(f"    {name}," for name in names), f"{last}{after}"])


def _replaced(text: str, node: ast.stmt, by: str) -> str:
    lines = text.split("\n")
    return "\n".join([*lines[: node.lineno - 1], by, *lines[node.end_lineno or node.lineno :]])


def _with_setting(text: str, section: str, setting: str) -> str:
    """Return a workflow's text with one more setting at the end of its section."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and node.name == section:
            lines = text.split("\n")
            return "\n".join([*lines[: node.end_lineno], setting.rstrip("\n"), *lines[node.end_lineno or 0 :]])
    raise SettingError(f"{_TASKS}/{section}.py has no class {section}(Settings), to which the setting would go")


def _tell(made: Iterable[str], run: str) -> None:
    click.echo("".join(f"{name}\n" for name in made) + f"Now: {run}")
