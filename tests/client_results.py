"""The table of the measure: what each test showed, as docs/localcloud-clients.md has it."""

import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest

_HEAD = """\
# What other clients do with the local cloud

`make test-clients` runs programs and clients that know nothing of it, unchanged, against `localcloud`, and writes this
page: {passed} of {all} pass. With apache-beam {beam}, {versions}.

**refused** is what the local cloud refuses by name and in one sentence; **fails** is what is not right yet, and why.
"""
#: What each test is about, and how it ended: module → {test: (claim, outcome)}.
_found: dict[str, dict[str, tuple[str, str]]] = {}
_ABOUT: dict[str, tuple[str, str]] = {}


def describe(item: pytest.Item, report: pytest.TestReport) -> None:
    """Remember what a test is about: its module's docstring, and its own."""
    module = inspect.getdoc(getattr(item, "module", None)) or item.nodeid
    claim = inspect.getdoc(getattr(item, "obj", None)) or item.name
    if case := re.search(r"\[(.*)\]$", item.name):
        claim = f"{case[1]}: {claim}" if "{}" not in claim else claim.replace("{}", case[1])
    _ABOUT[report.nodeid] = (module.splitlines()[0], " ".join(claim.split()))


def record(report: pytest.TestReport) -> None:
    """Remember how a test ended."""
    if report.when != "call" and not (report.failed or report.skipped):
        return
    module, claim = _ABOUT[report.nodeid]
    if hasattr(report, "wasxfail") and not report.passed:
        reason = report.wasxfail.removeprefix("reason: ")
        outcome = reason if reason.startswith("refused") else f"fails: {reason}"
    elif report.skipped:
        outcome = "not tried"
    else:
        outcome = "passes" if report.passed else "fails"
    _found.setdefault(module, {})[report.nodeid] = (claim, outcome)


def whole(session: pytest.Session) -> bool:
    """Return whether a run had every test, and each of them ended in a way that a page may tell."""
    files = {path.name for path in (Path(__file__).parent / "clients").glob("test_*.py")}
    ran = {Path(item.nodeid.split("::")[0]).name for item in session.items}
    count = sum(map(len, _found.values()))
    chosen = session.config.option.keyword or session.config.option.markexpr
    return files == ran and not chosen and count == len(session.items) and not session.testsfailed


def write(path: Path, versions: str) -> None:
    """Write the page."""
    outcomes = [outcome for tests in _found.values() for _, outcome in tests.values()]
    beam = importlib.metadata.version("apache-beam")
    text = _HEAD.format(passed=outcomes.count("passes"), all=len(outcomes), beam=beam, versions=versions)
    for module, tests in _found.items():
        text += f"\n## {module.rstrip('.')}\n\n| what | result |\n|---|---|\n"
        text += "".join(
            f"| {_cell(claim).removesuffix('.')} | {_cell(outcome)} |\n" for claim, outcome in tests.values()
        )
    path.write_text(text, encoding="utf-8")


def _cell(text: str) -> str:
    return re.sub(r"^(passes|refused|fails|not tried)", r"**\1**", text.replace("|", r"\|"))
