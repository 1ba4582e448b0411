"""The operator's files for one attempt, read anew each time: they rotate while we run."""

import ssl
from pathlib import Path

from meshdns.xds.refusal import Refusal, StreamEndedError


def read_token(file: Path | None) -> str:
    """Give the token in *file* without white space around it; empty without a file.

    Raises StreamEndedError when the file cannot be read or cannot be a token: gRPC would refuse a header with a line
    end in words that nobody understands.
    """
    if file is None:
        return ""
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        raise _local(f"token_file {file} cannot be read: {error.strerror}", "it is tried again") from None
    if not token:
        raise _local(f"token_file {file} is empty", "put a data plane token into it")
    if not all(0x21 <= octet <= 0x7E for octet in token):
        raise _local(f"token_file {file} holds more than a token", 'put the raw token into it, without "Bearer"')
    return token.decode("ascii")


def read_ca(file: Path) -> bytes:
    """Give the certificates in *file*. Raises StreamEndedError when there are none."""
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise _local(f"ca_file {file} cannot be read: {error.strerror}", "it is tried again") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii"))
    except (ValueError, ssl.SSLError):
        raise _local(f"ca_file {file} holds no certificate", "it must hold the certificate in PEM form") from None
    return pem


def _local(reason: str, remedy: str) -> StreamEndedError:
    return StreamEndedError(Refusal("local", reason, remedy))
