"""Writes ``tests/data/packets``: valid queries, and one or more packets of each malformed class.

Run it after a change: ``python -m tests.wire.make_packets``. A file's name says what it is.
"""

from collections.abc import Iterator

from tests.wire.packets import OPT, PACKETS, opt, option, query


def wire(*labels: bytes) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


NAMES = {
    "web": wire(b"web", b"mesh"),
    "mixed-case": wire(b"wEb", b"MESH"),
    "dual": wire(b"dual", b"mesh"),
    "six": wire(b"six", b"mesh"),
    "big": wire(b"big", b"mesh"),
    "mid": wire(b"mid", b"mesh"),
    "ent": wire(b"ent", b"mesh"),
    "wildcard": wire(b"foo", b"wild", b"mesh"),
    "literal-wildcard": wire(b"*", b"wild", b"mesh"),
    "enclosed": wire(b"sub", b"exist", b"wild", b"mesh"),
    "unknown": wire(b"nosuch", b"mesh"),
    "below-leaf": wire(b"x", b"web", b"mesh"),
    "lenient": wire(b"echo_default", b"svc", b"80", b"mesh"),
    "apex": wire(b"mesh"),
    "root": b"\0",
    "outside": wire(b"www", b"example", b"org"),
    "suffix": wire(b"web", b"notmesh"),
    "reverse": wire(b"1", b"0", b"0", b"240", b"in-addr", b"arpa"),
    "dot-in-label": wire(b"web.mesh"),
    "odd-octets": wire(b"we\0b \xff\\", b"mesh"),
    "label-63": wire(b"a" * 63, b"mesh"),
    "name-255": wire(b"a" * 63, b"a" * 63, b"a" * 63, b"a" * 56, b"mesh"),
    "127-labels": wire(*[b"a"] * 124, b"mesh"),
}
TYPES = {
    "a": 1, "ns": 2, "soa": 6, "null": 10, "ptr": 12, "mx": 15, "txt": 16, "aaaa": 28, "srv": 33, "opt": 41, "ds": 43,
    "dnskey": 48, "https": 65, "tsig": 250, "ixfr": 251, "axfr": 252, "any": 255, "caa": 257, "666": 666,
    "65535": 65535,
}  # fmt: skip
WEB = NAMES["web"]


def packets() -> Iterator[tuple[str, bytes]]:
    for name, owner in NAMES.items():
        for kind in ("a", "aaaa", "any"):
            yield f"valid-{name}-{kind}", query(owner, TYPES[kind])
        yield f"valid-{name}-edns", query(owner, 1, extra=OPT, additional=1)
    for kind, code in TYPES.items():
        yield f"type-{kind}", query(WEB, code)
        yield f"type-{kind}-edns", query(WEB, code, extra=OPT, additional=1)
    for bit in range(16):
        yield f"flags-{bit:02}", query(WEB, 1, flags=1 << bit)
    for opcode in range(1, 16):
        yield f"opcode-{opcode:02}", query(NAMES["apex"], 6, flags=opcode << 11)
        yield f"opcode-{opcode:02}-header-only", b"\x12\x34" + (opcode << 11).to_bytes(2, "big") + b"\0" * 8
    for qclass in (0, 2, 3, 4, 254, 255, 65280):
        yield f"class-{qclass}", query(WEB, 1, qclass=qclass)
    for word in (b"version", b"hostname"):
        yield f"chaos-{word.decode()}", query(wire(word, b"bind"), 16, qclass=3)
    for size in (0, 100, 511, 512, 513, 1231, 1232, 1233, 4096, 65535):
        yield f"edns-size-{size}", query(NAMES["big"], 1, extra=opt(size), additional=1)
    for version in (1, 100, 255):
        yield f"edns-version-{version}", query(WEB, 1, extra=opt(version=version), additional=1)
    for flags in (0x8000, 0x4000, 0x7FFF, 0xFFFF):
        yield f"edns-flags-{flags:04x}", query(WEB, 1, extra=opt(flags=flags), additional=1)
    options = {
        "unknown": option(65001, b"z" * 50), "nsid": option(3, b""), "ecs-0": option(8, b"\0\1\0\0"),
        "ecs-24": option(8, b"\0\1\x18\0\xc0\0\2"), "cookie-8": option(10, b"clientck"),
        "cookie-7": option(10, b"c" * 7),
        "cookie-41": option(10, b"c" * 41), "keepalive": option(11, b""), "keepalive-value": option(11, b"\0\x64"),
        "padding": option(12, b"\0" * 64), "many": option(3, b"") * 300, "empty-64k": option(65001, b"") * 16_000,
        "overrun": b"\0\x0a\xea\x60abcdefgh", "half": b"\0\x0a\0",
    }  # fmt: skip
    for name, data in options.items():
        yield f"edns-option-{name}", query(WEB, 1, extra=opt(options=data), additional=1)
    yield "edns-two", query(WEB, 1, extra=OPT * 2, additional=2)
    yield "edns-nine", query(WEB, 1, extra=OPT * 9, additional=9)
    yield "edns-owner", query(WEB, 1, extra=b"\1a" + OPT, additional=1)
    yield "edns-in-answer", query(WEB, 1, extra=OPT, answers=1)
    yield "edns-in-authority", query(WEB, 1, extra=OPT, authorities=1)
    yield "edns-rdlength-past-end", query(WEB, 1, extra=OPT[:-2] + b"\x01\xf4", additional=1)
    yield "edns-cut", query(WEB, 1, extra=OPT[:6], additional=1)
    pointers = {
        "self": b"\xc0\x0c", "loop": b"\x03web\xc0\x0c", "forward": b"\xc0\x20", "header": b"\xc0\x00",
        "past-end": b"\xff\xff", "label-type-01": b"\x41a\0", "label-type-10": b"\x80a\0", "cut": b"\x3fweb",
        "too-long": (b"\x3f" + b"a" * 63) * 4 + b"\0", "chain": b"\x01a" * 40 + b"\xc0\x0c",
    }  # fmt: skip
    for name, owner in pointers.items():
        yield f"name-{name}", query(owner, 1, extra=b"\0" * 20)
        yield f"name-{name}-in-additional", query(WEB, 1, extra=owner + OPT[1:], additional=1)
    for length in (0, 1, 2, 11, 12):
        yield f"cut-{length:02}", query(WEB, 1)[:length]
    for length in range(13, 26, 3):
        yield f"cut-{length:02}", query(WEB, 1)[:length]
    yield "header-only", b"\x12\x34\1\0" + b"\0" * 8
    yield "question-missing", b"\x12\x34\1\0\0\1" + b"\0" * 6
    yield "two-questions", query(WEB, 1, questions=2, extra=WEB + b"\0\1\0\1")
    yield "65535-questions", b"\x12\x34\1\0\xff\xff" + b"\xc0\xff" * 17
    for section in ("answers", "authorities", "additional"):
        yield f"{section}-65535", query(WEB, 1, **{section: 65535})  # type: ignore[arg-type]
        yield f"{section}-absent", query(WEB, 1, **{section: 1})  # type: ignore[arg-type]
    evil = wire(b"evil", b"mesh") + b"\0\1\0\1\0\0\x0e\x10\0\4\6\6\6\6"
    yield "answer-inside", query(WEB, 1, answers=1, extra=evil)
    yield "additional-inside", query(WEB, 1, additional=1, extra=evil)
    yield "trailing", query(WEB, 1, extra=b"garbage!")
    yield "trailing-behind-opt", query(WEB, 1, additional=1, extra=OPT + b"garbage!")
    tsig = wire(b"k") + b"\0\xfa\0\xff\0\0\0\0\0\x3b" + wire(b"hmac-sha256") + b"\0" * 6 + b"\1\x2c\0\x20" + b"\0" * 36
    yield "tsig", query(WEB, 1, additional=1, extra=tsig)
    yield "tsig-and-opt", query(WEB, 1, additional=2, extra=OPT + tsig)
    yield "sig0", query(WEB, 1, additional=1, extra=b"\0\0\x18\0\xff\0\0\0\0\0\x04\0\0\0\0")
    yield "tkey", query(wire(b"k"), 249, qclass=255)
    yield "response", query(WEB, 1, flags=0x8580)
    yield "response-formerr", query(WEB, 1, flags=0x8001)
    yield "zeros-512", b"\0" * 512
    yield "ones-512", b"\xff" * 512
    yield "ones-512-as-query", b"\x12\x34\1\0" + b"\xff" * 508
    yield "largest", query(WEB, 1, extra=b"\0" * 64_000)


def main() -> None:
    PACKETS.mkdir(parents=True, exist_ok=True)
    for path in PACKETS.glob("*.bin"):
        path.unlink()
    for name, message in packets():
        (PACKETS / f"{name}.bin").write_bytes(message)


if __name__ == "__main__":
    main()
