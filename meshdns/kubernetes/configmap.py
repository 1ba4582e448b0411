"""Joining the ConfigMap of a cluster's DNS, as text: only the value that is ours to change changes.

Comments, order, other documents of the file and other blocks of the Corefile stay byte for byte. Doing it twice
gives the same text as doing it once.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import yaml

from meshdns.errors import ConfigError, Fault
from meshdns.kubernetes.corefile import CorefileError, own_lines, server_blocks
from meshdns.kubernetes.forwarders import coredns
from meshdns.kubernetes.forwarders.kube_dns import stub_domains
from meshdns.kubernetes.forwarders.target import Target

USUAL_NAMES = {"coredns": "coredns", "nodelocal": "node-local-dns", "kube-dns": "kube-dns"}
"""Resolver → name of its ConfigMap, which decides where a file holds several."""

_BLOCKS = {"coredns": coredns.block, "nodelocal": coredns.nodelocal_block}


def merge(text: str, resolver: str, target: Target, *, path: str) -> str:
    """Give *text*, a file with the ConfigMap of *resolver* (a key of USUAL_NAMES), with our part in it.

    Our block takes the port and the ``bind`` of the Corefile's root block. path: what messages name.
    Raises ConfigError for what is no such ConfigMap, and for a zone that another block of it serves already.
    """
    found = _find(text, resolver, path)
    if resolver == "kube-dns":
        return _merge_stub_domains(text, found, target, path)
    value = found.values["Corefile"]
    corefile = value.value
    try:
        block = _BLOCKS[resolver](_joining(corefile, target))
        own = own_lines(corefile)
    except CorefileError as error:
        line = value.start_mark.line + 1 + (error.line if value.style == "|" else 0)
        raise _fault(path, "data.Corefile", str(error), line) from None
    lines = block.splitlines()
    if value.style == "|" and corefile.strip():
        return _splice_literal(text, value, own, lines)
    if own is None:
        joined = corefile.rstrip("\n") + "\n" + block
    else:
        old = corefile.split("\n")
        joined = "\n".join([*old[: own[0] - 1], *lines, *old[own[1] :]])
    return _put(text, value, joined, found)


def _joining(corefile: str, target: Target) -> Target:
    """Give *target* with the port and bind of the root block. Raises CorefileError where a zone is taken."""
    blocks = server_blocks(corefile)
    others = [block for block in blocks if not block.ours]
    for block in others:
        for zone, port in block.serves:
            if zone == "":
                target = replace(target, port=port, bind=block.bind)
                break
    for block in others:
        for zone, port in block.serves:
            if zone in target.names and port == target.port:
                raise CorefileError(
                    f"another block serves {zone}:{port} already; take it out of that block", block.line
                )
    return target


@dataclass(frozen=True, slots=True)
class _Found:
    """The ConfigMap in the text: its keys' nodes, its data's, and whether it is written in flow style (JSON)."""

    name: str
    line: int
    flow: bool
    root: yaml.MappingNode
    data: yaml.MappingNode | None
    values: Mapping[str, yaml.ScalarNode]


def _find(text: str, resolver: str, path: str) -> _Found:
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise _fault(path, "", f"not YAML: {error.problem or error.context}", line) from None
    except yaml.YAMLError as error:
        raise _fault(path, "", f"not YAML: {error}", None) from None
    every = [found for document in documents for found in _config_maps(document)]
    usual = USUAL_NAMES[resolver]
    fitting = every if resolver == "kube-dns" else [found for found in every if "Corefile" in found.values]
    if len(fitting) > 1:
        named = [found for found in fitting if found.name == usual]
        if len(named) != 1:
            raise _fault(path, "", f"holds several ConfigMaps, and not exactly one is called {usual!r}", None)
        return named[0]
    if not fitting:
        what = "a ConfigMap without 'Corefile'" if every else "no ConfigMap"
        raise _fault(
            path, "data.Corefile" if every else "", f"holds {what}; {resolver} reads ConfigMap {usual!r}", None
        )
    return fitting[0]


def _config_maps(node: yaml.Node | None) -> Iterator[_Found]:
    if not isinstance(node, yaml.MappingNode):
        return
    keys = _keys(node)
    kind = keys.get("kind")
    if isinstance(kind, yaml.ScalarNode) and kind.value == "List":
        items = keys.get("items")
        if isinstance(items, yaml.SequenceNode):
            for item in items.value:
                yield from _config_maps(item)
    if not isinstance(kind, yaml.ScalarNode) or kind.value != "ConfigMap":
        return
    metadata, data = keys.get("metadata"), keys.get("data")
    name = _keys(metadata).get("name") if isinstance(metadata, yaml.MappingNode) else None
    data = data if isinstance(data, yaml.MappingNode) else None
    values = {key: value for key, value in _keys(data).items() if isinstance(value, yaml.ScalarNode)} if data else {}
    yield _Found(
        name.value if isinstance(name, yaml.ScalarNode) else "",
        node.start_mark.line + 1,
        bool(node.flow_style or (data and data.flow_style)),
        node,
        data,
        values,
    )


def _keys(node: yaml.MappingNode) -> dict[str, yaml.Node]:
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def _splice_literal(text: str, value: yaml.ScalarNode, own: tuple[int, int] | None, lines: list[str]) -> str:
    """Put *lines* into a literal block scalar: over lines *own* of its content, or behind its last line of text."""
    start = text.index("\n", value.start_mark.index) + 1
    end = value.end_mark.index
    raw = text[start:end].split("\n")  # the last one is what stands behind the last line feed
    indent = _indent(raw, value.value.split("\n"))
    ending = "\r" if raw[0].endswith("\r") else ""
    new = [(f"{indent}{line}" if line else "") + ending for line in lines]
    if own is not None:
        raw[own[0] - 1 : own[1]] = new
    else:
        last = max(number for number, line in enumerate(raw, 1) if line.strip())
        raw[last:last] = new
    return text[:start] + "\n".join(raw) + text[end:]


def _indent(raw: list[str], content: list[str]) -> str:
    """Give what YAML takes away from each line: the difference of the first line that is not blank."""
    line, kept = next((line, kept) for line, kept in zip(raw, content, strict=False) if kept.strip())
    return line[: len(line.rstrip("\r")) - len(kept)]


def _put(text: str, value: yaml.ScalarNode, content: str, found: _Found) -> str:
    """Write *content* where *value* stands: as a literal block, or in quotes where the file is JSON."""
    start, end = value.start_mark.index, value.end_mark.index
    old = text[start:end]
    # A block scalar ends with its line feeds, any other at its last character.
    block = value.style in {"|", ">"}
    tail = old[len(old.rstrip("\n")) :] if block else ""
    # What follows on the same line (a comment) would become part of a literal block.
    inline = found.flow or (not block and bool(text[end:].partition("\n")[0].strip()))
    indent = " " * (_column(found.data, value) + 2)
    return text[:start] + _scalar(content, indent, flow=inline) + tail + text[end:]


def _scalar(content: str, indent: str, *, flow: bool) -> str:
    body = content.removesuffix("\n")
    literal = not flow and content.endswith("\n") and not body.endswith("\n") and not body[:1].isspace()
    if not literal or re.search(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd]", content):
        return json.dumps(content, ensure_ascii=False)
    return "|\n" + "\n".join(f"{indent}{line}" if line else "" for line in body.split("\n"))


def _column(data: yaml.MappingNode | None, value: yaml.ScalarNode) -> int:
    assert data is not None
    return int(next(key.start_mark.column for key, node in data.value if node is value))


def _merge_stub_domains(text: str, found: _Found, target: Target, path: str) -> str:
    value = found.values.get("stubDomains")
    others: dict[str, object] = {}
    if value is not None and value.value.strip():
        try:
            read = json.loads(value.value)
        except ValueError as error:
            raise _fault(path, "data.stubDomains", f"not JSON: {error}", value.start_mark.line + 1) from None
        if not isinstance(read, dict):
            raise _fault(path, "data.stubDomains", "must be a JSON object", value.start_mark.line + 1)
        others = read
    content = stub_domains(target, others)
    if value is not None:
        return text if json.loads(content) == others else _put(text, value, content, found)
    if found.flow:
        raise _fault(
            path, "data", 'has no stubDomains, and the file is JSON: put "stubDomains": "{}" there first', None
        )
    if found.data is not None and found.data.value:
        first = found.data.value[0][0].start_mark
        indent = " " * first.column
        entry = f"stubDomains: {_scalar(content, indent + '  ', flow=False)}\n{indent}"
        return text[: first.index] + entry + text[first.index :]
    first = next(key.start_mark for key, _ in found.root.value if key.value == "kind")
    indent = " " * first.column
    entry = f"data:\n{indent}  stubDomains: {_scalar(content, indent + '    ', flow=False)}\n{indent}"
    return text[: first.index] + entry + text[first.index :]


def _fault(path: str, key: str, problem: str, line: int | None) -> ConfigError:
    return ConfigError(path, (Fault(key, problem, line),))
