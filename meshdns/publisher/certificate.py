"""The server's certificate: the operator's, or one that signs itself, made once with the ``openssl`` command.

Blocking. Python's standard library can use certificates but not make them.
"""

import shutil
import socket
import subprocess
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from meshdns.errors import StoreError
from meshdns.publisher.settings import PublisherSettings

DAYS = 3650
"""For how long a self-made certificate is valid (Kuma's own: ten years)."""

_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM. chain: what clients are shown; of a self-made one that is also what they must trust."""

    chain: bytes
    key: bytes


def read_certificate(settings: PublisherSettings, data_dir: Path) -> Certificate | None:
    """Give the certificate that *settings* mean, made in *data_dir* where they name none; None: plaintext.

    Raises StoreError when it cannot be read or made.
    """
    if settings.plaintext:
        return None
    chain, key = certificate_files(settings, data_dir)
    if settings.cert_file is None and not (chain.exists() and key.exists()):
        _make(chain, key, settings.listen_host)
    try:
        return Certificate(chain.read_bytes(), key.read_bytes())
    except OSError as fault:
        raise StoreError(f"{fault.filename}: {fault.strerror}") from None


def certificate_files(settings: PublisherSettings, data_dir: Path) -> tuple[Path, Path]:
    """Give where certificate and key are: as configured, else where self-made ones are kept (one for an address)."""
    if settings.cert_file is not None and settings.key_file is not None:
        return settings.cert_file, settings.key_file
    directory = data_dir / "tls"
    return directory / f"{settings.listen_host}.crt", directory / f"{settings.listen_host}.key"


def names_of(listen_host: str) -> list[str]:
    """Give the names that a self-made certificate is for: the address, the machine's name, this machine itself."""
    names = ["DNS:localhost", "IP:127.0.0.1", "IP:::1"]
    host = socket.gethostname()
    if host and host != "localhost" and len(host) <= 253 and host.isascii():
        names.insert(0, f"DNS:{host}")
    address = ip_address(listen_host)
    if not address.is_unspecified and f"IP:{address}" not in names:
        names.insert(0, f"IP:{address}")
    return names


def _make(chain: Path, key: Path, listen_host: str) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise StoreError(
            "there is no openssl command to make a certificate with: install it, or set cert_file and key_file "
            f"(for {', '.join(names_of(listen_host))}), or plaintext: true on loopback"
        )
    parts = [path.with_name(f".{path.name}.new") for path in (chain, key)]
    try:
        chain.parent.mkdir(parents=True, exist_ok=True)
        chain.parent.chmod(0o700)
        words = [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", str(DAYS), "-subj", "/CN=meshdns", "-addext", f"subjectAltName={','.join(names_of(listen_host))}",
            "-out", str(parts[0]), "-keyout", str(parts[1]),
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, timeout=_PATIENCE, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise StoreError(f"openssl could not make a certificate: {said[-1] if said else done.returncode}")
        parts[1].chmod(0o600)
        parts[1].replace(key)
        parts[0].replace(chain)
    except OSError as fault:
        raise StoreError(f"{fault.filename}: {fault.strerror}") from None
    except subprocess.TimeoutExpired:
        raise StoreError(f"openssl did not make a certificate within {_PATIENCE:g} s") from None
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
