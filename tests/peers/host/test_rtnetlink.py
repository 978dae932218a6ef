"""What the kernel's messages say, byte by byte; no kernel is asked."""

import contextlib
import errno
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.host.address import LocalAddress
from peers.host.rtnetlink import (
    GET_ADDRESSES,
    GET_LINKS,
    Dump,
    addresses_in,
    links_in,
    request,
)

NEW_LINK, NEW_ADDRESS, FAILED, DONE = 16, 20, 2, 3
UP, RUNNING, LOWER_UP = 0x1, 0x40, 0x10000
TEMPORARY, OPTIMISTIC, DUPLICATE, DEPRECATED, TENTATIVE = 0x01, 0x04, 0x08, 0x20, 0x40
MANAGED = 0x100
"""A flag that no byte holds."""


def message(kind: int, body: bytes) -> bytes:
    whole = struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 7) + body
    return whole + bytes(-len(whole) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link(index: int, name: str, flags: int = UP | RUNNING | LOWER_UP) -> bytes:
    return message(
        NEW_LINK,
        struct.pack("=BxHiII", 0, 1, index, flags, 0)
        + attribute(0x8000 | 26, b"nested, and not known")
        + attribute(3, name.encode() + b"\0"),
    )


def address(
    host: str, index: int = 2, byte: int = 0, word: int | None = None, local: str | None = None
) -> bytes:
    packed = ipaddress.ip_address(host)
    body = struct.pack("=BBBBI", 2 if packed.version == 4 else 10, 24, byte, 0, index)
    body += attribute(1, packed.packed)
    if local is not None:
        body += attribute(2, ipaddress.ip_address(local).packed)
    if word is not None:
        body += attribute(8, struct.pack("=I", word))
    return message(NEW_ADDRESS, body)


def dumped(*pieces: bytes) -> Dump:
    dump = Dump()
    for piece in pieces:
        dump.feed(piece)
    dump.feed(message(DONE, bytes(4)))
    assert dump.done
    return dump


def read(*messages: bytes) -> list[LocalAddress]:
    return list(addresses_in(dumped(*messages), {2: "eth0"}))


def test_a_request_asks_for_all() -> None:
    assert request(GET_LINKS) == struct.pack("=IHHII", 32, 18, 0x301, 1, 0) + bytes(16)
    assert request(GET_ADDRESSES) == struct.pack("=IHHII", 24, 22, 0x301, 1, 0) + bytes(8)


def test_links_that_are_up_and_have_a_carrier_in_however_many_pieces() -> None:
    every = [
        link(1, "lo"),
        link(2, "eth0"),
        link(3, "down", RUNNING | LOWER_UP),
        link(4, "no carrier", UP | RUNNING),
        link(5, "dormant", UP | LOWER_UP),
    ]
    assert links_in(dumped(*every)) == links_in(dumped(b"".join(every))) == {1: "lo", 2: "eth0"}


def test_an_address_has_what_the_kernel_says_of_it() -> None:
    assert read(address("192.0.2.7")) == [LocalAddress("192.0.2.7", "eth0", 2, 4, 24)]
    assert read(address("fd09::1", word=MANAGED | DEPRECATED)) == [
        LocalAddress("fd09::1", "eth0", 2, 6, 24, deprecated=True)
    ]


@pytest.mark.parametrize(
    ("host", "flags", "said"),
    [
        ("fd09::1", TEMPORARY, "temporary"),
        ("192.0.2.7", TEMPORARY, ""),  # The second of a network is none.
        ("fd09::1", DEPRECATED, "deprecated"),
        ("192.0.2.7", DEPRECATED, "deprecated"),
        ("fd09::1", TENTATIVE, "tentative"),
        ("fd09::1", TENTATIVE | OPTIMISTIC, ""),
        ("fd09::1", DUPLICATE, "tentative"),
        ("fd09::1", DUPLICATE | OPTIMISTIC, "tentative"),
    ],
)
def test_flags(host: str, flags: int, said: str) -> None:
    (in_byte,), (in_word,) = (
        read(address(host, byte=flags)),
        read(address(host, byte=0xFF, word=flags)),
    )
    assert in_byte == in_word
    names = "temporary", "deprecated", "tentative"
    assert [name for name in names if getattr(in_byte, name)] == ([said] if said else [])


def test_on_a_point_to_point_link_the_local_address_is_this_hosts() -> None:
    (found,) = read(address("10.8.0.1", local="10.8.0.2"))
    assert found.host == "10.8.0.2"


def test_what_is_not_known_here_is_passed_over() -> None:
    other_family = message(NEW_ADDRESS, struct.pack("=BBBBI", 45, 24, 0, 0, 2) + attribute(1, b"x"))
    nowhere = message(NEW_ADDRESS, struct.pack("=BBBBI", 2, 24, 0, 0, 2))
    elsewhere = address("192.0.2.9", index=9)
    found = read(message(99, b"?"), other_family, nowhere, elsewhere, address("192.0.2.7"))
    assert [one.host for one in found] == ["192.0.2.7"]


@pytest.mark.parametrize("kind", [FAILED, DONE])
def test_what_the_kernel_refuses_is_its_error(kind: int) -> None:
    with pytest.raises(PermissionError) as caught:
        Dump().feed(link(1, "lo") + message(kind, struct.pack("=i", -errno.EPERM)))
    assert caught.value.errno == errno.EPERM


def test_whatever_number_the_refusal_has_it_is_one() -> None:
    for number in (1, 4095, 2**31 - 1, 2**31):
        with pytest.raises(OSError):  # noqa: PT011
            Dump().feed(message(FAILED, struct.pack("=i", -number)))


BROKEN = {
    "of nothing": message(NEW_ADDRESS, b""),
    "cut": message(NEW_ADDRESS, struct.pack("=BBB", 2, 24, 0)),
    "an attribute without a length": address("192.0.2.8")[:24] + bytes(8),
    "an attribute that is too long": message(
        NEW_ADDRESS, struct.pack("=BBBBI", 2, 24, 0, 0, 2) + struct.pack("=HH", 99, 1)
    ),
    "an address of five bytes": message(
        NEW_ADDRESS, struct.pack("=BBBBI", 2, 24, 0, 0, 2) + attribute(1, bytes(5))
    ),
    "an address of another family": message(
        NEW_ADDRESS, struct.pack("=BBBBI", 10, 24, 0, 0, 2) + attribute(1, bytes(4))
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_message_that_cannot_be_read_is_passed_over_by_itself(broken: str) -> None:
    dump = dumped(address("192.0.2.7"), BROKEN[broken] + address("fd09::1"))
    found = addresses_in(dump, {2: "eth0"})
    assert [one.host for one in found] == ["192.0.2.7", "fd09::1"]
    assert dump.unreadable == 1


def test_a_link_that_cannot_be_read_keeps_no_other_one_away() -> None:
    dump = dumped(link(1, "lo") + message(NEW_LINK, b"?") + link(2, "eth0"))
    assert links_in(dump) == {1: "lo", 2: "eth0"}
    assert dump.unreadable == 1


@pytest.mark.parametrize("length", [0, 15, 1000])
def test_what_follows_a_message_without_an_end_is_lost_to_the_end_of_its_piece(length: int) -> None:
    nonsense = struct.pack("=IHHII", length, NEW_ADDRESS, 2, 1, 7)
    dump = Dump()
    dump.feed(address("192.0.2.7") + nonsense + address("192.0.2.8"))
    assert dump.is_cut
    dump.feed(address("192.0.2.9") + message(DONE, bytes(4)))
    assert [one.host for one in addresses_in(dump, {2: "eth0"})] == ["192.0.2.7", "192.0.2.9"]
    assert (dump.done, dump.unreadable) == (True, 1)


@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(0, 4))
def test_whatever_a_message_says_the_others_are_read(junk: list[bytes], at: int) -> None:
    good = address("fd09::1", word=DEPRECATED)
    other = [message(NEW_ADDRESS, one) for one in junk] + [message(NEW_LINK, one) for one in junk]
    dump = dumped(*other[:at], link(3, "wlan0") + good, *other[at:])
    assert links_in(dump)[3] == "wlan0"
    assert "fd09::1" in {one.host for one in addresses_in(dump, {2: "eth0"})}


@given(st.binary(max_size=200), st.integers(0, 400))
def test_what_is_no_netlink_raises_what_the_kernel_says_alone(junk: bytes, at: int) -> None:
    whole = link(2, "eth0") + address("fd09::1", word=DEPRECATED)
    for data in (junk, whole[:at], whole[:at] + junk, message(NEW_ADDRESS, junk)):
        dump = Dump()
        with contextlib.suppress(OSError):
            dump.feed(data)
        list(addresses_in(dump, links_in(dump)))
