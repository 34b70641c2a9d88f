"""Fixtures that tests of several folders share."""

from pathlib import Path

import pytest
import running


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of an undisturbed run over two days of the sample; not to be changed."""
    storage = tmp_path_factory.mktemp("undisturbed") / "data"
    running.succeed("Report", "--date", running.DAY, "--days", 1, storage=storage)
    return storage
