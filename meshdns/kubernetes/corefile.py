"""Reading a Corefile as far as joining one needs: its server blocks, and where our own earlier block stands.

The Corefile is a Caddyfile: words parted by white space, ``"…"`` one word, ``#`` at the begin of a word a comment;
keys, then ``{`` as the last word of a line, plugins one a line, then ``}`` alone.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_network

from meshdns.inventory.name import reverse_zones
from meshdns.kubernetes.forwarders.coredns import BEGIN, END

_WORD = re.compile(r'(?P<comment>#[^\n]*)|"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<plain>\S+)')
_KEY = re.compile(r"(?:(?P<scheme>[a-z0-9+]+)://)?(?P<zone>.*?)(?::(?P<port>\d+))?\Z")


class CorefileError(Exception):
    """The Corefile cannot take our block; ``line`` counts from 1."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


@dataclass(frozen=True, slots=True)
class ServerBlock:
    """One block: the (zone, port) pairs that it serves over plain DNS, what it binds to, its line, whether it is ours.

    Zones are lower case without a final dot; the root is ``""``.
    """

    serves: tuple[tuple[str, int], ...]
    bind: tuple[str, ...]
    line: int
    ours: bool = False


def server_blocks(corefile: str) -> tuple[ServerBlock, ...]:
    """Give the server blocks of *corefile*, in order.

    Raises CorefileError for a file without braces (which can hold one block only) and for braces that do not match.
    """
    own = own_lines(corefile)
    blocks: list[ServerBlock] = []
    keys: list[str] = []
    bind: list[str] = []
    depth = start = last_line = 0
    directive: str | None = None
    skipped_line = 0
    for match in _WORD.finditer(corefile):
        if match["comment"] is not None:
            continue
        word = match["quoted"] if match["quoted"] is not None else match["plain"]
        line = corefile.count("\n", 0, match.start()) + 1
        plain = match["plain"]
        if depth == 0:
            if line == skipped_line:
                continue
            if plain == "{":
                depth = 1
                directive = None
            elif plain == "}":
                raise CorefileError("'}' without a block", line)
            elif plain == "import" and not keys:
                skipped_line = line
            else:
                start = start if keys else line
                keys += [key for key in word.split(",") if key]
        elif plain == "{":
            depth += 1
        elif plain == "}":
            depth -= 1
            if depth == 0:
                if not keys or not keys[0].startswith("("):  # a snippet serves nothing
                    ours = own is not None and own[0] < start <= own[1]
                    blocks.append(ServerBlock(_serves(keys), tuple(bind), start, ours))
                keys, bind = [], []
        elif depth == 1:
            if line != last_line or directive is None:
                directive = word
            elif directive == "bind":
                bind.append(word)
        last_line = line
    if depth:
        raise CorefileError("the block is not closed", start)
    if keys:
        raise CorefileError("a Corefile without braces holds one block only; put its plugins into '{ }' first", start)
    return tuple(blocks)


def own_lines(corefile: str) -> tuple[int, int] | None:
    """Give the first and last line of our earlier block, both from 1, markers included; None if there is none.

    Raises CorefileError for a marker without its partner, and for a second block.
    """
    lines = [line.strip() for line in corefile.split("\n")]
    begins = [number for number, line in enumerate(lines, 1) if line == BEGIN or line.startswith(BEGIN + ":")]
    ends = [number for number, line in enumerate(lines, 1) if line == END]
    if not begins and not ends:
        return None
    if len(begins) > 1 or len(ends) > 1:
        second = (begins[1:] or ends[1:])[0]
        raise CorefileError("a second marker of meshdns; take one of the two blocks out", second)
    if not ends or not begins or ends[0] < begins[0]:
        raise CorefileError(f"'{BEGIN}' and '{END}' do not enclose a block", (begins or ends)[0])
    return begins[0], ends[0]


def _serves(keys: list[str]) -> tuple[tuple[str, int], ...]:
    served = []
    for key in keys:
        match = _KEY.match(key)
        if match is None or match["scheme"] not in {None, "dns"}:
            continue
        zone, port = match["zone"], int(match["port"] or 53)
        served += [(name, port) for name in _zones(zone)]
    return tuple(served)


def _zones(zone: str) -> tuple[str, ...]:
    """Give the zones that a key names: one, or the reverse zones of a network."""
    if "/" in zone:
        try:
            return reverse_zones(ip_network(zone, strict=False))
        except ValueError:
            pass
    return (zone.rstrip(".").lower(),)
