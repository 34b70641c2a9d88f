"""The table of the measure: what each test showed, as docs/localcloud-clients.md has it."""

import importlib.metadata
import inspect
import json
import re
from pathlib import Path

import pytest

_HEAD = """\
# What other clients do with the local cloud

`make test-clients` runs programs and clients that know nothing of it, unchanged, against `localcloud`, and writes this
page: {passed} of {all} pass. With apache-beam {beam}, {versions}.

**refused** is what the local cloud refuses by name and in one sentence; **fails** is what is not right yet, and why.
"""
#: What each test is about: its module's docstring and its own, by its id.
_about: dict[str, tuple[str, str]] = {}
#: The same, and how it ended.
_found: dict[str, tuple[str, str, str]] = {}


def describe(item: pytest.Item, report: pytest.TestReport) -> None:
    """Remember what a test is about: its module's docstring, and its own."""
    module = inspect.getdoc(getattr(item, "module", None)) or item.nodeid
    claim = inspect.getdoc(getattr(item, "obj", None)) or item.name
    _about[report.nodeid] = module.splitlines()[0].rstrip("."), " ".join(claim.split()).rstrip(".")


def record(report: pytest.TestReport) -> None:
    """Remember how a test ended."""
    if report.when != "call" and not (report.failed or report.skipped):
        return
    if hasattr(report, "wasxfail") and not report.passed:
        reason = report.wasxfail.removeprefix("reason: ")
        outcome = reason if reason.startswith("refused") else f"fails: {reason}"
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        outcome = f"not tried: {reason.removeprefix('Skipped: ')}"
    else:
        outcome = "passes" if report.passed else "fails"
    _found[report.nodeid] = (*_about[report.nodeid], outcome)


def write(path: Path, kept: Path, versions: str) -> None:
    """Write the page, of this run and of what earlier ones have left for it of the tests that this one did not run."""
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    # The order is that of the files and of the tests in them; a test that is no more is not found there.
    files = {
        each.name: each.read_text(encoding="utf-8")
        for each in sorted((path.parents[1] / "tests/clients").glob("test_*"))
    }
    every = {
        id: tuple(result)
        for name, text in files.items()
        for test in re.findall(r"^def (test_\w+)", text, re.MULTILINE)
        for id, result in ({**before, **_found}).items()
        if id == f"tests/clients/{name}::{test}"
    }
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(every), encoding="utf-8")
    outcomes = [outcome for *_, outcome in every.values()]
    beam = importlib.metadata.version("apache-beam")
    page = _HEAD.format(passed=outcomes.count("passes"), all=len(outcomes), beam=beam, versions=versions)
    for module in dict.fromkeys(module for module, *_ in every.values()):
        page += f"\n## {module}\n\n| what | result |\n|---|---|\n"
        page += "".join(
            f"| {_cell(claim)} | {_cell(end)} |\n" for about, claim, end in every.values() if about == module
        )
    path.write_text(page, encoding="utf-8")


def _cell(text: str) -> str:
    return re.sub(r"^(passes|refused|fails|not tried)", r"**\1**", text.replace("|", r"\|"))
