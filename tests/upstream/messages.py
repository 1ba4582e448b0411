"""Responses as other servers send them, written as zone-file text."""

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from meshdns.wire.name import to_wire

SOA = "example. 3600 SOA ns.example. hm.example. 1 3600 600 86400 60"


def question(name: str, rdtype: str = "A") -> bytes:
    """Give name, type and class as in a query."""
    return to_wire(name) + dns.rdatatype.from_text(rdtype).to_bytes(2, "big") + b"\0\1"


def response(
    asked: str,
    answers: str = "",
    authority: str = "",
    additional: str = "",
    *,
    rcode: str = "NOERROR",
    flags: int = 0,
    id: int = 0x1234,
    edns: bool = True,
) -> bytes:
    """Give a response to *asked* (``name type``) whose sections are lines of zone-file text."""
    name, rdtype = asked.split()
    query = dns.message.make_query(name, rdtype, use_edns=0 if edns else -1, payload=1232, id=id)
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.from_text(rcode))
    reply.flags |= flags
    for section, text in ((reply.answer, answers), (reply.authority, authority), (reply.additional, additional)):
        for line in filter(None, map(str.strip, text.splitlines())):
            owner, ttl, rtype, *data = line.split(None, 3)
            section.append(dns.rrset.from_text(owner, int(ttl), "IN", rtype, data[0] if data else ""))
    return reply.to_wire(max_size=65535)
