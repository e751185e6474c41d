"""Addresses of machines and of pages, and secrets in them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from detecting import ENGINES, engine, values
from hypothesis import assume, given
from hypothesis import strategies as st

from lamella_middlewares.pii._detect._ip import IP
from lamella_middlewares.pii._detect._mac import MAC
from lamella_middlewares.pii._detect._url import URL
from lamella_middlewares.pii._detect._url_credentials import URL_CREDENTIALS

IPS = {
    "10.0.0.1": ["10.0.0.1"],
    "at 192.168.1.7, and 8.8.8.8/32 or 172.16.0.1:80.": ["192.168.1.7", "8.8.8.8", "172.16.0.1"],
    "It was 10.0.0.1.": ["10.0.0.1"],
    "http://10.1.2.3/x": ["10.1.2.3"],
    "10.0.0.1-10.0.0.9": ["10.0.0.1", "10.0.0.9"],
    "192.168.001.010": ["192.168.001.010"],
    "2001:db8::1": ["2001:db8::1"],
    "[2001:db8::1]:443": ["2001:db8::1"],
    "fe80::1%eth0 up": ["fe80::1%eth0"],
    "fe80::1: no route": ["fe80::1"],
    "addr:fe80::1/64": ["fe80::1"],
    "::ffff:192.0.2.1": ["::ffff:192.0.2.1"],
    "64:ff9b::192.0.2.33": ["64:ff9b::192.0.2.33"],
    "2001:db8:0:0:0:0:192.0.2.1": ["2001:db8:0:0:0:0:192.0.2.1"],
    "2001:0DB8:85A3:0000:0000:8A2E:0370:7334.": ["2001:0DB8:85A3:0000:0000:8A2E:0370:7334"],
    "2001:db8::": ["2001:db8::"],
    "ip==10.1.2.3 <8.8.8.8>": ["10.1.2.3", "8.8.8.8"],
}
NO_IPS = (
    "1.2.3.4.5", "v1.2.3.4", "version 1.2.3.4", "Chrome/120.0.0.0", "lib-1.2.3.4.tar", "256.1.1.1",
    "01.2.3.4", "127.0.0.1", "0.0.0.0", "255.255.255.0", "::1", "::", "x[1::2]", "Dead::Beef",
    "lib>=1.2.3.4", "lib==1.2.3.4", "lib<1.2.3.4,>=1.0", "RFC 9162, 2.1.3.1", "\u00a74.2.3.2",
    "^1.2.3.4",
    "std::vector", "12:30:45", "1:2:3:4:5:6:7:8:9", "a::b::c", "00:1A:2B:3C:4D:5E", "1.2.3",
)  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("text", IPS)
def test_ip_addresses_are_found_whole(name: str, text: str) -> None:
    """Every form of RFC 4291 and dotted numbers, without ports, prefixes and punctuation."""
    with engine(name):
        assert values(IP, text) == IPS[text]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("text", NO_IPS)
def test_versions_times_and_code_are_no_ip_addresses(name: str, text: str) -> None:
    """What has the shape of an address but is none, or everybody's, is left alone."""
    with engine(name):
        assert values(IP, text) == []


@given(st.ip_addresses(v=4), st.sampled_from(["", " ", ",", ".", ":80", "/24", ")"]))
def test_every_ipv4_address_is_found(address: IPv4Address, behind: str) -> None:
    """Unless it is nobody's: loopback, unspecified, or a network mask."""
    assume(not (address.is_loopback or address.is_unspecified or address.packed[0] == 255))
    assert values(IP, f"from {address}{behind}") == [str(address)]


@given(st.ip_addresses(v=6), st.booleans(), st.sampled_from(["", " ", ",", ".", "/64", "]"]))
def test_every_ipv6_address_in_use_is_found(address: IPv6Address, full: bool, behind: str) -> None:
    """Written out always; in short form where it is of a block that is handed out."""
    assume(not (address.is_loopback or address.is_unspecified))
    text = address.exploded if full else address.compressed
    usual = address.packed[0] >> 5 == 1 or address.packed[0] in (0xFC, 0xFD, 0xFF)
    assume(full or (usual and len(text.split(":")) > 3))
    assert values(IP, f"from {text}{behind}") == [text]


MACS = {
    "00:1A:2B:3C:4D:5E": ["00:1A:2B:3C:4D:5E"],
    "mac:00:1A:2B:3C:4D:5E.": ["00:1A:2B:3C:4D:5E"],
    "(00-1a-2b-3c-4d-5e)": ["00-1a-2b-3c-4d-5e"],
    "001a.2b3c.4d5e": ["001a.2b3c.4d5e"],
    "00:11:22:ff:fe:33:44:55": ["00:11:22:ff:fe:33:44:55"],
    "00:1A:2B:3C:4D:5E: up": ["00:1A:2B:3C:4D:5E"],
    "1234.5678.9012": [],
    "aa:00:11:22:33:44:55": [],
    "ff:ff:ff:ff:ff:ff": [],
    "00:00:00:00:00:00": [],
    "12:30:45": [],
    "00:1A-2B:3C-4D:5E": [],
    "550e8400-e29b-41d4-a716-446655440000": [],
    "x00:1A:2B:3C:4D:5Ey": [],
}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("text", MACS)
def test_hardware_addresses_are_six_or_eight_pairs(name: str, text: str) -> None:
    """With one separator throughout, by themselves, and somebody's."""
    with engine(name):
        assert values(MAC, text) == MACS[text]


CREDENTIALS = {
    "postgres://bob:s3cr3t@db:5432/x": ["s3cr3t"],
    "redis://:pw@host": ["pw"],
    "https://user:p@ss@host/x": ["p@ss"],
    "https://0123456789abcdefABCDEF@git.example/x": ["0123456789abcdefABCDEF"],
    "https://x/?token=abcdef12&y=1": ["abcdef12"],
    "https://x/?a=1&amp;sig=abc%2Fdef%3D&b": ["abc%2Fdef%3D"],
    "https://x/?X-Amz-Signature=0123456789abcdef#f": ["0123456789abcdef"],
    "https://x/cb#access_token=abcdef123456&state=1": ["abcdef123456"],
    "https://x/?api_key=****&v=1": [],
    "http://user:{password}@host": [],
    "http://user:${PASSWORD}@host": [],
    "https://user@host.com": [],
    "https://host:8080/a@b": [],
    "https://host/path:x@y": [],
    "a?xtoken=abcdefgh": [],
    "?token=short": [],
    "[badge](https://x/b.svg?token=abc123def4).": ["abc123def4"],
    "at https://x/?token=abc123def4, or": ["abc123def4"],
    "mailto:a:b@c.de": [],
}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("text", CREDENTIALS)
def test_only_the_secret_of_an_address_is_found(name: str, text: str) -> None:
    """A password or a signed parameter is found, and not the address that it is in."""
    with engine(name):
        assert values(URL_CREDENTIALS, text) == CREDENTIALS[text]


URLS = {
    "see https://www.example.com/a?b=c#d.": "https://www.example.com/a?b=c#d",
    "(http://x.org/foo_(bar))": "http://x.org/foo_(bar)",
    "www.foo.bar.co.uk, and": "www.foo.bar.co.uk",
    "at Foo.de.": "Foo.de",
    "Example.com: hi": "Example.com",
    "example.co.in yes": "example.co.in",
    "example.com:8080/x?y!": "example.com:8080/x?y",
    "my.app/path": "my.app/path",
    "https://[2001:db8::1]/x": "https://[2001:db8::1]/x",
    "http://localhost:8000/v1": "http://localhost:8000/v1",
    "ftp://h/x)": "ftp://h/x",
    r"Website:\nrivera.com\n": "rivera.com",
    r"Website:\nhttps://rivera.com\n": "https://rivera.com",
}
NO_URLS = (
    "mail a@example.com now", "john.doe.com@gmail.com", "self.app = 3", "main.py README.md",
    "java.io.File", "end.In the", "here.it is", 'logger.info("x")', "http:// x", "www.x",
    "3.de", "foo.com.bar", "asp.net", "and://", "v1.2.3", "user@host.com/path", "x.com@y",
)  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("text", URLS)
def test_links_end_where_the_sentence_goes_on(name: str, text: str) -> None:
    """A link is found whole, without the punctuation behind it."""
    with engine(name):
        assert values(URL, text) == [URLS[text]]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("text", NO_URLS)
def test_files_attributes_and_hosts_of_mail_are_no_links(name: str, text: str) -> None:
    """A dot between two words makes no address."""
    with engine(name):
        assert values(URL, text) == []
