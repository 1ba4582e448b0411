"""A VirtualOutbound's YAML → value: selectors, parameters, the templates of host and port."""

import re

from meshdns.publisher.model import SERVICE_TAG, Place, VirtualOutbound
from meshdns.publisher.reading_parts import META_KEYS, read_tags
from meshdns.publisher.section import Section, shown
from meshdns.publisher.template import Template, TemplateError, parse

_PARAMETER = re.compile(r"[A-Za-z0-9]+\Z")
_EMPTY = parse("")


def read_virtual_outbound(section: Section, mesh: str, name: str, place: Place) -> VirtualOutbound:
    """Read the VirtualOutbound in *section*; its faults go to the section's report."""
    section.known(*META_KEYS, "selectors", "conf")
    selectors = []
    for each in section.sections("selectors"):
        each.known("match")
        selectors.append(read_tags(each, "match", wildcard=True, service=False))
        if not selectors[-1]:
            each.refuse("match", "there must be at least one tag to match")
    if not selectors and "selectors" not in section:
        section.refuse("selectors", "there must be at least one selector")
    conf = section.section("conf", required=True)
    if conf is None:
        return VirtualOutbound(mesh, name, tuple(selectors), _EMPTY, _EMPTY, (), place=place)
    conf.known("host", "port", "parameters")
    parameters = _parameters(conf)
    names = [parameter for parameter, _ in parameters]
    return VirtualOutbound(
        mesh,
        name,
        tuple(selectors),
        _template(conf, "host", names),
        _template(conf, "port", names),
        parameters,
        section.text("creationTime"),
        place,
        conf.line("host"),
        conf.line("port"),
    )


def _parameters(conf: Section) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for each in conf.sections("parameters"):
        each.known("name", "tagKey")
        name = each.text("name", required=True)
        if not name:
            continue
        if not _PARAMETER.match(name):
            each.refuse("name", f"{shown(name)}: the name of a parameter consists of letters and digits")
        if name in found:
            each.refuse("name", f"{name!r} is the name of another parameter already")
        found[name] = each.text("tagKey") or name
    if SERVICE_TAG not in found.values():
        conf.refuse("parameters", f"there must be a parameter with the tagKey {SERVICE_TAG!r}")
    return tuple(found.items())


def _template(conf: Section, key: str, parameters: list[str]) -> Template:
    text = conf.text(key, required=True)
    try:
        template = parse(text)
    except TemplateError as error:
        conf.refuse(key, str(error))
        return _EMPTY
    for name in template.fields:
        if name not in parameters:
            conf.refuse(key, f"uses .{name}, and there is no parameter of that name")
    if key == "port" and text.isascii() and text.isdigit() and not 1 <= int(text[:6]) <= 65535:
        conf.refuse(key, f"{text[:20]} is not a port from 1 to 65535")
    return template
