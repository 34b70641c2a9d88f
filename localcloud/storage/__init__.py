"""Cloud Storage on this machine: the parts of its JSON API that Google's clients and Beam use, with state in memory."""

from localcloud.storage.service import Storage
from localcloud.storage.state import PIECE

__all__ = ["PIECE", "Storage"]
