"""The page for whoever is on call: each sentence that it explains is one that the product says."""

import ast
import re

import pytest
import running

_OPERATION = (running.ROOT / "docs" / "operation.md").read_text(encoding="utf-8")


def explained() -> list[str]:
    """The sentences of the table, their parts that vary as `…`."""
    table = _OPERATION.partition("| the sentence says |")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    return [sentence for cell in cells for sentence in re.findall("`([^`]+)`", cell)]


def said() -> list[str]:
    """All texts in the product's code, what is put into them as `…`; and bin/run, as it stands."""
    texts = [(running.ROOT / "bin" / "run").read_text(encoding="utf-8").replace("$1", "…")]
    for folder in ("millrace", "pipelines", "workflows"):
        for path in (running.ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                    texts.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return texts


_SAID = said()


@pytest.mark.parametrize("sentence", explained())
def test_what_the_table_explains_is_said(sentence: str) -> None:
    """The words of each sentence stand in the code, in this order."""
    words = [re.escape(part) for part in sentence.strip("… ").split("…")]
    pattern = re.compile(".*".join(words), re.DOTALL)
    assert [text for text in _SAID if pattern.search(text)]


def test_the_table_is_there() -> None:
    """It explains what runs fail of most."""
    assert len(explained()) >= 15
