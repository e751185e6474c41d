"""How addresses are read, and which numbers are public: the ground under the rule `addresses`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import pytest
from guarded_addresses import (
    PUBLIC,
    refusal,
)
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.guard._fetch import next_hop, sendable
from lamella_middlewares.guard._hosts import Refused, is_public, read

pytestmark = pytest.mark.anyio

# --- how addresses are read --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "usual"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.COM.:443/A?b#c", "https://example.com/A?b#c"),
        ("http://example.com:8080", "http://example.com:8080"),
        ("http://example.com:/x", "http://example.com/x"),
        ("https://stra\u00dfe.de/\u00fc", "https://xn--strae-oqa.de/\u00fc"),
        ("https://xn--strae-oqa.de", "https://xn--strae-oqa.de"),
        ("http://\uff11\uff12\uff17.0.0.1", "http://127.0.0.1"),
        ("http://127\u30020", "http://127.0.0.0"),
        ("http://2130706433/x", "http://127.0.0.1/x"),
        ("http://0x7f.1", "http://127.0.0.1"),
        ("http://0177.0.0.1", "http://127.0.0.1"),
        ("http://0", "http://0.0.0.0"),
        ("http://0x", "http://0.0.0.0"),
        ("http://1.2.3", "http://1.2.0.3"),
        ("http://[::1]:99", "http://[::1]:99"),
        ("http://[0:0:0:0:0:FFFF:7F00:1]", "http://127.0.0.1"),
        ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
    ],
)
def test_addresses_are_written_in_the_usual_way(given: str, usual: str) -> None:
    """Names in ASCII, numbers in four parts, no port that is understood; and that is stable."""
    found = read(given)
    assert found.url == usual
    assert read(found.url) == found


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com", "https:example.com", "https:/example.com",
        "https:///example.com", "https://", "https://?x", "https:\\\\example.com",
        "https://a.com\\@b.com", "https://a.com\n", "https://a .com", "https://a.com\t/",
        "\x01https://a.com", "https://a.com:0", "https://a.com:65536", "https://a.com:1e1",
        "https://a.com:\u0661", "https://a:b:c", "https://::1", "https://[::1", "https://[::1]x",
        "https://[fe80::1%25eth0]", "https://[127.0.0.1]", "https://[]", "https://a..b",
        "https://.a.com", "https://a.com..", "https://-a.com", "https://a%2ecom", "https://%61.com",
        "https://1.2.3.4.5", "https://256.1.1.1", "https://1.2.3.256", "https://4294967296",
        "https://09.1.1.1", "https://1.a.0x1", f"https://{'a' * 64}.com",
        f"https://{'a.' * 127}com", "https://" + 300 * "\u30fb",
        "https://\u2024", "https://a\u00a0b.com", "https://xn--\u00fc.com",
    ],
)  # fmt: skip
async def test_what_is_odd_is_refused(url: str) -> None:
    """Whoever reads it otherwise would be led elsewhere."""
    with pytest.raises(Refused) as refused:
        read(url)
    assert refused.value.reason == "malformed"
    assert await refusal(url) == "malformed"


def test_users_in_addresses_are_refused() -> None:
    """They are secrets, or a disguise of the host."""
    for url in ("https://user@a.com", "https://user:password@a.com", "https://a.com@127.0.0.1"):
        with pytest.raises(Refused) as refused:
            read(url)
        assert refused.value.reason == "credentials"


# --- which numbers are public ------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1",
        "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250",
        "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::8.8.8.8",
        "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1",
        "2001:20::1", "2001:db8::1", "2002:0a00:0001::1", "2002:7f00:1::1", "2002:808:808::1",
        "3fff::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1",
        "ff02::1", "ff0e::1",
    ],
)  # fmt: skip
def test_numbers_that_are_not_public(text: str) -> None:
    """Private, local, shared, reserved, documented, for many, or reached through a tunnel."""
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [PUBLIC, "8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "::ffff:8.8.8.8",
     "64:ff9b::8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001::200e"],
)  # fmt: skip
def test_numbers_that_are_public(text: str) -> None:
    """And IPv4 inside of IPv6 counts as itself, where a network translates it."""
    assert is_public(ip_address(text))


FORMS: tuple[Callable[[IPv4Address], str], ...] = (
    str,
    lambda n: str(int(n)),
    lambda n: hex(int(n)),
    lambda n: f"0{int(n):o}",
    lambda n: ".".join(f"0x{byte:02X}" for byte in n.packed),
    lambda n: ".".join(f"0{byte:o}" for byte in n.packed),
    lambda n: f"{n.packed[0]}.{int(n) & 0xFFFFFF}",
    lambda n: f"{n.packed[0]}.{n.packed[1]}.{int(n) & 0xFFFF}.",
    lambda n: f"[::ffff:{n}]",
    lambda n: f"[64:ff9b::{n}]",
    lambda n: "".join(chr(ord(c) + 0xFEE0) if c != "." else "\u3002" for c in str(n)),
)


@given(number=st.ip_addresses(v=4), form=st.sampled_from(FORMS))
def test_however_a_number_is_written_it_is_the_same(
    number: IPv4Address, form: Callable[[IPv4Address], str]
) -> None:
    """No way of writing a number makes it public."""
    found = read(f"http://{form(number)}/").number
    assert found is not None
    assert is_public(found) == is_public(number)
    if isinstance(found, IPv4Address):
        assert found == number


@given(number=st.ip_addresses(v=6))
def test_only_unicast_of_the_internet_is_public(number: IPv6Address) -> None:
    """Of IPv6 it is what IANA gives out, and what stands for a public IPv4 address."""
    stands_for = any(number in one for one in TRANSLATED)
    if stands_for:
        assert is_public(number) == is_public(IPv4Address(number.packed[-4:]))
    elif is_public(number):
        assert number.packed[0] >> 5 == 1


TRANSLATED = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


@given(
    url=st.text(alphabet="htps:/.@[]%\\0x17aZ\u3002\uff11\u00fc\ud800 ?#-", max_size=30),
    location=st.text(alphabet="htps:/.@[]%\\a ?#", max_size=12),
)
def test_no_text_breaks_the_reading(url: str, location: str) -> None:
    """Whatever it is, it is read or refused; what is read is read so again, and can be sent."""
    try:
        found = read(f"http://{url}")
    except Refused:
        return
    assert read(found.url) == found
    assert sendable(found.url).isascii()
    with suppress(Refused):
        next_hop(found.url, location)
