"""What no model sees in the ``upstreams`` of a configuration: paths, zones there twice or ours, this very instance."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from meshdns.config_faults import KeyPath
from meshdns.config_tree import Finding, check_ca, make_absolute
from meshdns.upstream.settings import UpstreamSettings, points_at
from meshdns.yaml_document import YamlList, YamlMapping


def resolve_upstreams(tree: YamlMapping, base: Path) -> list[Finding]:
    """Make the paths in the upstreams of *tree* absolute from *base*, in place; find files that cannot be used."""
    found: list[Finding] = []
    for index, item in _items(tree):
        found += make_absolute(item, ("upstreams", index, "ca_file"), base, check_ca)
        servers = item.get("servers")
        if isinstance(servers, str) and "/" in servers and "://" not in servers:
            found += make_absolute(item, ("upstreams", index, "servers"), base, None)
    return found


def check_upstreams(tree: YamlMapping, zones: tuple[str, ...], listen: tuple[str, ...]) -> Iterator[Finding]:
    """Find zones that are forwarded twice or must not be, and servers that are this instance.

    zones: ours, reverse zones among them. listen: ``address:port`` of our listeners.
    """
    ours = [_endpoint(each) for each in listen]
    first: dict[str, int] = {}
    for index, item in _items(tree):
        try:
            settings = UpstreamSettings.model_validate(item)
        except ValidationError:
            continue  # told already
        at: KeyPath = ("upstreams", index)
        if settings.zone in first:
            yield (*at, "zone"), f"{settings.zone!r} is also the zone of upstreams[{first[settings.zone]}]", None
        first.setdefault(settings.zone, index)
        for zone in zones:
            if settings.zone == zone or settings.zone.endswith("." + zone):
                problem = f"{settings.zone!r} is in our own zone {zone!r}, of which nothing ever leaves"
                yield (*at, "zone"), problem, None
        for place, server in enumerate(settings.fixed):
            if points_at(server, ours):
                yield (*at, "servers", place), f"'{server}' is where this instance itself listens", None


def _items(tree: YamlMapping) -> Iterator[tuple[int, Any]]:
    upstreams = tree.get("upstreams")
    for index, item in enumerate(upstreams if isinstance(upstreams, YamlList) else ()):
        if isinstance(item, YamlMapping):
            yield index, item


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
