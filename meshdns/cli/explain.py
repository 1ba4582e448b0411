"""``meshdns explain NAME [TYPE]``: why a name resolves as it does, or why it does not."""

import argparse
from typing import Any

from meshdns.cli.explain_forwarded import explain_forwarded
from meshdns.cli.explanation import NOT_OURS, Explainer, Explanation, tell_forwarded
from meshdns.cli.instance import configuration, snapshot
from meshdns.cli.listeners import endpoint
from meshdns.cli.names import record_json
from meshdns.cli.question import parse_question
from meshdns.cli.text import moment, one_line, print_json, rfc3339, span
from meshdns.processes.status import SourceState, Status, read_status
from meshdns.store.journal import HOLD_OVER, NO_LONGER_CONFIGURED, JournalRow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("name", metavar="NAME", help="a name, or an address (then its PTR records)")
    parser.add_argument("type", nargs="?", metavar="TYPE", help="A (default), AAAA, PTR, SRV, …, TYPE65")
    parser.add_argument("--json", action="store_true", help="everything as an object")


def run(arguments: argparse.Namespace) -> int:
    """Explain; 1 when the name does not resolve."""
    name, wire, qtype = parse_question(arguments.name, arguments.type)
    config = configuration(arguments)
    from_file = arguments.config is not None or arguments.data_dir is None
    status = read_status(config.data_dir)
    with snapshot(config) as seen:
        sources = [source.name for source in config.sources] if from_file else None
        told = Explainer(seen, config.rules(), status, sources).explain(name, wire, qtype)
    if told.how == NOT_OURS:
        forwarded = explain_forwarded(wire, qtype, config, status)
        if forwarded is not None:
            tell_forwarded(told, forwarded)
    if arguments.json:
        print_json(_as_json(told, status))
    else:
        _print(told, status)
    return 0 if told.resolves else 1


def _print(told: Explanation, status: Status) -> None:
    print(f"{told.name} {told.type}: {told.rcode}{'' if told.resolves or told.rcode != 'NOERROR' else ', no data'}")
    for answer in told.answers[:20]:
        print(f"  {one_line(answer)}")
    if len(told.answers) > 20:
        print(f"  and {len(told.answers) - 20} more")
    for label, text in _facts(told, status):
        print(f"  {label:<9} {text}")


def _facts(told: Explanation, status: Status) -> list[tuple[str, str]]:
    facts = [("because", told.reason)]
    if told.forwarded is not None:
        said = (told.forwarded.instance, *told.forwarded.servers)
        facts += [("answer" if i == 0 else "upstream", str(each)) for i, each in enumerate(said) if each is not None]
    if told.stored is not None:
        record = told.stored.record
        version = record.origin.version if told.pushed is None or told.pushed.version != record.origin.version else ""
        resource = one_line(record.origin.resource or "its table") + (f", version {one_line(version)}" * bool(version))
        facts.append(("source", f"{record.origin.source}, {resource}"))
        if told.pushed is not None:
            facts.append(("pushed", _row(told.pushed)))
        else:
            facts.append(("pushed", "before the oldest push that the journal keeps"))
        if told.stored.held:
            ends = f" for at most {span(told.hold_ends_in)} more" if told.hold_ends_in is not None else ""
            facts.append(("held", f"the last push of {record.origin.source} lacks it; the guard keeps it{ends}"))
        for port in record.ports:
            real = " (a placeholder: stands for the service's real port)" if port.placeholder else ""
            facts.append(("port", f"{port.number} → {one_line(port.target)}{real}"))
        if not record.ports:
            facts.append(("port", "none known: no listener was pushed for its address"))
        for other in told.shadowed:
            addresses = ", ".join(str(address) for address in other.addresses)
            facts.append(("hidden", f"{other.origin.source} gives {addresses}; {record.origin.source} comes before it"))
    else:
        for place, service in told.listeners.items():
            facts.append(("listener", f"{endpoint(*place)} → {one_line(service)}"))
    for address, names in told.same_address.items():
        if told.stored is not None and names:
            facts.append(("also at", f"{address}: {_list(names)}"))
    if told.source is not None:
        facts.append(("state", _state(told.source, status)))
    if told.below:
        facts.append(("below", _list(told.below)))
    for state in told.undelivered:
        facts.append(("waiting", f"{state.name}: {_state(state, status)}"))
    if told.removed is not None:
        facts.append(("removed", _row(told.removed)))
    if told.nearest:
        facts.append(("nearest", ", ".join(told.nearest)))
    facts += [("hint", hint) for hint in told.hints]
    if not status.running:
        facts.append(("instance", "does not run; this is what its store holds"))
    return [(label if label != previous else "", text) for (label, text), previous in _with_previous(facts)]


def _with_previous(facts: list[tuple[str, str]]) -> list[tuple[tuple[str, str], str]]:
    return list(zip(facts, ["", *(label for label, _ in facts)], strict=False))


def _row(row: JournalRow) -> str:
    if row.version == HOLD_OVER:
        what = f"when the hold of {row.source} was over"
    elif row.version == NO_LONGER_CONFIGURED:
        what = f"with source {row.source}, which is no longer configured"
    else:
        what = f"by {row.source}" + (f", version {one_line(row.version)}" if row.version else "")
    return f"{moment(row.time)}, {what} (generation {row.generation})"


def _state(state: SourceState, status: Status) -> str:
    if not status.running:
        said = "the instance does not run"
    elif state.connected:
        said = "connected" + (f" to {state.peer}" if state.peer else "")
    else:
        said = "not connected"
    if state.age is not None:
        said += f", heard {span(state.age)} ago"
    elif not state.delivered:
        said += ", has never delivered"
    if state.last_error is not None and (not state.connected or not state.delivered):
        said += f"; last error: {one_line(state.last_error.problem)}"
        if state.last_error.remedy:
            said += f" ({one_line(state.last_error.remedy)})"
    return said


def _list(names: tuple[str, ...], limit: int = 5) -> str:
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _as_json(told: Explanation, status: Status) -> dict[str, Any]:
    stored = told.stored
    held = None
    if stored is not None and stored.held:
        held = {"source": stored.record.origin.source, "ends_in": told.hold_ends_in}
    return {
        "name": told.name,
        "type": told.type,
        "rcode": told.rcode,
        "resolves": told.resolves,
        "how": told.how,
        "reason": told.reason,
        "answers": list(told.answers),
        "zone": told.zone,
        "matched": told.matched or None,
        "types": list(told.types),
        "record": None if stored is None else record_json(stored.record),
        "pushed": _row_json(told.pushed),
        "held": held,
        "shadowed": [record_json(record) for record in told.shadowed],
        "same_address": {str(address): list(names) for address, names in told.same_address.items()},
        "listeners": {endpoint(*place): service for place, service in told.listeners.items()},
        "below": list(told.below),
        "removed": _row_json(told.removed),
        "nearest": list(told.nearest),
        "hints": list(told.hints),
        "waiting": [_state_json(state) for state in told.undelivered],
        "source": None if told.source is None else _state_json(told.source),
        "forwarded": None
        if told.forwarded is None
        else {
            "zone": told.forwarded.zone or None,
            "special": told.forwarded.special,
            "instance": None if told.forwarded.instance is None else told.forwarded.instance.to_json(),
            "servers": [each.to_json() for each in told.forwarded.servers],
        },
        "running": status.running,
    }


def _row_json(row: JournalRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {"time": rfc3339(row.time), "generation": row.generation, "source": row.source, "version": row.version}


def _state_json(state: SourceState) -> dict[str, Any]:
    error = state.last_error
    return {
        "name": state.name,
        "connected": state.connected,
        "delivered": state.delivered,
        "age": state.age,
        "last_error": None if error is None else {"problem": error.problem, "remedy": error.remedy},
    }
