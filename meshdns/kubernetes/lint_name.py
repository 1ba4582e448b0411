"""Judging what a Service of type ExternalName points at."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from time import gmtime, strftime

import yaml

from meshdns.errors import ResourceError
from meshdns.inventory.name import check_name, dotted
from meshdns.inventory.record import IPAddress, NameRecord
from meshdns.kubernetes.finding import Finding, found
from meshdns.kubernetes.manifest_nodes import Edit, ManifestFile, get, replaced, text_of
from meshdns.kubernetes.served import Served, why_no_external_name

# [scheme://][user@]host[:port][/…], with blanks around it: what people write for a name
_WRAPPED = re.compile(
    r"\s*(?:(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?:[^/@\s]*@)?([^/:?#\s]+)(?::[0-9]*)?(?:[/?#]\S*)?\s*\Z"
)
_WRAPPED_ADDRESS = re.compile(
    r"\s*(?:(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?:([0-9.]*[0-9])\.?|\[([0-9A-Fa-f:.]+)\])(?::[0-9]*)?(?:[/?#]\S*)?\s*\Z"
)


@dataclass(frozen=True, slots=True)
class JudgedName:
    """name: what the Service means, lower case, no final dot. record: what is served for it, if anything is."""

    name: str
    record: NameRecord | None
    findings: tuple[Finding, ...] = ()


def judge_name(file: ManifestFile, service: yaml.Node, served: Served) -> JudgedName:
    """Judge the externalName of *service*, a manifest in *file*."""
    node = get(service, "spec", "externalName")
    written = text_of(node)
    if node is None or not written or not written.strip():
        where = node or get(service, "spec", "type") or service
        message = "a Service of type ExternalName needs an externalName"
        return JudgedName("", None, (found(file, where, "missing-name", message, "name what it points at"),))
    address = _address(written)
    if address is not None:
        return _judge_address(file, node, address, served)

    match = _WRAPPED.match(written)
    bare = match[1] if match else written.strip()
    without_dot = bare.removesuffix(".")
    name = without_dot.lower()
    zone = served.zone_of(name)
    findings = []
    record = served.resolved(name)
    best, in_words = name, f"write {name}"
    if "_" in name and zone is not None:
        other = dotted(name, zone)
        if record is not None and _same(served, record, other):
            best, in_words = other, f"write {other}"
    edits: tuple[Edit, ...] = ()
    if best != written and (best == name or why_no_external_name(best) is None):
        edits = (replaced(file, node, best),)

    if bare != written:
        what = "is not a name alone; an externalName has no scheme, port, path or blanks"
        findings.append(found(file, node, "invalid-name", f"{written.strip()!r} {what}", in_words, *edits))
    if without_dot != bare and zone is not None:
        what = "has a final dot, which a gateway would put into Host and SNI"
        findings.append(found(file, node, "trailing-dot", f"{bare} {what}", in_words, *edits))
    if name != without_dot:
        what = "has capitals, which Kubernetes refuses"
        findings.append(found(file, node, "upper-case", f"{without_dot} {what}", in_words, *edits))
    if best != name:
        what = "has an underscore, which Kubernetes refuses"
        findings.append(found(file, node, "underscore", f"{name} {what}", in_words, *edits))
    elif (reason := why_no_external_name(name)) is not None:
        rule = "underscore" if "_" in name and zone is not None else "invalid-name"
        remedy = _no_other_spelling(name, zone, served)
        findings.append(found(file, node, rule, f"{name} cannot be an externalName: {reason}", remedy))
    if zone is not None and record is None:
        findings.append(_unknown(file, node, name, zone, served))
    return JudgedName(best, record if zone is not None else None, tuple(findings))


def _address(written: str) -> IPAddress | None:
    match = _WRAPPED_ADDRESS.match(written)
    try:
        return ip_address(match[1] or match[2] if match else written.strip())
    except ValueError:
        return None


def _judge_address(file: ManifestFile, node: yaml.Node, address: IPAddress, served: Served) -> JudgedName:
    message = f"{address} is an address; an externalName is a name, and no resolver follows a CNAME to an address"
    best = served.best(served.names_of(address))
    if best is None:
        remedy = "write a name, or make a Service without selector and an EndpointSlice for the address"
        return JudgedName("", None, (found(file, node, "ip-literal", message, remedy),))
    name = best.name.lower()
    edit = replaced(file, node, name)
    return JudgedName(name, best, (found(file, node, "ip-literal", message, f"write {name}", edit),))


def _same(served: Served, record: NameRecord, other: str) -> bool:
    there = served.resolved(other)
    return there is not None and set(there.addresses) == set(record.addresses)


def _no_other_spelling(name: str, zone: str | None, served: Served) -> str:
    if "_" in name and zone is not None:
        other = dotted(name, zone)
        there = served.resolved(other)
        if there is not None:
            return f"{other} is served, but leads to {there.service or 'another service'}: write it if that is meant"
        if served.resolved(name) is None:
            return f"{other} is not served either"
        return f"{other} is not served; give the service a name without underscore"
    return "write a name of lower-case letters, digits, inner hyphens and dots"


def _unknown(file: ManifestFile, node: yaml.Node, name: str, zone: str, served: Served) -> Finding:
    try:
        check_name(name)
    except ResourceError:
        message, remedy = f"{name} is not served, and cannot be", f"names under {zone}: meshdns names '*.{zone}'"
        return found(file, node, "unknown-name", message, remedy)
    nearest = served.closest(name)
    remedy = f"the nearest: {', '.join(nearest)}" if nearest else f"names under {zone}: meshdns names '*.{zone}'"
    row = served.last_removal(name)
    if row is not None:
        when = strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(row.time))
        version = f", version {row.version}" if row.version else ""
        message = f"{name} is not served any more: a push of source {row.source} removed it at {when}{version}"
        return found(file, node, "removed-name", message, remedy)
    if served.is_undecided(name):
        waiting = ", ".join(served.undelivered())
        message = f"{name} is not known: source {waiting} has never delivered"
        return found(file, node, "unknown-name", message, "lint again when it has")
    return found(file, node, "unknown-name", f"{name} is not served", remedy)
