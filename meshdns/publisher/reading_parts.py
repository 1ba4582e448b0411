"""What several kinds of resources have in common: tags and addresses, as Kuma checks them."""

import re
from ipaddress import ip_address

from meshdns.publisher.model import PROTOCOL_TAG, PROTOCOLS, SERVICE_TAG, Tags, tags_of
from meshdns.publisher.section import Section, shown

META_KEYS = ("type", "mesh", "name", "labels", "creationTime", "modificationTime", "kri")

_TAG_NAME = re.compile(r"[A-Za-z0-9_./-]+\Z")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]+\Z")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})\Z")


def is_address(text: str) -> bool:
    """Tell whether *text* is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_host(text: str) -> bool:
    """Tell whether *text* is a name that Kuma takes as a DNS name (and not an IP address)."""
    plain = text.removesuffix(".")
    return len(plain) <= 253 and not is_address(text) and all(_LABEL.match(label) for label in plain.split("."))


def read_tags(section: Section, key: str, *, wildcard: bool = False, service: bool = True) -> Tags:
    """Read the tags under *key*.

    wildcard: whether ``*`` is a value (selectors). service: whether ``kuma.io/service`` must be among them.
    """
    found = section.items(key)
    if found is None:
        if service and key not in section:
            section.refuse(key, f"mandatory tag {SERVICE_TAG!r} is missing")
        return ()
    tags, values = found
    for name, value in values.items():
        if not _TAG_NAME.match(name):
            rule = "letters, digits, dots, dashes, slashes and underscores"
            tags.refuse(name, f"the name of a tag consists of {rule}")
        if not value:
            tags.refuse(name, "the value of a tag must not be empty")
        elif not (_TAG_VALUE.match(value) or (wildcard and value == "*")):
            rule = "letters, digits, dots, dashes and underscores"
            tags.refuse(name, f"the value of a tag consists of {rule}, not {shown(value)}")
    if service and SERVICE_TAG not in values and SERVICE_TAG not in tags:
        section.refuse(key, f"mandatory tag {SERVICE_TAG!r} is missing")
    protocol = values.get(PROTOCOL_TAG)
    if protocol and not wildcard and protocol not in PROTOCOLS:
        tags.refuse(PROTOCOL_TAG, f"{shown(protocol)} is no protocol; allowed are {', '.join(sorted(PROTOCOLS))}")
    return tags_of(values)


def tag_line(section: Section, key: str, name: str) -> int:
    """Give the line of tag *name* under *key* of *section*."""
    tags = section.section(key)
    return tags.line(name) if tags is not None else section.line(key)


def read_address(section: Section, key: str, *, required: bool = False, name: bool = True) -> str:
    """Read an IP address, or (name) a host name. What means every address is refused."""
    text = section.text(key, required=required)
    if not text:
        return ""
    if is_address(text):
        if ip_address(text).is_unspecified:
            section.refuse(key, f"{text} is every address; a single one is wanted")
    elif not name:
        section.refuse(key, f"{shown(text)} is not an IP address")
    elif not is_host(text):
        section.refuse(key, f"{shown(text)} is neither an IP address nor a host name")
    return text
