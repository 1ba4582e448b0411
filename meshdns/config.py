"""The operator's file → ``Config``: every fault at once, each with its key and line.

Two readings of one file, so that no fault hides another: as a tree (``config_tree``: repeated keys, ``${NAME}``, files,
sources against each other) and as the rooms' own settings (pydantic, in the words of ``config_faults``).
A ``Config`` is complete and absolute: it goes through JSON to another process unchanged.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from meshdns.config_faults import KeyPath, plain_problems, shown
from meshdns.config_tree import UnusableError, expand, place, read_whole, resolve
from meshdns.config_upstreams import check_upstreams, resolve_upstreams
from meshdns.duration import Duration
from meshdns.errors import ConfigError, Fault, ResourceError
from meshdns.inventory.name import check_name
from meshdns.publisher.settings import PublisherSettings
from meshdns.resolver.settings import RateLimitSettings
from meshdns.sources.settings import FileSettings, KumaDpSettings
from meshdns.transport.settings import TcpLimits
from meshdns.upstream.settings import CacheSettings, SpecialNames, UpstreamSettings
from meshdns.xds.settings import KumaSettings
from meshdns.yaml_document import DocumentError, YamlMapping, decode, read
from meshdns.zone.entries import Rules

DEFAULT_FILES = (Path("meshdns.yaml"), Path("/etc/meshdns/meshdns.yaml"))
"""Where a configuration is looked for without ``--config`` and ``$MESHDNS_CONFIG``; first the working directory."""

RESTART_KEYS = ("listen", "data_dir", "responders")
"""What a running instance cannot change: sockets, lock and processes are made once."""

LATER: dict[str, str] = {}
"""Words of the whole contract that this version knows, and does not have."""

Network = IPv4Network | IPv6Network


def _network(value: Any) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a network in quotes, such as '10.0.0.0/8', not {shown(value)}")
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        whole = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{shown(value)} is not a network such as '10.0.0.0/8' or 'fd00::/8'") from None
    raise ValueError(f"{shown(value)} has host bits set; did you mean {str(whole)!r}?")


def _listen_address(value: Any) -> str:
    """Read ``127.0.0.1:53`` or ``[::1]:53``; gives the address in its shortest spelling."""
    if not isinstance(value, str):
        raise ValueError(f"must be an address in quotes, such as '127.0.0.1:53', not {shown(value)}")
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
        raise ValueError(f"{shown(value)} is not an IP address and a port, {example}") from None
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{shown(value)}: the port must be a number from 0 to 65535")
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


def _some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("must hold at least one")
    return values


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value!r} is there twice")
    return _some(values)


def _responders(value: Any) -> Any:
    return len(os.sched_getaffinity(0)) if value == "auto" else value


def _log_level(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


SourceSettings = Annotated[
    KumaSettings | FileSettings | KumaDpSettings | PublisherSettings, Field(discriminator="type")
]

_TIED = frozenset({"ca_file", "plaintext", "plaintext_remote", "listen", "cert_file", "key_file"})
"""Keys of a source that a rule about several keys looks at: with one of them faulty the rule says nothing true."""

_HARMLESS = {"address": "127.0.0.1:1"}
"""Stand-ins for required keys, when only the rules about the other keys are asked for."""

_SOURCE_TYPES: dict[str, type[BaseModel]] = {
    "kuma": KumaSettings,
    "file": FileSettings,
    "kuma-dp": KumaDpSettings,
    "publisher": PublisherSettings,
}


class Config(BaseModel):
    """Everything an operator decides, with the contract's defaults; all paths absolute once loaded.

    listen: ``address:port``, UDP and TCP on each. responders: processes. drain, shrink_hold: seconds.
    listener: how UDP is moved. reverse, allow: networks. sources: in order of precedence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Annotated[tuple[Annotated[str, BeforeValidator(_listen_address)], ...], AfterValidator(_distinct)] = (
        "127.0.0.1:15053",
        "[::1]:15053",
    )
    data_dir: Path = Path("meshdns-data")
    responders: Annotated[int, BeforeValidator(_responders), Field(ge=1, le=256)] = 1
    drain: Duration = 5.0
    zones: Annotated[
        tuple[Annotated[str, AfterValidator(_zone)], ...], AfterValidator(_some), AfterValidator(_unique)
    ] = ("mesh", "mesh.local")
    reverse: Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], AfterValidator(_unique)] = (
        IPv4Network("240.0.0.0/4"),
        IPv6Network("fd00:fd00::/64"),
    )
    mapped_v6: Literal["keep", "drop"] = "keep"
    srv: bool = False
    allow: Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], AfterValidator(_unique)] = ()
    shrink_hold: Duration = 300.0
    listener: Literal["auto", "portable"] = "auto"
    tcp: TcpLimits = TcpLimits()
    rate_limit: RateLimitSettings = RateLimitSettings()
    sources: tuple[SourceSettings, ...] = ()
    upstreams: tuple[UpstreamSettings, ...] = ()
    cache: CacheSettings = CacheSettings()
    special_names: SpecialNames = "answer"
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


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found in a configuration file: every fault, and the Config if there is none.

    records: the records files that it names, as far as their sources could be read.
    """

    path: Path
    faults: tuple[Fault, ...]
    config: Config | None = None
    records: tuple[FileSettings, ...] = ()


def load(path: Path | None = None) -> Config:
    """Read the configuration at *path*, or where ``find`` finds it.

    Raises ConfigError with every fault in it.
    """
    return _without_faults(examine_file(find(path)))


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
    return _without_faults(examine(text, path, environ))


def _without_faults(examined: Examined) -> Config:
    if examined.config is None:
        raise ConfigError(str(examined.path), examined.faults)
    return examined.config


def examine_file(path: Path, environ: Mapping[str, str] = os.environ) -> Examined:
    """Find what is wrong with the configuration file at *path*; raises nothing."""
    try:
        return examine(decode(read_whole(path)), path, environ)
    except UnusableError as error:
        return Examined(path, (Fault("", str(error)),))
    except DocumentError as error:
        return Examined(path, (error.fault,))


def examine(text: str, path: Path, environ: Mapping[str, str] = os.environ) -> Examined:
    """Find what is wrong with *text*, the content of the configuration file at *path*; raises nothing."""
    try:
        tree = read(text)
    except DocumentError as error:
        return Examined(path, (error.fault,))
    if tree is None:
        return Examined(path, (Fault("", "is empty; it must name at least one source under 'sources'"),))
    if not isinstance(tree, YamlMapping):
        return Examined(path, (Fault("", "must be a mapping (key: value)", 1),))
    found = expand(tree, environ)
    base = path.absolute().parent
    found += resolve(tree, base, Config.model_fields["data_dir"].default)
    found += resolve_upstreams(tree, base)
    settings: Config | None = None
    try:
        settings = Config.model_validate(tree, context={"file": path})
    except ValidationError as error:
        seen = list(plain_problems(error, _locate, LATER))
        found += [(at, problem, None) for at, problem in (*seen, *_hidden(tree, seen))]
    known = settings or _readable(tree)
    found += check_upstreams(tree, (*known.zones, *known.rules().reverse_zones), known.listen)
    return Examined(path, place(tree, found), None if found else settings, tuple(_records_files(tree)))


def _readable(tree: YamlMapping) -> Config:
    """Give what can be read of the keys that upstreams are looked at with, nothing for one that cannot."""
    read: dict[str, list[Any]] = {key: [] for key in ("listen", "zones", "reverse") if key in tree}
    for key, values in read.items():
        for value in tree[key] if isinstance(tree[key], list) else ():
            try:
                values.extend(getattr(Config.model_validate({key: [value]}), key))
            except ValidationError:
                pass  # told already
    return Config().model_copy(update={key: tuple(values) for key, values in read.items()})


def _records_files(tree: YamlMapping) -> Iterator[FileSettings]:
    sources = tree.get("sources")
    for source in sources if isinstance(sources, list) else ():
        try:
            yield FileSettings.model_validate(source)
        except ValidationError:
            pass  # of another type, or a fault that is told


def _locate(loc: tuple[str | int, ...]) -> tuple[KeyPath, type[BaseModel] | None]:
    """Give pydantic's location without the tag of the union of sources, and the model that holds its last key."""
    model: type[BaseModel] | None = Config
    if loc[0] == "sources" and len(loc) > 2:
        model, loc = _SOURCE_TYPES.get(str(loc[2])), (*loc[:2], *loc[3:])
        inner = loc[2:-1]
    elif loc[0] == "upstreams" and len(loc) > 2:
        model, inner = UpstreamSettings, loc[2:-1]
    else:
        inner = loc[:-1]
    for part in inner:
        field = model.model_fields.get(str(part)) if model else None
        annotation = field.annotation if field else None
        model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return loc, model


def _hidden(tree: YamlMapping, seen: Sequence[tuple[KeyPath, str]]) -> Iterator[tuple[KeyPath, str]]:
    """Find what a model would say of its keys together, had it not stopped at one of them.

    Each faulty source is read once more with something harmless in the place of what is faulty.
    """
    faulty: dict[int, set[str]] = {}
    for path, _ in seen:
        if len(path) == 3 and path[0] == "sources":
            faulty.setdefault(int(path[1]), set()).add(str(path[2]))
    for index, keys in faulty.items():
        source = tree["sources"][index]
        model = _SOURCE_TYPES.get(str(source.get("type")))
        if model is None or keys & _TIED:
            continue
        kept = {key: value for key, value in source.items() if key not in keys}
        required = (key for key, field in model.model_fields.items() if field.is_required())
        try:
            model.model_validate({key: _HARMLESS.get(key, "x") for key in required} | kept)
        except ValidationError as error:
            yield from (
                (("sources", index), str(detail["ctx"]["error"])) for detail in error.errors() if not detail["loc"]
            )
