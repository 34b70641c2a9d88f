"""Contracts as tests: what keeps `Storage`, `Warehouse` or `Runner` passes the suite of its contract.

    from millrace.testing import StorageContract

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def opens(self, tmp_path):
            return functools.partial(MyStorage, str(tmp_path))

Each suite is a class of pytest tests, and says in its docstring which fixtures it takes. It needs pytest, and nothing
else that the library does not need.
"""

import pytest

# So that a failure shows the values that an assertion compares.
pytest.register_assert_rewrite(*(f"millrace.testing.{name}" for name in ("runner", "storage", "warehouse")))

from millrace.testing.runner import RunnerContract
from millrace.testing.storage import StorageContract
from millrace.testing.warehouse import WarehouseContract

__all__ = ["RunnerContract", "StorageContract", "WarehouseContract"]
