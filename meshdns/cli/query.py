"""``meshdns query NAME [TYPE]``: ask a server as a client would, and print its reply short."""

import argparse
import sys
from ipaddress import ip_address

from meshdns.cli.exchange import Exchange, Server, ask, endpoint, parse_server
from meshdns.cli.question import parse_question
from meshdns.cli.text import one_line, print_json
from meshdns.config import Config, find, load_for
from meshdns.errors import ConfigError, MeshdnsError
from meshdns.processes.status import read_status
from meshdns.wire.rrset import type_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("name", metavar="NAME", help="a name, or an address (then its PTR records)")
    parser.add_argument("type", nargs="?", metavar="TYPE", help="A (default), AAAA, PTR, SRV, …, TYPE65")
    parser.add_argument(
        "--server",
        metavar="ADDR[:PORT]",
        help="which server, port 53 without PORT (default: the instance's first listen address, else 127.0.0.1:15053)",
    )
    parser.add_argument("--short", action="store_true", help="print addresses only")
    parser.add_argument("--tcp", action="store_true", help="ask over TCP at once")
    parser.add_argument("--json", action="store_true", help="the reply as an object")


def run(arguments: argparse.Namespace) -> int:
    """Ask and print the reply; 1 unless it holds an answer."""
    name, wire, qtype = parse_question(arguments.name, arguments.type)
    server = parse_server(arguments.server) if arguments.server else _default_server(arguments)
    exchange = ask(wire, qtype, server, tcp=arguments.tcp)
    reply = exchange.reply
    if arguments.json:
        print_json({"name": name, "type": type_name(qtype), **_as_json(exchange)})
    elif arguments.short:
        for address in reply.addresses:
            print(address)
    else:
        _print(exchange, qtype)
    answered = reply.rcode == "NOERROR" and bool(reply.answers)
    if not answered and not arguments.json and arguments.server is None:
        sys.stdout.flush()
        which = f" --config {arguments.config}" * bool(arguments.config)
        which += f" --data-dir {arguments.data_dir}" * bool(arguments.data_dir)
        print(f"meshdns explain {arguments.name} {type_name(qtype)}{which} can say why", file=sys.stderr)
    return 0 if answered else 1


def _default_server(arguments: argparse.Namespace) -> Server:
    """Give where the instance that the arguments mean answers; without any, where one does by default."""
    listen = Config().listen
    if arguments.config or arguments.data_dir or _is_configured():
        config = load_for(arguments.config, arguments.data_dir)
        status = read_status(config.data_dir)
        listen = (status.listen if status.running else ()) or config.listen
    host, port = parse_server(listen[0])
    if not port:
        raise MeshdnsError(f"listen is {listen[0]}: the port is known only while meshdns serve runs; name a --server")
    if ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return host, port


def _is_configured() -> bool:
    try:
        find()
    except ConfigError:
        return False
    return True


def _print(exchange: Exchange, qtype: int) -> None:
    reply = exchange.reply
    said = [reply.rcode]
    if reply.authoritative:
        said.append("authoritative")
    if reply.truncated:
        said.append("truncated")
    if reply.rcode == "NOERROR" and not reply.answers:
        said.append(f"no {type_name(qtype)} record")
    print(f"; {', '.join(said)}")
    if reply.extended_error is not None:
        code, text = reply.extended_error
        print(f"; extended error {code}: {one_line(text)}")
    for line in reply.answers:
        print(one_line(line, 70_000))
    for line in reply.authority:
        print(f"; authority: {one_line(line)}")
    how = f"{exchange.transport}, {exchange.octets} octets, {exchange.seconds * 1000:.1f} ms"
    print(f"; {endpoint(exchange.server)} over {how}")


def _as_json(exchange: Exchange) -> dict[str, object]:
    reply = exchange.reply
    extended = reply.extended_error
    return {
        "rcode": reply.rcode,
        "authoritative": reply.authoritative,
        "truncated": reply.truncated,
        "addresses": list(reply.addresses),
        "answers": list(reply.answers),
        "authority": list(reply.authority),
        "extended_error": None if extended is None else {"code": extended[0], "text": extended[1]},
        "server": endpoint(exchange.server),
        "transport": exchange.transport.lower(),
        "octets": exchange.octets,
        "milliseconds": round(exchange.seconds * 1000, 3),
    }
