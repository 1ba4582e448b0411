"""The operator's file → ``Config``: every fault at once, each with its key and line.

Three readings of one file, so that no fault hides another: the text (YAML, repeated keys, ``${NAME}``), what it
names (paths, certificates, sources against each other), and the rooms' own settings (pydantic).
A ``Config`` is complete and absolute: it goes through JSON to another process unchanged.
"""

import os
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
)

from meshdns import faults as words
from meshdns.errors import ConfigError, Fault, ResourceError
from meshdns.inventory.name import check_name
from meshdns.sources.document import DocumentError, YamlList, YamlMapping, decode, read
from meshdns.sources.settings import FileSettings, KumaDpSettings
from meshdns.zone.entries import Rules

try:  # provisional, until both rooms' settings are there
    from meshdns.transport.settings import RateLimitSettings, TcpLimits
except ModuleNotFoundError:

    class TcpLimits(BaseModel):  # type: ignore[no-redef]
        model_config = ConfigDict(extra="forbid", frozen=True)

    class RateLimitSettings(BaseModel):  # type: ignore[no-redef]
        model_config = ConfigDict(extra="forbid", frozen=True)


try:
    from meshdns.xds.settings import KumaSettings
except ModuleNotFoundError:

    class KumaSettings(BaseModel):  # type: ignore[no-redef]
        model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)
        name: str
        type: Literal["kuma"]
        address: str
        mesh: str = "default"
        dataplane: str = "meshdns"
        ca_file: Path | None = None
        token_file: Path | None = None
        plaintext: bool = False
        plaintext_remote: bool = False
        protocol: Literal["auto", "delta", "sotw"] = "auto"
        register_dataplane: bool = Field(default=True, alias="register")


DEFAULT_FILES = (Path("meshdns.yaml"), Path("/etc/meshdns/meshdns.yaml"))
"""Where a configuration is looked for without ``--config`` and ``$MESHDNS_CONFIG``; first the working directory."""

MAX_SIZE = 1 << 20
"""Octets of a configuration, or of a file it names to be read whole; more is some other file."""

RESTART_KEYS = ("listen", "data_dir", "responders")
"""What a running instance cannot change: sockets, lock and processes are made once."""

LATER = {
    "upstreams": "this version of meshdns does not forward; names outside the zones are refused (take 'upstreams' out)",
    "publisher": "this version of meshdns has no 'publisher' source; it has kuma, file and kuma-dp",
}
"""Words of the whole contract that this version knows, and does not have."""

Network = IPv4Network | IPv6Network

_DURATION = re.compile(r"([0-9]+)(ms|s|m|h)\Z")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_MAX_DURATION = 30 * 24 * 3600
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


def _duration(value: Any, info: ValidationInfo) -> float:
    """Read ``500ms``, ``5s``, ``5m``, ``1h``, or 0; plain seconds only where no file is read (code, JSON)."""
    if isinstance(value, str) and (match := _DURATION.match(value)):
        seconds = int(match[1][:12]) * _SECONDS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool) and (value == 0 or not info.context):
        seconds = value
    else:
        raise ValueError(f"must be a duration such as 500ms, 5s, 5m or 1h, not {words.shown(value)}")
    if not 0 <= seconds <= _MAX_DURATION:
        raise ValueError(f"{words.shown(value)} is longer than 30 days")
    return float(seconds)


def _network(value: Any) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a network in quotes, such as '10.0.0.0/8', not {words.shown(value)}")
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        whole = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{words.shown(value)} is not a network such as '10.0.0.0/8' or 'fd00::/8'") from None
    raise ValueError(f"{words.shown(value)} has host bits set; did you mean {str(whole)!r}?")


def _listen_address(value: Any) -> str:
    """Read ``127.0.0.1:53`` or ``[::1]:53``; gives the address in its shortest spelling."""
    if not isinstance(value, str):
        raise ValueError(f"must be an address in quotes, such as '127.0.0.1:53', not {words.shown(value)}")
    host, colon, port = value.rpartition(":")
    example = "such as '127.0.0.1:53' or '[::1]:53'"
    if colon and not host:
        raise ValueError(
            f"{value!r} names no address; "
            f"write '0.0.0.0{value}' for every IPv4 and '[::]{value}' for every IPv6 address"
        )
    if value.startswith("[") and value.endswith("]"):
        raise ValueError(f"{value!r} names no port; write an address and a port, {example}")
    if not value.startswith("["):
        for whole in (IPv4Address, IPv6Address):
            try:
                whole(value)
            except ValueError:
                continue
            spelled = f"'[{value}]:53'" if whole is IPv6Address else f"'{value}:53'"
            raise ValueError(f"{value!r} names no port; did you mean {spelled}?")
    try:
        bracketed = host.startswith("[") and host.endswith("]")
        host = f"[{IPv6Address(host[1:-1])}]" if bracketed else str(IPv4Address(host))
    except ValueError:
        raise ValueError(f"{words.shown(value)} is not an IP address and a port, {example}") from None
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{words.shown(value)}: the port must be a number from 0 to 65535")
    return f"{host}:{int(port)}"


def _zone(value: str) -> str:
    try:
        name = check_name(value).lower()
    except ResourceError as error:
        raise ValueError(str(error)) from None
    if "*" in name:
        raise ValueError(f"{value!r}: a zone cannot be a wildcard")
    return name


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _twice(values: tuple[str, ...]) -> tuple[str, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value!r} is there twice")
    return values


def _responders(value: Any) -> Any:
    return len(os.sched_getaffinity(0)) if value == "auto" else value


def _log_level(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Duration = Annotated[
    float, BeforeValidator(_duration), PlainSerializer(lambda seconds: f"{round(seconds * 1000)}ms", str, "json")
]
SourceSettings = Annotated[KumaSettings | FileSettings | KumaDpSettings, Field(discriminator="type")]

_SOURCE_TYPES: dict[str, type[BaseModel]] = {"kuma": KumaSettings, "file": FileSettings, "kuma-dp": KumaDpSettings}


class Config(BaseModel):
    """Everything an operator decides, with the contract's defaults; all paths absolute once loaded.

    listen: ``address:port``, UDP and TCP on each. responders: processes. drain, shrink_hold: seconds.
    reverse, allow: networks. sources: in order of precedence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Annotated[
        tuple[Annotated[str, BeforeValidator(_listen_address)], ...], Field(min_length=1), AfterValidator(_twice)
    ] = ("127.0.0.1:15053", "[::1]:15053")
    data_dir: Path = Path("meshdns-data")
    responders: Annotated[int, BeforeValidator(_responders), Field(ge=1, le=256)] = 1
    drain: Duration = 5.0
    zones: Annotated[
        tuple[Annotated[str, AfterValidator(_zone)], ...], Field(min_length=1), AfterValidator(_unique)
    ] = ("mesh", "mesh.local")
    reverse: Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], AfterValidator(_unique)] = (
        IPv4Network("240.0.0.0/4"),
        IPv6Network("fd00:fd00::/64"),
    )
    mapped_v6: Literal["keep", "drop"] = "keep"
    srv: bool = False
    allow: Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], AfterValidator(_unique)] = ()
    shrink_hold: Duration = 300.0
    tcp: TcpLimits = TcpLimits()
    rate_limit: RateLimitSettings = RateLimitSettings()
    sources: tuple[SourceSettings, ...] = ()
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_log_level)] = "info"

    def rules(self) -> Rules:
        """Give what of this decides how records become zone entries."""
        return Rules(self.zones, self.reverse, self.mapped_v6 == "keep", self.srv)

    def restart_needed(self, other: "Config") -> list[str]:
        """Give the keys that differ in *other* and that a running instance cannot change."""
        return [key for key in RESTART_KEYS if getattr(self, key) != getattr(other, key)]


def find(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Give the configuration file: *path*, else ``$MESHDNS_CONFIG``, else the first of ``DEFAULT_FILES``.

    Raises ConfigError saying where it looked.
    """
    if path is not None:
        return path
    if named := environ.get("MESHDNS_CONFIG"):
        if not Path(named).exists():
            raise ConfigError("$MESHDNS_CONFIG", (Fault("", f"names a file that does not exist: {named}"),))
        return Path(named)
    for candidate in DEFAULT_FILES:
        if candidate.exists():
            return candidate
    looked = ", ".join(f"./{file}" if not file.is_absolute() else str(file) for file in DEFAULT_FILES)
    raise ConfigError(
        "no configuration", (Fault("", f"looked for $MESHDNS_CONFIG (not set), {looked}; name one with --config"),)
    )


def load(path: Path | None = None) -> Config:
    """Read the configuration at *path*, or where ``find`` finds it.

    Raises ConfigError with every fault in it.
    """
    file = find(path)
    try:
        text = decode(_read_whole(file))
    except _UnreadableError as error:
        raise ConfigError(str(file), (Fault("", str(error)),)) from None
    except DocumentError as error:
        raise ConfigError(str(file), (error.fault,)) from None
    return parse(text, file)


def load_for(config: Path | None, data_dir: Path | None) -> Config:
    """Give the configuration that a verb's ``--config`` and ``--data-dir`` mean.

    ``--data-dir`` alone needs no file (everything else has its default); with ``--config`` it takes the place of
    the file's own. Raises ConfigError.
    """
    if data_dir is None:
        return load(config)
    settings = load(config) if config is not None else Config()
    return settings.model_copy(update={"data_dir": data_dir.absolute()})


def parse(text: str, path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read *text*, the content of the configuration file at *path* (what relative paths are relative to).

    Raises ConfigError with every fault, in the order of the file.
    """
    try:
        tree = read(text)
    except DocumentError as error:
        raise ConfigError(str(path), (error.fault,)) from None
    if tree is None:
        raise ConfigError(str(path), (Fault("", "is empty; it must name at least one source under 'sources'"),))
    if not isinstance(tree, YamlMapping):
        raise ConfigError(str(path), (Fault("", "must be a mapping (key: value)", 1),))
    found: list[tuple[words.Path, Fault]] = []
    _expand(tree, (), environ, found, set())
    _check_named(tree, path.absolute().parent, found)
    settings: Config | None = None
    try:
        settings = Config.model_validate(tree, context={"file": path})
    except ValidationError as error:
        found += words.plain_faults(error, _locate, LATER)
    if settings is None or found:
        raise ConfigError(str(path), _in_order(tree, found))
    return settings


def _locate(loc: tuple[str | int, ...]) -> tuple[words.Path, type[BaseModel] | None]:
    """Give pydantic's location without the tag of the union of sources, and the model that holds its last key."""
    model: type[BaseModel] | None = Config
    if loc[0] == "sources" and len(loc) > 2:
        model, loc = _SOURCE_TYPES.get(str(loc[2])), (*loc[:2], *loc[3:])
        inner = loc[2:-1]
    else:
        inner = loc[:-1]
    for part in inner:
        field = model.model_fields.get(str(part)) if model else None
        annotation = field.annotation if field else None
        model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return loc, model


def _in_order(tree: YamlMapping, found: list[tuple[words.Path, Fault]]) -> tuple[Fault, ...]:
    placed = [Fault(fault.key, fault.problem, fault.line or _line(tree, path)) for path, fault in found]
    return tuple(sorted(dict.fromkeys(placed), key=lambda fault: fault.line or 0))


def _line(tree: Any, path: words.Path) -> int | None:
    """Give the line of the key at *path*, or of the nearest thing around it that has one."""
    line: int | None = None
    for part in path:
        if isinstance(tree, YamlMapping) and part in tree.lines:
            line = tree.lines[str(part)]
        elif isinstance(tree, YamlList) and isinstance(part, int) and part < len(tree):
            line = tree.lines[part]
        else:
            return line
        tree = tree[part]
    return line


def _expand(
    value: Any, path: words.Path, environ: Mapping[str, str], found: list[tuple[words.Path, Fault]], seen: set[int]
) -> None:
    """Replace every ``${NAME}`` under *value*, in place; name what is not set, and keys that are there twice.

    seen: what was visited (an anchored mapping is reached more than once).
    """
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, YamlMapping):
        for key, line in value.repeated:
            found.append(
                (path, Fault(words.key_of((*path, key)), f"there twice (first on line {value.lines[key]})", line))
            )
    items = list(value.items() if isinstance(value, YamlMapping) else enumerate(value))
    for key, item in items:
        if isinstance(item, str) and "${" in item:
            value[key] = _replace(item, (*path, key), environ, found)
        elif isinstance(item, YamlMapping | YamlList):
            _expand(item, (*path, key), environ, found, seen)


def _replace(text: str, path: words.Path, environ: Mapping[str, str], found: list[tuple[words.Path, Fault]]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if not match[2] or not _VARIABLE_NAME.match(name):
            problem = f"{match[0]!r} is not of the form ${{NAME}} (write '$${{' for the characters themselves)"
        elif name in environ:
            return environ[name]
        else:
            problem = f"the environment variable {name} is not set"
        found.append((path, Fault(words.key_of(path), problem)))
        return match[0]

    return _VARIABLE.sub(one, text)


class _UnreadableError(Exception):
    """A file cannot be read; the message says why and not which."""


def _read_whole(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_SIZE + 1)
    except FileNotFoundError:
        raise _UnreadableError("no such file") from None
    except OSError as error:
        raise _UnreadableError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_SIZE:
        raise _UnreadableError(f"larger than {MAX_SIZE >> 20} MiB")
    return content


def _check_ca(file: Path) -> None:
    """Raise unless *file* holds a certificate; without loading ssl, which only the sync process needs."""
    content = _read_whole(file)
    blocks = re.findall(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----(.*?)-----END ", content, re.DOTALL)
    for block in blocks:
        try:
            der = b64decode(b"".join(block.split()), validate=True)
        except ValueError:
            raise _UnreadableError("holds a certificate that is damaged (not base64)") from None
        if der[:2] != b"\x30\x82" or len(der) != int.from_bytes(der[2:4], "big") + 4:
            raise _UnreadableError("holds a certificate that is damaged (cut, or not DER)")
    if not blocks:
        instead = " but a private key" if b"PRIVATE KEY-----" in content else ""
        raise _UnreadableError(f"holds no PEM certificate{instead}")


def _check_token(file: Path) -> None:
    if not _read_whole(file).strip():
        raise _UnreadableError("is empty")


def _check_records(file: Path) -> None:
    """Raise when there is no such file; what is in it may be mended while serving."""
    try:
        if file.is_dir():
            raise _UnreadableError("is a directory")
        file.stat()
    except FileNotFoundError:
        raise _UnreadableError("no such file") from None
    except OSError as error:
        raise _UnreadableError(f"cannot be read: {error.strerror}") from None


_NAMED: dict[str, dict[str, Callable[[Path], None] | None]] = {
    "kuma": {"ca_file": _check_ca, "token_file": _check_token},
    "file": {"path": _check_records},
    "kuma-dp": {"socket": None},
}
"""Type of source → its keys that are paths → what the file there must be."""


def _check_named(tree: YamlMapping, base: Path, found: list[tuple[words.Path, Fault]]) -> None:
    """Make every path absolute, in place; name files that cannot be used and sources that cannot be together."""

    def note(path: words.Path, problem: str) -> None:
        found.append((path, Fault(words.key_of(path), problem)))

    def absolute(mapping: YamlMapping, key: str, path: words.Path, check: Callable[[Path], None] | None) -> None:
        written = mapping.get(key)
        if not isinstance(written, str):
            return
        if not written or "\0" in written:
            note(path, "must be a path, not ''")
            return
        mapping[key] = str(base / written)
        try:
            if check is not None and "${" not in written:
                check(base / written)
        except _UnreadableError as error:
            note(path, f"{base / written}: {error}")

    tree.setdefault("data_dir", str(Config.model_fields["data_dir"].default))
    absolute(tree, "data_dir", ("data_dir",), None)
    sources = tree.get("sources")
    if "sources" not in tree:
        note(("sources",), "missing; there must be at least one source of names")
    elif sources == []:
        note(("sources",), "there must be at least one source of names")
    if not isinstance(sources, YamlList):
        return
    names: dict[str, int] = {}
    mesh: str | None = None
    for index, source in enumerate(sources):
        path: words.Path = ("sources", index)
        if not isinstance(source, YamlMapping):
            continue
        kind, name = source.get("type"), source.get("name")
        for key, check in _NAMED.get(kind if isinstance(kind, str) else "", {}).items():
            absolute(source, key, (*path, key), check)
        if isinstance(name, str):
            if not _SOURCE_NAME.match(name):
                note((*path, "name"), f"{words.shown(name)}: letters, digits, '-', '_' and '.', at most 63")
            elif name in names:
                note((*path, "name"), f"{name!r} is also the name of sources[{names[name]}]")
            names.setdefault(name, index)
        if kind in {"kuma", "publisher"} and isinstance(named := source.get("mesh", "default"), str):
            if mesh is not None and named != mesh:
                note(
                    (*path, "mesh"),
                    f"{named!r}, but another source names {mesh!r}: the VIPs of two meshes are the same numbers; "
                    "run a second instance",
                )
            mesh = mesh or named
