"""What ``explain`` says of a forwarded name: what the instance answers, and what each server does, asked now."""

from dataclasses import dataclass
from typing import Any

from meshdns.cli.exchange import Exchange, Server, ask, parse_server
from meshdns.cli.text import moment
from meshdns.config import Config
from meshdns.errors import MeshdnsError
from meshdns.processes.status import Status
from meshdns.processes.upstream_status import UpstreamState
from meshdns.upstream.settings import parse_server as parse_upstream
from meshdns.upstream.special import SpecialNames
from meshdns.wire.client import ReplyText
from meshdns.wire.name import parents, to_wire

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Said:
    """What one server says. reply: None when it did not; problem: then why."""

    server: str
    reply: ReplyText | None = None
    milliseconds: float | None = None
    problem: str = ""
    health: str = ""

    def __str__(self) -> str:
        if self.reply is None:
            return f"{self.server}: {self.problem}" + (f" ({self.health})" if self.health else "")
        what = self.reply.rcode + (f", {len(self.reply.answers)} records" if self.reply.answers else "")
        if self.reply.addresses:
            what += f": {', '.join(self.reply.addresses[:4])}" + (", …" if len(self.reply.addresses) > 4 else "")
        return f"{self.server}: {what}, in {self.milliseconds:.1f} ms" + (f" ({self.health})" if self.health else "")

    def to_json(self) -> dict[str, Any]:
        """Give what ``explain --json`` prints."""
        return {
            "server": self.server,
            "rcode": None if self.reply is None else self.reply.rcode,
            "answers": [] if self.reply is None else list(self.reply.answers),
            "milliseconds": None if self.milliseconds is None else round(self.milliseconds, 3),
            "problem": self.problem or None,
            "health": self.health or None,
        }


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A forwarded question. zone: by which it is. instance: what ours answers, None when it does not run."""

    zone: str
    special: bool
    instance: Said | None
    servers: tuple[Said, ...]

    @property
    def reply(self) -> ReplyText | None:
        """What a client gets: of the instance, or of the first server that answers while none runs."""
        if self.instance is not None:
            return self.instance.reply
        return next((each.reply for each in self.servers if each.reply is not None), None)


def explain_forwarded(wire: bytes, qtype: int, config: Config, status: Status) -> Forwarded | None:
    """Explain the question for *wire* (wire form) and *qtype*, which is for no name of ours.

    None where nothing is forwarded.
    """
    states = status.forwarding.upstreams if status.forwarding is not None else _configured(config)
    zones = {to_wire(state.zone): state.zone for state in states}
    if not zones:
        return None
    name = wire.lower()
    around = (*((name, *parents(name)) if len(name) > 1 else ()), b"\0")
    apex = next((each for each in around if each in zones), None)
    special = config.special_names == "answer" and SpecialNames(zones).answer(name, qtype) is not None
    instance = None
    if status.running and status.listen:
        instance = _ask(wire, qtype, _reachable(status.listen[0]), "this instance")
    if apex is None:
        return Forwarded("", special, instance, ())
    asked = () if special else tuple(_said(wire, qtype, state) for state in states if to_wire(state.zone) == apex)
    return Forwarded(zones[apex], special, instance, asked)


def _configured(config: Config) -> tuple[UpstreamState, ...]:
    return tuple(
        UpstreamState(settings.zone, str(server)) for settings in config.upstreams for server in settings.fixed
    )


def _said(wire: bytes, qtype: int, state: UpstreamState) -> Said:
    health = ""
    if state.forwards_back:
        health = "not asked by the instance: it forwards back"
    elif state.suspect_since is not None:
        health = f"suspect since {moment(state.suspect_since)}"
    server = parse_upstream(state.server)
    if server.scheme == "tls":
        rtt = "" if state.rtt is None else f"answers in {state.rtt * 1000:.1f} ms"
        return Said(state.server, problem="over TLS only the instance asks", health=health or rtt)
    return _ask(wire, qtype, (server.host, server.port), state.server, tcp=server.scheme == "tcp", health=health)


def _ask(wire: bytes, qtype: int, server: Server, label: str, *, tcp: bool = False, health: str = "") -> Said:
    try:
        exchange: Exchange = ask(wire, qtype, server, tcp=tcp)
    except MeshdnsError as fault:
        return Said(label, problem=str(fault), health=health)
    return Said(label, exchange.reply, exchange.seconds * 1000, health=health)


def _reachable(listen: str) -> Server:
    host, port = parse_server(listen)
    return _ANYWHERE.get(host, host), port
