"""The house's rules: imports point one way, the public names are what they should be, and nothing heavy comes early."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import luigi
import pytest
import running

import millrace
import workflows
from millrace import Service, Stage, StopService, TemplateJob

GOOGLE = ("google.cloud", "googleapiclient", "apache_beam.io.gcp")
HEAVY = {
    "apache_beam",
    "duckdb",
    "pyarrow",
    "sqlglot",
    "vl_convert",
    "jinja2",
    "pandas",
    "google.cloud.storage",
}


def modules(*packages: str) -> list[Path]:
    """The Python files of some folders of the project."""
    return [path for package in packages for path in sorted((running.ROOT / package).rglob("*.py"))]


def imports(path: Path, everywhere: bool = True) -> Iterator[str]:
    """The modules that a file imports: everywhere in it, or only where it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else _at_import(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """What runs when a module is imported: not what stands in functions or under TYPE_CHECKING."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for name in ("body", "orelse", "finalbody"):
            yield from _at_import(getattr(node, name, []))


def offending(paths: list[Path], forbidden: tuple[str, ...], everywhere: bool = True) -> list[str]:
    """Imports of forbidden modules, or of what lies in them."""
    return [
        f"{path.relative_to(running.ROOT)} imports {name}"
        for path in paths
        for name in imports(path, everywhere)
        if any(f"{name}.".startswith(f"{module}.") for module in forbidden)
    ]


def test_pipelines_know_neither_luigi_nor_workflows() -> None:
    """What ships to workers never imports luigi, workflows, or what of the library does not ship."""
    stays = tuple(f"millrace.{name}" for name in ("core", "gcloud", "runners", "tasks", "ops"))
    for shipped in ("pipelines", "millrace/beam", "millrace/common"):
        assert modules(shipped)
        assert offending(modules(shipped), ("luigi", "workflows", *stays)) == []


def test_the_translation_of_sql_knows_nothing_of_ours() -> None:
    """bigquery_sql/ is of use to anybody with DuckDB: it imports nothing of ours but itself."""
    assert modules("bigquery_sql")
    assert offending(modules("bigquery_sql"), ("luigi", "millrace", "pipelines", "workflows", "tests", *GOOGLE)) == []


def test_the_local_cloud_and_the_library_do_not_know_each_other() -> None:
    """localcloud/ imports nothing of ours but the translation of SQL, and no tool of tests but in the plugin for one;
    nothing imports it.
    """
    assert modules("localcloud")
    assert offending(modules("localcloud"), ("luigi", "millrace", "pipelines", "workflows", "tests")) == []
    rest = [path for path in modules("localcloud") if path.name != "pytest_plugin.py"]
    assert offending(rest, ("pytest",)) == []
    ours = modules("bigquery_sql", "millrace", "pipelines", "workflows")
    assert offending(ours, ("localcloud", "tests")) == []


def test_the_suites_of_contracts_need_pytest_and_nothing_else_of_tests() -> None:
    """millrace/testing knows contracts and no luigi, cloud or settings; nothing else of the library imports it."""
    suites = modules("millrace/testing")
    assert suites
    others = (
        "luigi",
        "hypothesis",
        "localcloud",
        "tests",
        "millrace.gcloud",
        "millrace.tasks",
        "millrace.ops",
        *GOOGLE,
    )
    assert offending(suites, others) == []
    assert offending([path for path in modules("millrace") if path not in suites], ("millrace.testing", "pytest")) == []


def test_the_library_knows_no_workflow() -> None:
    """millrace/ never imports a workflow's module, the report, or a pipeline."""
    assert (
        offending(
            modules("millrace"),
            ("workflows.posts", "workflows.report", "workflows.digit_report", "workflows.pages", "pipelines.posts"),
        )
        == []
    )


def test_pages_know_neither_luigi_nor_the_engine() -> None:
    """A page is made of a query: what makes pages never imports luigi or a task."""
    makers = modules("workflows/pages", "workflows/report", "workflows/digit_report")
    assert offending(makers, ("luigi", "workflows.posts", "millrace.tasks")) == []


def test_google_clients_are_built_in_one_file() -> None:
    """No file but millrace/gcloud/clients.py builds a Google client; in what ships to workers, none but those named
    after a service.
    """
    names = ("gcloud/clients.py", "beam/bigquery.py", "beam/gcs.py", "beam/pubsub.py")
    builders = {running.ROOT / "millrace" / name for name in names}
    others = [path for path in modules("workflows", "millrace", "pipelines") if path not in builders]
    assert {line for path in others for line in built(path)} == set()
    assert all(set(built(path)) for path in builders)


def built(path: Path) -> Iterator[str]:
    """Calls in a file of what is named like one of Google's clients, with the module it is of."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called.endswith("Client") and called not in ("Client", "distributed.Client"):  # Dask's is none of Google's
            yield f"{path.relative_to(running.ROOT)} calls {called}"


def test_beam_is_imported_only_to_run_a_pipeline() -> None:
    """No module but those that ship to workers imports Beam where it is itself imported."""
    paths = modules(
        "workflows", *(f"millrace/{name}" for name in ("common", "core", "gcloud", "runners", "tasks", "ops"))
    )
    assert offending(paths, ("apache_beam",), everywhere=False) == []


def test_public_tasks_are_sorted_tasks() -> None:
    """workflows.__all__ is sorted, and each name in it is a task that `--module workflows` offers, with a docstring."""
    assert list(workflows.__all__) == sorted(workflows.__all__)
    for name in workflows.__all__:
        task = getattr(workflows, name)
        assert issubclass(task, Stage | Service | StopService | TemplateJob)
        assert task is luigi.task_register.Register.get_task_cls(name)
        assert task.__doc__


def test_workflows_import_the_public_face_alone() -> None:
    """A workflow's module imports the standard library, luigi, pipelines and names of `millrace`; lazily and for types
    too. Its page may use other libraries, but of ours nothing else.
    """
    public = {f"millrace.{name}" for name in millrace.__all__}
    files = modules("workflows")
    others = [f"{path.name}: {name}" for path in files for name in imports(path) if name.startswith("millrace")]
    assert [each for each in others if each.partition(": ")[2] not in public] == []
    tops = {name.partition(".")[0] for path in files if path.parent.name == "workflows" for name in imports(path)}
    assert tops <= {*sys.stdlib_module_names, "luigi", "millrace", "pipelines", "workflows"}
    assert offending(files, ("bigquery_sql", "localcloud", "tests")) == []


def test_the_public_face_is_sorted_and_leads_to_its_homes() -> None:
    """millrace.__all__ is sorted, each name is what its home calls so and says what it is, and typing sees the same."""
    assert millrace.__all__ == sorted(millrace.HOMES) == sorted(set(millrace.__all__))
    for name, home in millrace.HOMES.items():
        found = getattr(millrace, name)
        assert found is getattr(importlib.import_module(home), name)
        assert found.__doc__, name
    typed = {name for name in imports(running.ROOT / "millrace" / "__init__.py") if name.startswith("millrace.")}
    assert typed == {f"{home}.{name}" for name, home in millrace.HOMES.items()}
    assert {*millrace.__all__} <= {*dir(millrace)}
    with pytest.raises(AttributeError, match="'millrace' has no attribute 'Nothing'"):
        millrace.Nothing  # noqa: B018


def test_importing_the_library_imports_nothing() -> None:
    """Workers import `millrace` on the way to millrace.beam: nothing of luigi, Beam or the tasks comes with it, nor
    with a name that is of neither.
    """
    code = (
        "import sys, millrace; millrace.Table, millrace.plain, millrace.NotThereYetError; print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=running.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {name for name in done.stdout.split() if name.partition(".")[0] in ("millrace", "luigi", "apache_beam")}
    assert loaded == {
        "millrace",
        "millrace.common",
        "millrace.common.tables",
        "millrace.common.text",
        "millrace.errors",
    }


def test_no_path_or_client_stands_in_a_workflow() -> None:
    """A workflow's module opens no file, starts no process and asks no server."""
    files = list((running.ROOT / "workflows").glob("*.py"))
    assert offending(files, ("os", "pathlib", "subprocess", "requests", "shutil", *GOOGLE)) == []


@pytest.mark.parametrize("module", ["workflows", "millrace.ops.query", "millrace.ops.clear"])
def test_import_is_light(module: str) -> None:
    """Importing the workflows, or one of their commands, imports nothing that only a pipeline or a page needs."""
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=running.environment(),
        cwd=running.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not HEAVY & set(done.stdout.split())


def test_no_path_of_a_machine_stands_in_the_project() -> None:
    """No file names a folder of the machine that it was written on."""
    told = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/\w")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=running.ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    texts = [
        running.ROOT / name for name in listed if name.endswith((".py", ".cfg", ".toml", ".md", ".example", "Makefile"))
    ]
    assert [str(path) for path in texts if path.exists() and told.search(path.read_text(encoding="utf-8"))] == []
