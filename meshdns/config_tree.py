"""The configuration file before its meaning: text → a plain tree with ``${NAME}`` replaced and paths absolute.

Finds what no model can see: YAML's own faults, keys that are there twice, variables that are not set, files that are
missing or not what they should be, sources that cannot be together. Every fault comes with the path of its key.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from meshdns.config_faults import KeyPath, key_of, shown
from meshdns.errors import Fault
from meshdns.yaml_document import YamlList, YamlMapping

MAX_SIZE = 1 << 20
"""Octets of a configuration, or of a certificate or token that it names; more is some other file."""

Finding = tuple[KeyPath, str, int | None]
"""Where, what, and the line if it is not that of the key."""

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_CERTIFICATE = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----(.*?)-----END ", re.DOTALL)


class UnusableError(Exception):
    """A file cannot be used; the message says why and not which."""


def read_whole(file: Path) -> bytes:
    """Give the content of *file*; raises UnusableError also for what is larger than ``MAX_SIZE``."""
    try:
        if file.is_fifo():  # opening it would wait for its writer
            raise UnusableError("is a pipe")
        with file.open("rb") as stream:
            content = stream.read(MAX_SIZE + 1)
    except FileNotFoundError:
        raise UnusableError("no such file") from None
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_SIZE:
        raise UnusableError(f"larger than {MAX_SIZE >> 20} MiB")
    return content


def place(tree: YamlMapping, findings: Iterable[Finding]) -> tuple[Fault, ...]:
    """Give *findings* as faults with their lines, in the order of the file, each once."""
    faults = {Fault(key_of(path), problem, line or _line(tree, path)) for path, problem, line in findings}
    return tuple(sorted(faults, key=lambda fault: (fault.line or 0, fault.key, fault.problem)))


def _line(tree: Any, path: KeyPath) -> int | None:
    """Give the line of the key at *path*, or of the nearest thing around it that has one."""
    line: int | None = None
    for part in path:
        match tree:
            case YamlMapping() if part in tree.lines:
                line = tree.lines[str(part)]
            case YamlList() if isinstance(part, int) and part < len(tree):
                line = tree.lines[part]
            case _:
                break
        tree = tree[part]
    return line


def expand(tree: YamlMapping, environ: Mapping[str, str]) -> list[Finding]:
    """Replace every ``${NAME}`` in the strings of *tree*, in place (``$${`` stands for ``${``).

    Finds names that are not in *environ*, and keys that are there twice.
    """
    found: list[Finding] = []
    _expand(tree, (), environ, found, set())
    return found


def _expand(
    value: Any,
    path: KeyPath,
    environ: Mapping[str, str],
    found: list[Finding],
    seen: set[int],
) -> None:
    if id(value) in seen:  # an anchor's value is reached from each of its aliases
        return
    seen.add(id(value))
    items: Iterable[tuple[str | int, Any]] = enumerate(value)
    if isinstance(value, YamlMapping):
        items = list(value.items())
        for repeated, line in value.repeated:
            found.append(((*path, repeated), f"there twice (first on line {value.lines[repeated]})", line))
    for key, item in items:
        if isinstance(item, str) and "${" in item:
            value[key] = _replace(item, (*path, key), environ, found)
        elif isinstance(item, YamlMapping | YamlList):
            _expand(item, (*path, key), environ, found, seen)


def _replace(text: str, path: KeyPath, environ: Mapping[str, str], found: list[Finding]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if not match[2] or not _VARIABLE_NAME.match(name):
            problem = f"{shown(match[0])} is not of the form ${{NAME}} (write '$${{' for these two characters)"
        elif name in environ:
            return environ[name]
        else:
            problem = f"the environment variable {name} is not set"
        found.append((path, problem, None))
        return match[0]

    return _VARIABLE.sub(one, text)


def resolve(tree: YamlMapping, base: Path, data_dir: Path) -> list[Finding]:
    """Make every path of *tree* absolute from *base*, in place; *data_dir* if it names none.

    Finds files that cannot be used, and sources that cannot be together.
    """
    found: list[Finding] = []
    tree.setdefault("data_dir", str(data_dir))
    found += make_absolute(tree, ("data_dir",), base, _check_directory)
    sources = tree.get("sources")
    if "sources" not in tree:
        found.append((("sources",), "missing; there must be at least one source of names", None))
    elif sources == []:
        found.append((("sources",), "there must be at least one source of names", None))
    if not isinstance(sources, YamlList):
        return found
    for index, source in enumerate(sources):
        kind = source.get("type") if isinstance(source, YamlMapping) else None
        for key, check in _PATHS.get(kind if isinstance(kind, str) else "", {}).items():
            found += make_absolute(source, ("sources", index, key), base, check)
    return found + _check_together(sources)


def make_absolute(
    mapping: YamlMapping, path: KeyPath, base: Path, check: Callable[[Path], None] | None
) -> Iterator[Finding]:
    """Make the path at *path*, a key of *mapping*, absolute from *base*; find what *check* has against the file."""
    key = path[-1]
    written = mapping.get(str(key))
    if not isinstance(written, str):
        return  # missing, or for the models to refuse
    if not written or "\0" in written:
        yield path, f"must be a path, not {shown(written)}", None
        return
    file = base / written
    mapping[str(key)] = str(file)
    try:
        if check is not None and "${" not in written:  # an unset variable is a fault already
            check(file)
    except UnusableError as error:
        yield path, f"{file}: {error}", None


def _check_together(sources: YamlList) -> list[Finding]:
    """Find source names that are odd or there twice, and a second mesh."""
    found: list[Finding] = []
    names: dict[str, int] = {}
    mesh: str | None = None
    publisher: int | None = None
    for index, source in enumerate(sources):
        if not isinstance(source, YamlMapping):
            continue
        name, other = source.get("name"), source.get("mesh", "default")
        if isinstance(name, str):
            path: KeyPath = ("sources", index, "name")
            if not _SOURCE_NAME.match(name):
                rule = "a name has letters, digits, '-', '_' and '.', begins with a letter or digit, at most 63"
                found.append((path, f"{shown(name)}: {rule}", None))
            elif name in names:
                found.append((path, f"{name!r} is also the name of sources[{names[name]}]", None))
            names.setdefault(name, index)
        if source.get("type") == "publisher":
            if publisher is not None:
                problem = f"sources[{publisher}] is a publisher already; two would give one address to two services"
                found.append((("sources", index, "type"), problem, None))
            publisher = index
        if source.get("type") in ("kuma", "publisher") and isinstance(other, str):
            if mesh is not None and other != mesh:
                problem = (
                    f"{other!r}, but another source names mesh {mesh!r}: the VIPs of two meshes are the same "
                    "addresses, so a second mesh needs a second instance"
                )
                found.append((("sources", index, "mesh"), problem, None))
            mesh = mesh or other
    return found


def _check_directory(file: Path) -> None:
    if file.exists() and not file.is_dir():
        raise UnusableError("is not a directory")


def check_ca(file: Path) -> None:
    """Raise unless *file* holds a certificate; without loading ssl, which only the sync process needs."""
    content = read_whole(file)
    blocks = _CERTIFICATE.findall(content)
    for block in blocks:
        try:
            der = b64decode(b"".join(block.split()), validate=True)
        except ValueError:
            raise UnusableError("holds a certificate that is damaged (not base64)") from None
        # a certificate is a DER SEQUENCE longer than 255 octets: tag, two length octets follow, length (X.690 §8.1.3)
        if der[:2] != b"\x30\x82" or len(der) < int.from_bytes(der[2:4], "big") + 4:
            raise UnusableError("holds a certificate that is damaged (cut short, or not DER)")
    if not blocks:
        instead = " but a private key" if b"PRIVATE KEY-----" in content else ""
        raise UnusableError(f"holds no PEM certificate{instead}")


def _check_token(file: Path) -> None:
    if not read_whole(file).strip():
        raise UnusableError("is empty")


def _check_key(file: Path) -> None:
    if b"PRIVATE KEY-----" not in read_whole(file):
        raise UnusableError("holds no PEM private key")


def _check_resources(path: Path) -> None:
    """Raise when there is neither a file nor a directory; what is in it may be mended while serving."""
    try:
        if not path.is_dir() and not path.is_file():
            raise UnusableError("is neither a file nor a directory" if path.exists() else "no such file or directory")
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror}") from None


def _check_records(file: Path) -> None:
    """Raise when there is no such file; what is in it may be mended while serving."""
    try:
        if file.is_dir():
            raise UnusableError("is a directory")
        file.stat()
    except FileNotFoundError:
        raise UnusableError("no such file") from None
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror}") from None


_PATHS: dict[str, dict[str, Callable[[Path], None] | None]] = {
    "kuma": {"ca_file": check_ca, "token_file": _check_token},
    "file": {"path": _check_records},
    "publisher": {"path": _check_resources, "cert_file": check_ca, "key_file": _check_key},
    "kuma-dp": {"socket": None},  # it comes and goes with kuma-dp
}
"""Type of source → its keys that are paths → what must be there."""
