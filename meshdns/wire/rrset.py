"""Resource records in wire form, their owner given as a compression pointer into the question (RFC 1035 §4.1.4).

Every record that we serve belongs to the question's own name or to a zone that is a suffix of it, so a two-octet
pointer is always enough and a stored RRset needs no rewriting when it is answered.
"""

import struct
from collections.abc import Sequence

A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, SRV, OPT, IXFR, AXFR, ANY = (
    1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 41, 251, 252, 255,
)  # fmt: skip
IN = 1

QUESTION_OFFSET = 12
"""Where the question's name begins: right after the header."""

AT_QUESTION = (0xC000 | QUESTION_OFFSET).to_bytes(2, "big")
"""The owner "the question's name"."""

TYPE_NAMES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 28: "AAAA",
    33: "SRV", 35: "NAPTR", 39: "DNAME", 41: "OPT", 43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 64: "SVCB",
    65: "HTTPS", 250: "TSIG", 251: "IXFR", 252: "AXFR", 255: "ANY", 257: "CAA",
}  # fmt: skip
TYPE_CODES = {name: code for code, name in TYPE_NAMES.items()}


def type_code(text: str) -> int | None:
    """Give the number of an RR type written as ``AAAA`` or ``TYPE28`` (RFC 3597 §5), None if it is neither."""
    word = text.upper()
    if word in TYPE_CODES:
        return TYPE_CODES[word]
    digits = word.removeprefix("TYPE")
    return int(digits) if digits != word and digits.isdecimal() and int(digits) < 0x10000 else None


def type_name(code: int) -> str:
    """Give an RR type's mnemonic, or ``TYPE666`` (RFC 3597 §5)."""
    return TYPE_NAMES.get(code, f"TYPE{code}")


def record(rtype: int, ttl: int, rdata: bytes, *, owner: bytes = AT_QUESTION) -> bytes:
    """Give one record of class IN. ttl in seconds; rdata already in wire form."""
    return owner + struct.pack("!HHIH", rtype, IN, ttl, len(rdata)) + rdata


def rrset(rtype: int, ttl: int, rdatas: Sequence[bytes]) -> bytes:
    """Give an RRset as the store keeps it: a two-octet count, then the records, all owned by the question's name."""
    head = struct.pack("!2sHHI", AT_QUESTION, rtype, IN, ttl)
    count = len(rdatas).to_bytes(2, "big")
    return count + b"".join([head + len(rdata).to_bytes(2, "big") + rdata for rdata in rdatas])


def srv_rdata(port: int, target: bytes) -> bytes:
    """Give SRV RDATA with priority and weight 0; the target is never compressed (RFC 2782)."""
    return struct.pack("!HHH", 0, 0, port) + target


def soa_record(zone_offset: int, serial: int, *, ttl: int, timers: tuple[int, int, int, int]) -> bytes:
    """Give the SOA of the zone whose name stands at *zone_offset* in the message.

    Its MNAME is ``ns.<zone>``, its RNAME ``hostmaster.<zone>``. timers: refresh, retry, expire, minimum in seconds.
    """
    zone = (0xC000 | zone_offset).to_bytes(2, "big")
    rdata = b"\x02ns" + zone + b"\x0ahostmaster" + zone + struct.pack("!5I", serial & 0xFFFFFFFF, *timers)
    return record(SOA, ttl, rdata, owner=zone)
