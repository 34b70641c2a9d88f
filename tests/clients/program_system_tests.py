"""A plugin of pytest for Google's system tests: their client has a service account that nobody is asked about.

With STORAGE_EMULATOR_HOST Google's client is anonymous, and the tests that need to know who they are skip themselves.
"""

import datetime
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud import storage
from google.oauth2 import service_account

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_ACCOUNT = {
    "type": "service_account",
    "client_email": "tester@example.com",
    "token_uri": "http://localhost:1/token",
    "private_key": _KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode(),
}


class Account(service_account.Credentials):
    """A service account whose token is made up."""

    def refresh(self, request: Any) -> None:
        self.token, self.expiry = "fake", datetime.datetime(2099, 1, 1)

    def with_scopes(self, *scopes: Any, **more: Any) -> "Account":
        return self


_begin = storage.Client.__init__


def _begin_known(self: Any, *args: Any, **named: Any) -> None:
    if len(args) < 2:
        known = Account.from_service_account_info(_ACCOUNT)  # type: ignore[no-untyped-call]
        named["credentials"] = named.get("credentials") or known
    _begin(self, *args, **named)


storage.Client.__init__ = _begin_known
