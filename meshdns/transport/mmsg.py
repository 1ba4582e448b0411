"""Many datagrams by one system call: ``recvmmsg``/``sendmmsg`` of the C library, over buffers made once (Linux).

The only door to ctypes. Structure layouts are those of the platform's own C types, and :func:`fault` sends real
datagrams through them before anybody relies on them. The calls never block, so the interpreter lock is kept
(``PyDLL``), which is cheaper than giving it up and taking it again.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate
from mmap import MADV_DONTNEED, MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Any, cast

SIZE = 64
"""Datagrams of one call."""

LARGEST = 65_535
"""Octets of the largest datagram."""

USUAL = 512
"""Octets that nearly every query keeps to. They are received side by side and copied out at once; what is longer has
its rest in a buffer of its own."""

REPLY_SPACE = 1_344
"""Octets for one reply: UDP replies have at most 1,232."""

NAME_SPACE = 28
"""Octets of a ``sockaddr_in6``, the larger of the two."""

_CONTROL_SPACE = {socket.AF_INET: 32, socket.AF_INET6: 40}
"""Octets of the one control message: its header of 16 and a ``struct in_pktinfo`` or ``in6_pktinfo``, aligned."""

_INTERFACE_AT = {socket.AF_INET: 16, socket.AF_INET6: 32}
"""Where in it the interface stands, in four octets: first in ``in_pktinfo``, last in ``in6_pktinfo``."""

_CMSG = struct.Struct("@Nii")
"""A ``struct cmsghdr``: its length with the data, level, type."""

_DONTWAIT = 0x40
_IP_PKTINFO = 8
_AGAIN = (errno.EAGAIN, errno.EINTR)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


_STEP = ctypes.sizeof(_Mmsghdr)


class Batch:
    """Buffers for ``SIZE`` datagrams in and as many replies out, and the two calls over them.

    family: of the socket. control: whether each datagram's control message (the address it was sent to) is kept and
    sent back with its reply, so that a reply of a wildcard socket leaves from the address that was asked. The interface
    is taken out of it: with it the reply would have to leave where the query came in, past the routing table.
    """

    def __init__(self, family: int, *, control: bool) -> None:
        library = ctypes.PyDLL(None, use_errno=True)
        self._recvmmsg, self._sendmmsg = library.recvmmsg, library.sendmmsg
        self._recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
        self._sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
        self._control_space = _CONTROL_SPACE[socket.AddressFamily(family)] if control else 0
        self._in = ctypes.create_string_buffer(SIZE * USUAL)
        # Mapped, not zeroed: four megabytes that only datagrams larger than a query's touch, and then give back.
        self._room = mmap(-1, SIZE * (LARGEST - USUAL), flags=MAP_PRIVATE | MAP_ANONYMOUS)
        self._rests = (ctypes.c_char * (SIZE * (LARGEST - USUAL))).from_buffer(self._room)
        self._out = ctypes.create_string_buffer(SIZE * REPLY_SPACE)
        self._names = ctypes.create_string_buffer(SIZE * NAME_SPACE)
        self._controls = ctypes.create_string_buffer(max(1, SIZE * self._control_space))
        if control:
            interface, step = _INTERFACE_AT[socket.AddressFamily(family)] // 4, self._control_space // 4
            self._interfaces = memoryview(self._controls).cast("B").cast("I")[interface::step]
            self._any_interface = memoryview(array("I", [0] * SIZE))
        self._in_vectors, self._out_vectors = (_Iovec * (2 * SIZE))(), (_Iovec * SIZE)()
        self._in_headers, self._out_headers = (_Mmsghdr * SIZE)(), (_Mmsghdr * SIZE)()
        self._lay_out()
        self._in_at, self._out_at = ctypes.addressof(self._in_headers), ctypes.addressof(self._out_headers)
        self._received, self._rest = memoryview(self._in).cast("B"), memoryview(self._rests).cast("B")
        self._replies, self._replies_at = memoryview(self._out).cast("B"), ctypes.addressof(self._out)
        self._senders = memoryview(self._names).cast("B")
        # One view over all lengths beats an object for each header by a microsecond a datagram.
        words = memoryview(self._in_headers).cast("B").cast("I")
        self._lengths = words[_Mmsghdr.length.offset // 4 :: _STEP // 4]
        vectors = memoryview(self._out_vectors).cast("B").cast("Q")
        self._reply_starts, self._reply_lengths = vectors[0::2], vectors[1::2]
        longs = memoryview(self._in_headers).cast("B").cast("Q")
        self._control_lengths = longs[_Msghdr.controllen.offset // 8 :: _STEP // 8]
        self._full_control = memoryview((ctypes.c_uint64 * SIZE)(*[self._control_space] * SIZE)).cast("B").cast("Q")

    def _lay_out(self) -> None:
        at = ctypes.addressof
        for i in range(SIZE):
            self._in_vectors[2 * i] = _Iovec(at(self._in) + i * USUAL, USUAL)
            self._in_vectors[2 * i + 1] = _Iovec(at(self._rests) + i * (LARGEST - USUAL), LARGEST - USUAL)
            pairs: tuple[tuple[Any, Any, int], ...] = (
                (self._in_headers, self._in_vectors, 2),
                (self._out_headers, self._out_vectors, 1),
            )
            for headers, vectors, each in pairs:
                header = headers[i].header
                header.name, header.namelen = at(self._names) + i * NAME_SPACE, NAME_SPACE
                header.iov, header.iovlen = at(vectors) + i * each * ctypes.sizeof(_Iovec), each
                if self._control_space:
                    header.control = at(self._controls) + i * self._control_space
                    header.controllen = self._control_space

    def receive(self, fd: int) -> list[bytes]:
        """Give the datagrams that wait on *fd*, at most ``SIZE``; none when none waits.

        Raises OSError for what is no lack of datagrams (an ICMP error about an earlier reply among it).
        """
        if self._control_space:
            self._control_lengths[:] = self._full_control  # the kernel wrote what it used
        count = self._recvmmsg(fd, self._in_at, SIZE, _DONTWAIT, None)
        if count <= 0:
            code = ctypes.get_errno()
            if count == 0 or code in _AGAIN:
                return []
            raise OSError(code, os.strerror(code))
        if self._control_space:
            self._interfaces[:] = self._any_interface
        usual = bytes(self._received[: count * USUAL])
        lengths = self._lengths[:count].tolist()
        if max(lengths) <= USUAL:
            return [usual[at : at + length] for at, length in zip(_STARTS, lengths, strict=False)]
        whole = [self._whole(i, usual, length) for i, length in enumerate(lengths)]
        self._room.madvise(MADV_DONTNEED)
        return whole

    def _whole(self, i: int, usual: bytes, length: int) -> bytes:
        at, rest = i * USUAL, i * (LARGEST - USUAL)
        begin = usual[at : at + min(length, USUAL)]
        return begin + bytes(self._rest[rest : rest + length - USUAL]) if length > USUAL else begin

    def sender(self, i: int) -> bytes:
        """Give the socket address of the *i*-th received datagram: of IPv4 the first 8 octets count, of IPv6 all."""
        return self._senders[i * NAME_SPACE : (i + 1) * NAME_SPACE].tobytes()

    def control(self, i: int) -> list[tuple[int, int, bytes]]:
        """Give the control message of the *i*-th received datagram as ``sendmsg`` takes it; none if there is none."""
        length = self._control_lengths[i] if self._control_space else 0
        if length <= _CMSG.size:
            return []
        at = i * self._control_space
        size, level, kind = _CMSG.unpack_from(self._controls, at)
        return [(level, kind, memoryview(self._controls)[at + _CMSG.size : at + size].tobytes())]

    def send(self, fd: int, replies: Sequence[bytes | None]) -> int:
        """Send ``replies[i]`` to the sender of the *i*-th received datagram; give how many the kernel took.

        None sends nothing. What a full socket buffer does not take is lost, as UDP may lose anything; a reply that
        the kernel refuses (its client's address became unreachable) costs itself only.
        """
        if None in replies:
            sizes = [0 if reply is None else len(reply) for reply in replies]
            octets = b"".join([reply for reply in replies if reply is not None])
        else:
            sizes = list(map(len, cast(Sequence[bytes], replies)))
            octets = b"".join(cast(Sequence[bytes], replies))
        self._replies[: len(octets)] = octets
        count = len(sizes)
        self._reply_lengths[:count] = memoryview(array("Q", sizes))
        self._reply_starts[:count] = memoryview(array("Q", accumulate(sizes[:-1], initial=self._replies_at)))
        if None not in replies:
            return self._send_run(fd, 0, count)
        sent = start = 0
        for i, reply in enumerate(replies):
            if reply is None:
                sent += self._send_run(fd, start, i)
                start = i + 1
        return sent + self._send_run(fd, start, count)

    def _send_run(self, fd: int, start: int, end: int) -> int:
        taken = 0
        while start < end:
            count = self._sendmmsg(fd, self._out_at + start * _STEP, end - start, _DONTWAIT)
            if count > 0:
                taken += count
                start += count
                continue
            code = ctypes.get_errno()
            if code == errno.EINTR:
                continue
            if code in (errno.EAGAIN, errno.ENOBUFS):
                break
            start += 1  # sendmmsg reports the fault of its first message: that one is given up
        return taken


_STARTS = range(0, SIZE * USUAL, USUAL)


def supported() -> bool:
    """Tell whether the layouts above are this platform's: Linux with glibc, x86-64 or arm64."""
    return (
        sys.platform == "linux"
        and platform.machine() in ("x86_64", "aarch64")
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and platform.libc_ver()[0] == "glibc"
    )


def fault() -> str | None:
    """Say why batches cannot be used on this machine, None if they can: real datagrams go through one first."""
    if not supported():
        return f"not Linux with glibc on x86-64 or arm64 ({platform.platform()})"
    try:
        for control in (False, True):
            _try_batch(control=control)
    except (OSError, AttributeError, ValueError) as error:
        return f"self-check failed: {error}"
    return None


def _try_batch(*, control: bool) -> None:
    """Raise OSError or ValueError unless three datagrams come back to their sender, from the address it asked."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        asked = "127.0.0.1"
        if control:
            server.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        server.bind(("0.0.0.0" if control else asked, 0))
        client.settimeout(1)
        client.connect((asked, server.getsockname()[1]))
        batch = Batch(socket.AF_INET, control=control)
        for text in (b"one", b"", b"three" * 800):
            client.send(text)
        received = batch.receive(server.fileno())
        if received != [b"one", b"", b"three" * 800]:
            raise ValueError(f"sent 3 datagrams, received {[len(each) for each in received]} octets")
        sent = batch.send(server.fileno(), [b"first", None, b"third"])
        if (sent, client.recv(512), client.recv(512)) != (2, b"first", b"third"):
            raise ValueError("replies did not come back")
