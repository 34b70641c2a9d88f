"""The one place where what reaches the outside is built: the storage, and later every Google client.

Tests put their own in front through `use_storage`, the one seam for that.
"""

import functools
from collections.abc import Callable

from workflows.engine.settings import millrace
from workflows.engine.storage import LocalStorage, Storage
from workflows.engine.warehouse import LocalWarehouse

_wrap: Callable[[Storage], Storage] | None = None


def storage() -> Storage:
    """The storage that the settings name."""
    return _storage(millrace().storage)


@functools.cache
def _storage(root: str) -> Storage:
    return _wrap(LocalStorage(root)) if _wrap else LocalStorage(root)


def warehouse() -> LocalWarehouse:
    """The warehouse over that storage."""
    return LocalWarehouse(storage())


def use_storage(wrap: Callable[[Storage], Storage] | None) -> None:
    """From now on every storage is what `wrap` makes of it; None takes that back."""
    global _wrap
    _wrap = wrap
    _storage.cache_clear()
