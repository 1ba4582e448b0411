"""An ExternalService's YAML → value: the host outside, its port, how to speak to it."""

import re

from meshdns.publisher.model import SERVICE_TAG, ExternalService, ExternalTls, Place, tag
from meshdns.publisher.reading_parts import META_KEYS, is_address, is_host, read_tags
from meshdns.publisher.section import Section, shown

_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,6})\Z")


def read_external_service(section: Section, mesh: str, name: str, place: Place) -> ExternalService:
    """Read the ExternalService in *section*; its faults go to the section's report."""
    section.known(*META_KEYS, "networking", "tags")
    tags = read_tags(section, "tags")
    networking = section.section("networking", required=True)
    if networking is None:
        return ExternalService(mesh, name, "", 0, tags, place=place)
    networking.known("address", "tls", "disableHostDNSEntry")
    host, port = _address(networking)
    if host and host == tag(tags, SERVICE_TAG):
        problem = "must differ from the tag kuma.io/service, or the host's own name would lead back to its VIP"
        networking.refuse("address", problem)
    return ExternalService(
        mesh,
        name,
        host,
        port,
        tags,
        not networking.flag("disableHostDNSEntry"),
        _tls(networking, host),
        place,
        networking.line("address"),
    )


def _address(networking: Section) -> tuple[str, int]:
    text = networking.text("address", required=True)
    if not text:
        return "", 0
    match = _ADDRESS.match(text)
    if match is None:
        networking.refuse("address", f"{shown(text)} is not host:port, such as httpbin.org:443 or [2001:db8::1]:443")
        return "", 0
    host, port = match["v6"] if match["host"] is None else match["host"], int(match["port"])
    if not 1 <= port <= 65535:
        networking.refuse("address", f"{shown(text)}: the port must be a number from 1 to 65535")
    if not is_address(host) and (match["host"] is None or not is_host(host)):
        networking.refuse("address", f"{shown(text)}: neither an IP address nor a host name before the port")
    return host.removesuffix("."), port


def _tls(networking: Section, host: str) -> ExternalTls | None:
    tls = networking.section("tls")
    if tls is None or not tls.flag("enabled"):
        return None
    for key in ("clientCert", "clientKey"):
        if key in tls:
            tls.notice(key, "client certificates are not used here")
    authority = ""
    source = tls.section("caCert")
    if source is not None:
        authority = source.text("inlineString")
        if not authority:
            source.notice("", "only inlineString is read here; the server's certificate is not verified")
    server = tls.text("serverName") or ("" if is_address(host) else host)
    return ExternalTls(server, authority, not tls.flag("skipHostnameVerification"))
