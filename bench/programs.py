"""The programs that are measured beside ours, and those that measure: where they are, and which version."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as package_version
from pathlib import Path

from bench.instance import ROOT
from tests.parts import COREDNS, ENVOY, PARTS, which

PACKAGES = ("meshdns", "lmdb", "cachetools", "dnslib", "asyncio-dgram", "grpcio", "protobuf", "pydantic")
"""Of ours, what the table names the versions of."""

PEERS = ("unbound", "knotd", "dnsmasq", "coredns", "envoy", "kresd")
"""Servers that are measured beside ours."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program. path: None where it is not here. hint: what to type to get it. asks: words that print its version.

    version: finds the version in what it prints.
    """

    title: str
    path: Path | None
    hint: str
    asks: Sequence[str] = ("--version",)
    version: str = r"(\d+\.\d+[.\d]*)"


def _part(title: str, part: str, path: Path | str, *asks: str) -> Program:
    """Give a program as the tests know it."""
    found = PARTS[part]
    where = None
    if found.present():
        where = path if isinstance(path, Path) else which(path)
    return Program(title, where, found.hint, asks or ("--version",))


def _compiler() -> Program:
    path = shutil.which("cc")
    return Program(
        "C compiler", None if path is None else Path(path), "apt-get install gcc libc6-dev", ("-dumpfullversion",)
    )


@cache
def programs() -> dict[str, Program]:
    """Give every program by its command's name; looked for once."""
    return {
        "cc": _compiler(),
        "dnsperf": _part("dnsperf", "dnsperf", "dnsperf", "-h"),
        "unbound": _part("Unbound", "unbound", "unbound", "-V"),
        "knotd": _part("Knot DNS", "knot", "knotd", "-V"),
        "dnsmasq": _part("dnsmasq", "dnsmasq", "dnsmasq"),
        "coredns": _part("CoreDNS", "coredns", COREDNS, "-version"),
        "envoy": _part("Envoy", "envoy", ENVOY),
        "kresd": _part("Knot Resolver", "knot-resolver", "kresd", "-V"),
    }


def found(command: str) -> Path:
    """Give where *command* is, which must be here."""
    path = programs()[command].path
    assert path is not None, command
    return path


def missing(*commands: str) -> str:
    """Say which of *commands* are not here and how to get them; nothing when all are."""
    absent = [program for name in commands if (program := programs()[name]).path is None]
    return "; ".join(f"{program.title} is not here: {program.hint}" for program in absent)


def versions() -> dict[str, str]:
    """Give the version of everything that is here: programs, Python and our packages."""
    numbers = {
        program.title: _version(program, program.path) for program in programs().values() if program.path is not None
    }
    numbers["Python"] = platform.python_version()
    return numbers | {name: package_version(name) for name in PACKAGES}


def _version(program: Program, path: Path) -> str:
    done = subprocess.run([path, *program.asks], capture_output=True, text=True, check=False)
    match = re.search(program.version, done.stdout + done.stderr)
    return match[1].rstrip(".") if match else "unknown"


def commit() -> str:
    """Give which state of the checkout is measured; ``+`` behind it for changes that are not committed."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def machine() -> dict[str, str]:
    """Give what the figures depend on of this machine."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cores": str(os.cpu_count()),
        "processor": model[1] if model else platform.machine(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }


def build(source: str, directory: Path) -> Path:
    """Compile *source* of this folder into *directory*; give the program."""
    binary = directory / Path(source).stem
    subprocess.run([str(found("cc")), "-O2", "-Wall", "-o", str(binary), str(ROOT / "bench" / source)], check=True)
    return binary
