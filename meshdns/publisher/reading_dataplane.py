"""A Dataplane's YAML → value: inbounds, gateway, redirect ports."""

from meshdns.publisher.model import SERVICE_TAG, Dataplane, Inbound, Place, State, Tags, tags_of
from meshdns.publisher.reading_parts import META_KEYS, read_address, read_tags, tag_line
from meshdns.publisher.section import Section, shown

_STATES: tuple[State, ...] = ("Ready", "NotReady", "Ignored")


def read_dataplane(section: Section, mesh: str, name: str, place: Place) -> Dataplane:
    """Read the Dataplane in *section*; its faults go to the section's report."""
    section.known(*META_KEYS, "networking", "metrics", "probes", "envoy")
    labels = _labels(section)
    networking = section.section("networking", required=True)
    if networking is None:
        return Dataplane(mesh, name, "", place=place)
    networking.known("address", "advertisedAddress", "inbound", "outbound", "gateway", "transparentProxying", "admin",
                     "listeners")  # fmt: skip
    address = read_address(networking, "address", required=True)
    advertised = read_address(networking, "advertisedAddress")
    gateway = _gateway(networking)
    inbounds = tuple(_inbound(each, address, advertised) for each in networking.sections("inbound"))
    if gateway is not None and inbounds:
        networking.refuse("inbound", "a delegated gateway has no inbounds")
    elif gateway is None and not inbounds and "inbound" not in networking:
        networking.refuse("inbound", "there must be at least one inbound, or a gateway")
    taken: dict[tuple[str, int], int] = {}
    for index, inbound in enumerate(inbounds):
        other = taken.setdefault((inbound.address, inbound.port), index)
        if other != index and inbound.port:
            problem = f"{inbound.address}:{inbound.port} is taken by inbound[{other}] already"
            networking.report.fault(inbound.line, f"networking.inbound[{index}].port", problem)
    redirect_inbound = redirect_outbound = 0
    ipv6, reachable = True, None
    proxying = networking.section("transparentProxying")
    if proxying is not None:
        redirect_inbound = proxying.number("redirectPortInbound", 1, 65535)
        redirect_outbound = proxying.number("redirectPortOutbound", 1, 65535)
        family = proxying.text("ipFamilyMode")
        if family not in ("", "UnSpecified", "DualStack", "IPv4"):
            proxying.refuse("ipFamilyMode", f"must be DualStack or IPv4, not {shown(family)}")
        ipv6 = family != "IPv4"
        if "reachableServices" in proxying:
            reachable = frozenset(proxying.texts("reachableServices"))
            if "*" in reachable:
                reachable = None
    return Dataplane(
        mesh, name, address, inbounds, gateway, labels, redirect_inbound, redirect_outbound, ipv6, reachable, place
    )


def _labels(section: Section) -> Tags:
    found = section.items("labels")
    return tags_of(found[1]) if found is not None else ()


def _gateway(networking: Section) -> Tags | None:
    gateway = networking.section("gateway")
    if gateway is None:
        return None
    gateway.known("type", "tags")
    kind = gateway.text("type")
    if kind.upper() == "BUILTIN":
        gateway.refuse("type", "there are no builtin gateways here; a gateway must be of type DELEGATED")
    elif kind.upper() not in ("", "DELEGATED"):
        gateway.refuse("type", f"must be DELEGATED, not {shown(kind)}")
    return read_tags(gateway, "tags")


def _inbound(section: Section, address: str, advertised: str) -> Inbound:
    section.known("address", "port", "servicePort", "serviceAddress", "tags", "health", "state", "serviceProbe", "name",
                  "protocol")  # fmt: skip
    port = section.number("port", 1, 65535, required=True)
    own = read_address(section, "address", name=False) or address
    workload_port = section.number("servicePort", 1, 65535) or port
    workload = read_address(section, "serviceAddress", name=False) or own
    tags = dict(read_tags(section, "tags"))
    line = tag_line(section, "tags", SERVICE_TAG)
    return Inbound(own, port, workload, workload_port, tags_of(tags), _state(section), advertised, line)


def _state(section: Section) -> State:
    health = section.section("health")
    ready = health.flag("ready", False) if health is not None else True  # an empty health means not ready (proto3)
    name = section.text("state") or "Ready"
    if name not in _STATES:
        section.refuse("state", f"must be {', '.join(_STATES)}, not {shown(name)}")
        return "Ready"
    return "NotReady" if name == "Ready" and not ready else name
