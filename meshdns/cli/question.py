"""What a person typed → a question: a name or an address, and a type."""

import re
from ipaddress import ip_address

from meshdns.errors import ConfigError, Fault
from meshdns.wire.rrset import PTR, TYPE_NAMES, A, type_code

MAX_NAME, MAX_LABEL = 255, 63
"""Octets on the wire (RFC 1035 §2.3.4)."""

_PIECE = re.compile(rb"\\([0-9]{3})|\\(.)|(\.)|([^.\\]+)|(\\)", re.DOTALL)


def parse_question(name: str, qtype: str | None) -> tuple[str, bytes, int]:
    """Give the name as text and in wire form (its case kept) and the type's number.

    An address stands for its reverse name, and PTR. Raises ConfigError for what cannot be asked.
    """
    try:
        text, default = ip_address(name.strip("[]")).reverse_pointer, PTR
    except ValueError:
        text, default = name, A
    return text, to_octets(text), default if qtype is None else _type(qtype)


def to_octets(name: str) -> bytes:
    r"""Give *name* in wire form, its case kept; ``\.`` and ``\032`` mean octets (RFC 1035 §5.1)."""
    labels = [b""]
    for number, escaped, dot, plain, loose in _PIECE.findall(name.encode("utf-8", "surrogateescape")):
        if dot:
            labels.append(b"")
        elif (number and int(number) > 255) or loose:
            raise _fault("NAME", f"{name!r} has a backslash that escapes nothing")
        else:
            labels[-1] += bytes((int(number),)) if number else escaped or plain
    if not labels[-1]:
        labels.pop()
    if name != "." and not (labels and all(0 < len(label) <= MAX_LABEL for label in labels)):
        raise _fault("NAME", f"{name!r} has a label that is empty or longer than {MAX_LABEL} octets")
    wire = b"".join(bytes((len(label),)) + label for label in labels if label) + b"\0"
    if len(wire) > MAX_NAME:
        raise _fault("NAME", f"{name!r} is longer than {MAX_NAME} octets")
    return wire


def _type(text: str) -> int:
    code = type_code(text)
    if code is None:
        known = ", ".join(name for name in TYPE_NAMES.values() if name not in ("OPT", "TSIG"))
        raise _fault("TYPE", f"{text!r} is no type; known are {known}, and TYPE0 to TYPE65535")
    return code


def _fault(argument: str, problem: str) -> ConfigError:
    return ConfigError(argument, (Fault("", problem),))
