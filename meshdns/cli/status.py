"""``meshdns status``: how a running instance is, from what its processes write down; asks no server."""

import argparse
import sys
from collections.abc import Iterator, Mapping

from meshdns.cli.text import moment, one_line, print_json, span
from meshdns.config import load_for
from meshdns.processes.status import SourceState, Status, read_status
from meshdns.processes.upstream_status import ForwardingState, UpstreamState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("--ready", action="store_true", help="only tell, by the exit code, whether it can answer")
    parser.add_argument("--json", action="store_true", help="everything as an object")


def run(arguments: argparse.Namespace) -> int:
    """Show the status; 1 unless the instance runs and can answer."""
    config = load_for(arguments.config, arguments.data_dir)
    status = read_status(config.data_dir)
    if arguments.json:
        print_json(status.to_json())
    elif not arguments.ready:
        for line in _lines(status):
            print(line)
    if not status.ready:
        sys.stdout.flush()
        print(f"not ready: {_why_not(status)}", file=sys.stderr)
    return 0 if status.ready else 1


def _why_not(status: Status) -> str:
    """Give the reason in words, with what is known to help."""
    if status.problem:
        return one_line(status.problem)
    if status.draining:
        return "it is ending: it answers until its drain time is over"
    waiting = [source for source in status.sources if not source.delivered]
    if waiting:
        return "; ".join(f"source {source.name} has not delivered yet{_error(source)}" for source in waiting)
    return "no responder answers yet"


def _error(source: SourceState) -> str:
    if source.last_error is None:
        return ""
    remedy = f" ({one_line(source.last_error.remedy)})" if source.last_error.remedy else ""
    return f": {one_line(source.last_error.problem)}{remedy}"


def _lines(status: Status) -> Iterator[str]:
    state = "ready" if status.ready else "draining" if status.draining and status.running else "not ready"
    running = f"process {status.pid}" if status.running else "not running"
    yield f"meshdns {status.version}: {state}, {running}" if status.version else f"meshdns: {state}, {running}"
    if status.running and status.started is not None:
        yield f"  started     {moment(status.started)}"
    if status.running and status.listen:
        yield f"  listening   {', '.join(status.listen)}"
    if status.names is not None:
        yield f"  names       {status.names} (generation {status.generation})"
    yield from _traffic(status)
    restarts = {process.name: process.restarts for process in status.processes if process.restarts}
    yield f"  restarts    {_counts(restarts) or 'none'}"
    for process in status.processes:
        if status.running and not process.running:
            yield f"  process     {process.name} ({process.pid}): no heartbeat for {span(process.age)}"
    for source in status.sources:
        yield ""
        yield from _source(source)
    if status.forwarding is not None:
        yield ""
        yield from _forwarding(status.forwarding)


def _forwarding(state: ForwardingState) -> Iterator[str]:
    counts = {
        "hits": state.hits,
        "misses": state.misses,
        "stale": state.stale,
        "renewed early": state.prefetched,
        "unanswered": state.failed,
        "refused, too many waiting": state.crowded,
        "special names": state.special,
        "flushed": state.flushed,
    }
    yield f"forwarding: {state.entries} answers kept ({state.octets / 1024:.0f} KiB), {state.waiting} questions waiting"
    yield f"  queries     {_counts(counts) or 'none'}"
    for zone in state.without_servers:
        yield f"  zone {zone}: no server is known; its names are answered SERVFAIL"
    for each in state.upstreams:
        yield f"  upstream    {each.server} (zone {each.zone}): {_health(each)}"


def _health(each: UpstreamState) -> str:
    if each.forwards_back:
        return "not asked, because it forwards back to this instance"
    said = "never asked" if each.rtt is None else f"answers in {each.rtt * 1000:.1f} ms"
    if each.suspect_since is not None:
        said = f"suspect since {moment(each.suspect_since)}"
    asked = {"queries": each.queries, "timeouts": each.timeouts, "errors": each.errors}
    said += f"; {_counts(asked)}" if each.queries else ""
    return said + (f"; last error: {one_line(each.last_error)}" if each.last_error else "")


def _traffic(status: Status) -> Iterator[str]:
    total = sum(status.queries.values())
    yield f"  queries     {total} ({status.udp} UDP, {status.tcp} TCP)" if total else "  queries     none"
    if total:
        yield f"              {_counts(status.queries)}"
    if status.truncated:
        yield f"  truncated   {status.truncated} replies"
    if status.failed:
        yield f"  failed      {status.failed} queries met a fault of ours; the log has them"
    dropped = _counts(status.drops)
    yield f"  dropped     {dropped or 'none'}"
    if status.tcp_open:
        yield f"  TCP         {status.tcp_open} connections open"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count)


def _source(source: SourceState) -> Iterator[str]:
    where = f" {source.peer}" if source.peer else ""
    how = f" ({source.protocol})" if source.protocol else ""
    if source.connected and source.connected_since is not None:
        yield f"source {source.name}: connected to{where}{how} since {moment(source.connected_since)}"
    else:
        yield f"source {source.name}: not connected"
    if source.pushed is not None:
        version = f", version {one_line(source.version, 40)}" if source.version else ""
        yield f"  last push   {moment(source.pushed)}{version}"
    elif not source.delivered:
        yield "  last push   never; unknown names are answered SERVFAIL until it has delivered"
    if source.age is not None and source.heard != source.pushed:
        yield f"  last heard  {span(source.age)} ago"
    if source.names is not None:
        yield f"  names       {source.names}"
    if source.held_count:
        ends = f", at most {span(source.hold_ends_in)} more" if source.hold_ends_in is not None else ""
        lacking = _some(source.held, source.held_count)
        yield f"  held        {source.held_count} names that its last push lacks{ends}: {lacking}"
    if source.skipped_count:
        yield f"  skipped     {source.skipped_count}: {_some(source.skipped, source.skipped_count)}"
    for notice in source.notices:
        yield f"  notice      {one_line(notice)}"
    if source.last_error is not None:
        yield f"  last error  {one_line(source.last_error.problem)}, since {moment(source.last_error.since)}"
        if source.last_error.remedy:
            yield f"  remedy      {one_line(source.last_error.remedy)}"


def _some(lines: tuple[str, ...], count: int, limit: int = 3) -> str:
    shown = "; ".join(one_line(line) for line in lines[:limit])
    return shown + (f"; and {count - limit} more" if count > limit else "")
