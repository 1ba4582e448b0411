"""Data plane tokens: JSON Web Tokens (RFC 7519, HS256) that bind a stream to a mesh and a data plane.

Claims are named as Kuma names them, and refusals are Kuma's. A token is looked at when a stream begins; a stream
that has begun goes on when it expires.
"""

import base64
import binascii
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshdns.errors import ResourceError, StoreError

KEY_FILE = "tokens.key"
"""In ``data_dir``. Who can read it can make tokens; without it a new one is made, and all tokens are void."""

_KEY_LENGTH = 32
_HEADER = {"alg": "HS256", "typ": "JWT"}
_UNREADABLE = "authentication failed: could not parse token"


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says. expires: unix seconds."""

    mesh: str
    name: str
    expires: int


def read_key(data_dir: Path) -> bytes:
    """Give the key of the instance in *data_dir*; makes it, readable by its owner only, where there is none.

    Raises StoreError when it cannot be made or read, is too short, or others may read it.
    """
    path = data_dir / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise StoreError(f"{path}: others than its owner may read it, and make tokens with it; chmod 600 it")
        key = path.read_bytes()
    except OSError as fault:
        raise StoreError(f"{path}: {fault.strerror}") from None
    if len(key) < _KEY_LENGTH:
        raise StoreError(f"{path}: holds {len(key)} octets, and a key has {_KEY_LENGTH}; take it away for a new one")
    return key


def _make(path: Path) -> None:
    """Write a new key; of two processes that do so at once, both go on with the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(secrets.token_bytes(_KEY_LENGTH))
            file.flush()
            os.fsync(descriptor)
        try:
            path.hardlink_to(part)
        except FileExistsError:
            pass
    finally:
        part.unlink()


def sign(token: Token, key: bytes, *, now: float) -> str:
    """Give *token* signed with *key*. now: unix seconds, when it begins to be valid."""
    claims = {
        "Mesh": token.mesh, "Name": token.name, "Type": "dataplane",
        "iat": int(now), "nbf": int(now) - 300, "exp": token.expires,
    }  # fmt: skip
    signed = f"{_encode(_json(_HEADER))}.{_encode(_json(claims))}"
    return f"{signed}.{_encode(_signature(signed, key))}"


def check(text: str, mesh: str, name: str, key: bytes, *, now: float) -> None:
    """Refuse a token that does not let data plane *name* of *mesh* in; raises ResourceError in Kuma's words."""
    claims = _claims(text, key)
    if not isinstance(claims.get("exp"), int | float) or claims["exp"] <= now:
        raise ResourceError(f"{_UNREADABLE}: token has invalid claims: token is expired")
    if isinstance(claims.get("nbf"), int | float) and claims["nbf"] > now:
        raise ResourceError(f"{_UNREADABLE}: token has invalid claims: token is not valid yet")
    for what, asked, given in (("mesh", mesh, claims.get("Mesh")), ("proxy name", name, claims.get("Name"))):
        if asked != given:
            problem = f"{what} from requestor: {asked} is different than in token: {given}"
            raise ResourceError(f"authentication failed: {problem}")


def _claims(text: str, key: bytes) -> dict[str, Any]:
    parts = text.split(".")
    if len(parts) != 3:
        raise ResourceError(f"{_UNREADABLE}: token is malformed: token contains an invalid number of segments")
    try:
        header, claims = (json.loads(_decode(part)) for part in parts[:2])
        signature = _decode(parts[2])
    except (ValueError, RecursionError):
        raise ResourceError(f"{_UNREADABLE}: token is malformed: it is not base64 and JSON") from None
    if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("alg") != _HEADER["alg"]:
        raise ResourceError(f"{_UNREADABLE}: token is unverifiable: it is not signed with {_HEADER['alg']}")
    if not hmac.compare_digest(signature, _signature(f"{parts[0]}.{parts[1]}", key)):
        raise ResourceError(f"{_UNREADABLE}: token signature is invalid: another key signed it")
    return claims


def _signature(text: str, key: bytes) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
