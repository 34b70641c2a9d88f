"""docs/localcloud-api.md says what the services serve of Google's APIs."""

import importlib.util
import subprocess

import pytest
import running


@pytest.mark.skipif(not importlib.util.find_spec("googleapiclient"), reason="it has the discovery documents")
def test_the_page_is_what_the_services_say() -> None:
    """Every method of Google's discovery documents is on the page, as the services themselves take it."""
    program = running.ROOT / "docs" / "localcloud_api.py"
    made = subprocess.run([running.python(), program, "--print"], env=running.environment(), capture_output=True)
    assert made.returncode == 0, made.stderr
    written = program.with_name("localcloud-api.md").read_bytes()
    assert written == made.stdout, "python docs/localcloud_api.py writes the page anew"
