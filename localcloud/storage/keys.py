"""Keys that customers bring: an object that was written with one is read with the same one only."""

import base64
import binascii
import hashlib
from email.message import Message
from typing import Any

from localcloud.storage.state import Object, RefusedError

#: The headers' beginning where the key is the object's, and where it is that of a copy's source.
OWN, SOURCE = "X-Goog-Encryption-", "X-Goog-Copy-Source-Encryption-"


def given(headers: Message, kind: str = OWN) -> dict[str, str] | None:
    """Return what is told of the key that a request brings: its algorithm and digest; None where it brings none."""
    algorithm, key, digest = (headers.get(kind + name) for name in ("Algorithm", "Key", "Key-Sha256"))
    if algorithm is None and key is None and digest is None:
        return None
    if algorithm != "AES256":
        raise RefusedError(
            400,
            f"The encryption algorithm {algorithm!r} is not supported; use AES256.",
            "customerEncryptionAlgorithmIsInvalid",
        )
    try:
        secret = base64.b64decode(key or "", validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != 32:
        raise RefusedError(
            400,
            "Missing an encryption key, or it is not base64 encoded, or it does not meet the required length of the "
            "encryption algorithm.",
            "customerEncryptionKeyFormatIsInvalid",
        )
    found = base64.b64encode(hashlib.sha256(secret).digest()).decode()
    if digest != found:
        raise RefusedError(
            400,
            "Missing a SHA256 hash of the encryption key, or it is not base64 encoded, or it does not match the "
            "encryption key.",
            "customerEncryptionKeySha256IsInvalid",
        )
    return {"encryptionAlgorithm": "AES256", "keySha256": found}


def unlock(there: Object, key: dict[str, str] | None) -> None:
    """Refuse to read an object without its key, or with one that it has not."""
    locked = there.resource.get("customerEncryption")
    if locked and not key:
        raise RefusedError(
            400,
            "The target object is encrypted by a customer-supplied encryption key.",
            "resourceIsEncryptedWithCustomerEncryptionKey",
        )
    if key and not locked:
        raise RefusedError(
            400,
            "The target object is not encrypted by a customer-supplied encryption key.",
            "resourceNotEncryptedWithCustomerEncryptionKey",
        )
    if locked != key:
        raise RefusedError(400, "The provided encryption key is incorrect.", "customerEncryptionKeyIsIncorrect")


def shown(resource: dict[str, Any], key: dict[str, str] | None) -> dict[str, Any]:
    """Return a resource without the checksums that only whoever has the key is told."""
    locked = resource.get("customerEncryption")
    if not locked or locked == key:
        return resource
    return {name: value for name, value in resource.items() if name not in ("crc32c", "md5Hash")}


def answered(key: dict[str, str] | None) -> dict[str, str]:
    """Return the headers that say which key an upload or a download was made with."""
    return {OWN + "Algorithm": key["encryptionAlgorithm"], OWN + "Key-Sha256": key["keySha256"]} if key else {}
