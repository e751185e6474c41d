"""The rule `addresses`: no request leads a provider, or the guard, to where nobody else looks."""

from __future__ import annotations

import math
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    BlockedError,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    DeadlineExceeded,
    File,
    Image,
    InspectionError,
    Message,
    ModerationRequest,
    ModerationResponse,
    Opaque,
    Pipeline,
    Text,
    TokenCountRequest,
    TokenCountResponse,
    ToolCall,
    ToolResult,
    request_key,
)
from lamella.testing import Scripted, virtual_ports
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella_middlewares import Deadline
from lamella_middlewares.guard import Guard, addresses
from lamella_middlewares.guard._fetch import next_hop, sendable
from lamella_middlewares.guard._hosts import Refused, is_public, read
from lamella_middlewares.guard._media import map_media

pytestmark = pytest.mark.anyio

PUBLIC = "93.184.216.34"
PNG = b"\x89PNG\r\n\x1a\n picture"
LOOPBACK = ("127.0.0.0/8",)
"""What tests allow expressly, as their servers are there."""


@attrs.frozen
class Later:
    """An answer that has to be waited for."""

    function: Callable[[], Awaitable[Any]]

    def __call__(self) -> Awaitable[Any]:
        return self.function()


class Names:
    """A resolver with a table: each name has answers for the first look, the second ..."""

    def __init__(self, table: Mapping[str, Sequence[Any]]) -> None:
        self.table: dict[str, list[Any]] = {name: list(answers) for name, answers in table.items()}
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        answers = self.table.get(host)
        if not answers:
            raise OSError(-2, "Name or service not known")
        answer: Any = answers.pop(0) if len(answers) > 1 else answers[0]
        return list(await answer() if isinstance(answer, Later) else answer)


def names(**table: Any) -> Names:
    """A resolver of names under example.com, each always with the same answer."""
    return Names({f"{name}.example.com": [answer] for name, answer in table.items()})


PUBLIC_NAMES = {"images.example.com": [[PUBLIC]]}


def pipe(
    *rules: Any, transport: Any = None, resolve: Any = None, **options: Any
) -> tuple[Pipeline, Any]:
    """A guarded pipeline and its transport, with a resolver of its own."""
    transport = transport or Scripted(["ok"], repeat=True)
    ports = attrs.evolve(virtual_ports(), resolve=resolve or Names(PUBLIC_NAMES))
    return Pipeline([Guard(list(rules), **options)], transport, ports=ports), transport


def showing(*media: Any) -> ChatRequest:
    """A question about pictures or documents, given as parts or as addresses of pictures."""
    parts = [Image(url=one) if isinstance(one, str) else one for one in media]
    return ChatRequest.of([Message.user([Text("What is this?"), *parts])], model="m")


async def refusal(url: str, rule: Any = None, resolve: Any = None) -> str:
    """Why a picture at an address is blocked; empty if it passes."""
    pipeline, transport = pipe(rule or addresses(schemes=["http", "https"]), resolve=resolve)
    blocked: BlockedError | None = None
    try:
        await pipeline.run(showing(url))
    except BlockedError as error:
        blocked = error
    assert len(transport.requests) == (blocked is None)
    if blocked is None:
        return ""
    assert blocked.rule == "addresses"
    assert not url or url not in str(blocked)
    return str(blocked).partition(": ")[2].partition(" ")[0]


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
        ("http://127\u3002 0".replace(" ", ""), "http://127.0.0.0"),
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
        f"https://{'a.' * 127}com",
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


# --- what is checked ---------------------------------------------------------------------------


async def test_public_addresses_pass() -> None:
    """The name is looked up once, and the request goes on as it is."""
    resolve = Names(PUBLIC_NAMES)
    pipeline, transport = pipe(addresses(), resolve=resolve)
    asked = showing("https://images.example.com/a.png", "https://images.example.com/a.png")
    await pipeline.run(asked)
    assert transport.requests[0].messages == asked.messages
    assert resolve.asked == [("images.example.com", 443)]


async def test_what_leads_nowhere_is_not_looked_up() -> None:
    """Contents, data URLs, and documents that the provider holds."""
    resolve = names()
    pipeline, transport = pipe(addresses(fetch=True), resolve=resolve)
    media = (
        Image(data=PNG, media_type="image/png"),
        Image(url="data:image/png;base64,AAAA"),
        File(id="file-1"),
        File(data=b"x", media_type="text/plain"),
    )
    await pipeline.run(showing(*media))
    assert transport.requests[0].messages[0].parts[1:] == media
    assert not resolve.asked


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([PUBLIC], ""),
        ([PUBLIC, "2606:4700::1111"], ""),
        ([PUBLIC, "10.0.0.1"], "private"),
        (["127.0.0.1"], "private"),
        (["169.254.169.254"], "private"),
        (["::1"], "private"),
        (["::ffff:192.168.0.1"], "private"),
        (["64:ff9b::a00:1"], "private"),
        (["2002:7f00:1::"], "private"),
        (["fe80::1%eth0"], "private"),
        (["224.0.0.1"], "private"),
        (["64:ff9b::5db8:d822"], ""),
        ([], "unresolved"),
        (["images.example.com"], "unresolved"),
    ],
)
async def test_every_number_of_a_name_must_be_public(found: list[str], reason: str) -> None:
    """One that is not is enough; so is a name that cannot be looked up."""
    assert await refusal("https://a.example.com/x", resolve=names(a=found)) == reason


async def test_names_that_do_not_exist_are_blocked() -> None:
    """Who cannot be looked up cannot be checked."""
    assert await refusal("https://nobody.example.com") == "unresolved"

    async def broken(_host: str, _port: int) -> list[str]:
        raise UnicodeError

    assert await refusal("https://nobody.example.com", resolve=broken) == "unresolved"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1/", "private"),
        ("http://0x7f.1/", "private"),
        ("https://[::ffff:10.0.0.1]/", "private"),
        ("https://user@images.example.com/", "credentials"),
        ("ftp://images.example.com/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("blob:https://images.example.com/1", "scheme"),
        ("https://images.example.com:8443/", "port"),
        ("http://images.example.com:443/", "port"),
        ("https://localhost/", "host"),
        ("https://localhost./", "host"),
        ("https://metadata/", "host"),
        ("https://a.localhost/", "host"),
        ("https://metadata.google.internal/", "host"),
        ("https://printer.local/", "host"),
        ("https://images.example.com/", ""),
        (f"https://{PUBLIC}/", ""),
    ],
)
async def test_what_else_is_blocked(url: str, reason: str) -> None:
    """Numbers, users, schemes, ports, and names of a network of one's own."""
    assert await refusal(url) == reason


async def test_only_https_by_default() -> None:
    """Others have to be named; those that are not of the web are the provider's affair."""
    assert await refusal("http://images.example.com/", addresses()) == "scheme"
    assert await refusal("gs://bucket/x", addresses()) == "scheme"
    assert await refusal("gs://bucket/x", addresses(schemes=["https", "GS"])) == ""


async def test_hosts_are_allowed_and_denied() -> None:
    """By name and below; being allowed does not make a number public."""
    everywhere = Names(
        {
            host: [[PUBLIC]]
            for host in ("example.com", "cdn.example.com", "a.cdn.example.com", "example.org")
        }
        | {"home.example.com": [["10.0.0.1"]], "images": [["10.0.0.1"]]}
    )
    rule = addresses(
        allow_hosts=["Example.com", "*.example.com", "images"], deny_hosts=["*.cdn.example.com"]
    )
    for host, reason in {
        "EXAMPLE.com.": "",
        "cdn.example.com": "",
        "a.cdn.example.com": "host",
        "example.org": "host",
        "notexample.com": "host",
        "home.example.com": "private",
        "images": "private",
        PUBLIC: "host",
    }.items():
        assert await refusal(f"https://{host}/", rule, everywhere) == reason, host


async def test_networks_and_ports_are_allowed_expressly() -> None:
    """For servers of one's own."""
    rule = addresses(
        allow_hosts=["images", "10.1.0.9"], networks=["10.1.0.0/16", "fd00::/8"], ports=[8443]
    )
    table = {"images": [["10.1.2.3", "fd00::1"]]}
    assert await refusal("https://images:8443/", rule, Names(table)) == ""
    assert await refusal("https://10.1.0.9:8443/", rule) == ""
    assert await refusal("https://images/", rule, Names(table)) == "port"
    elsewhere = Names({"images": [["10.1.2.3", "10.2.0.1"]]})
    assert await refusal("https://images:8443/", rule, elsewhere) == "private"


async def test_without_looking_up_numbers_are_checked_alone() -> None:
    """Names then say nothing."""
    resolve = names()
    rule = addresses(resolve=False)
    assert await refusal("https://nobody.example.com/", rule, resolve) == ""
    assert await refusal("https://10.0.0.1/", rule, resolve) == "private"
    assert not resolve.asked


async def test_odd_spellings_go_on_in_the_usual_one() -> None:
    """So that the provider reads what was checked; nothing else of the part changes."""
    pipeline, transport = pipe(addresses())
    odd = Image(url="HTTPS://Images.Example.COM.:443/A.png?b=%20", detail="low", extra={"x": 1})
    await pipeline.run(showing(odd, "https://0x5db8d822/b.png"))
    first, second = transport.requests[0].messages[0].parts[1:]
    assert first == attrs.evolve(odd, url="https://images.example.com/A.png?b=%20")
    assert second.url == f"https://{PUBLIC}/b.png"


async def test_wherever_it_stands_it_is_found() -> None:
    """In tool results, documents, other operations, and parts that only a provider knows."""
    bad = "https://10.0.0.1/x"
    inside = Message("tool", ToolResult("1", (Text("found"), Image(url=bad))))
    called = Message.assistant([ToolCall("1", "look", "{}")])
    foreign = Message("user", [Opaque({"type": "video_url", "video": [{"url": bad}]})])
    moderating = Scripted([ModerationResponse.of([{}])], repeat=True)
    counting = Scripted([TokenCountResponse.of(1)], repeat=True)
    for request, transport in (
        (ChatRequest.of([Message.user("?"), called, inside]), None),
        (showing(File(url=bad)), None),
        (ChatRequest.of([foreign]), None),
        (ChatRequest.of([{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": bad}}]}]), None),
        (ModerationRequest.of([["x", Image(url=bad)]]), moderating),
        (TokenCountRequest.of(showing(bad)), counting),
    ):  # fmt: skip
        pipeline, used = pipe(addresses(), transport=transport)
        with pytest.raises(BlockedError, match="private"):
            await pipeline.run(request)
        assert not used.requests


async def test_what_a_provider_found_itself_is_not_asked_for() -> None:
    """Citations and found pages in an answer go back as they came."""
    resolve = names()
    pipeline, _ = pipe(addresses(), resolve=resolve)
    found = Message.assistant([Opaque({"url": "https://10.0.0.1/page"}, provider="acme")])
    await pipeline.run(ChatRequest.of([Message.user("?"), found, Message.user("And?")]))
    assert not resolve.asked


async def test_very_many_addresses_are_blocked() -> None:
    """Before any of them is looked up."""
    resolve = names()
    pipeline, _ = pipe(addresses(max_addresses=2), resolve=resolve)
    with pytest.raises(BlockedError, match="too_many"):
        await pipeline.run(showing(*[f"https://a{n}.example.com/" for n in range(3)]))
    assert not resolve.asked


@pytest.mark.parametrize("fetching", [False, True])
async def test_a_slow_resolver_ends_in_time(*, fetching: bool) -> None:
    """At the rule's limit, at the guard's, and at the call's deadline."""
    resolve = names(slow=Later(lambda: anyio.sleep(math.inf)))
    url = "https://slow.example.com/"
    assert await refusal(url, addresses(fetch=fetching, timeout=3), resolve) == "timeout"
    pipeline, _ = pipe(addresses(fetch=fetching, timeout=None), resolve=resolve, timeout=2)
    with pytest.raises(InspectionError, match="2 s"):
        await pipeline.run(showing(url))
    ports = attrs.evolve(virtual_ports(), resolve=resolve)
    late = Pipeline([Deadline(1), *pipeline.layers], Scripted(["ok"]), ports=ports)
    with pytest.raises(DeadlineExceeded):
        await late.run(showing(url))


async def test_a_broken_resolver_lets_nothing_pass() -> None:
    """It is an inspection that failed."""

    async def broken(_host: str, _port: int) -> list[str]:
        raise RuntimeError("secret")

    pipeline, transport = pipe(addresses(), resolve=broken)
    with pytest.raises(InspectionError) as caught:
        await pipeline.run(showing("https://a.example.com"))
    assert "secret" not in str(caught.value)
    assert not transport.requests


# --- texts -------------------------------------------------------------------------------------


async def test_links_in_texts_are_checked_if_asked_for() -> None:
    """In requests and answers; the sentence around a link is no part of it."""
    rule = addresses(texts=True, allow_hosts=["images.example.com"])
    pipeline, transport = pipe(rule)
    good = "See (https://images.example.com/a.png), or **https://images.example.com/b**."
    await pipeline.run(ChatRequest.of(good))
    assert transport.requests[0].messages[0].text == good
    for bad in ("![x](https://evil.example.com/?d=1)", "http://images.example.com",
                "HTTPS://10.0.0.1", "https://[::1]/", "https://a@images.example.com/"):  # fmt: skip
        with pytest.raises(BlockedError, match="request"):
            await pipeline.run(ChatRequest.of(bad))
        leaking, _ = pipe(rule, transport=Scripted([f"Look: {bad} there"], repeat=True))
        with pytest.raises(BlockedError, match="answer"):
            await leaking.run(ChatRequest.of("Hi"))
        with pytest.raises(BlockedError):
            async with leaking.stream(ChatRequest.of("Hi")) as response:
                await response.collect()
    quiet, _ = pipe(addresses(), transport=Scripted(["https://10.0.0.1/"]))
    assert (await quiet.run(ChatRequest.of("https://10.0.0.1/"))).text == "https://10.0.0.1/"


async def test_streams_of_links_are_let_through_whole() -> None:
    """A good answer arrives as it was; nothing of a bad one does."""
    rule = addresses(texts=True)
    pieces = ["At https://ima", "ges.example.com/", "a.png ", "there."]
    pipeline, _ = pipe(rule, transport=Scripted([ChatResponse.of("".join(pieces))]))
    async with pipeline.stream(ChatRequest.of("Hi")) as response:
        assert (await response.collect()).text == "".join(pieces)


# --- fetching ----------------------------------------------------------------------------------


Answers = Callable[[Received], Reply]


def serving(answer: Reply | Answers, **options: Any) -> HTTPServer:
    """A server on the loopback."""

    async def handler(received: Received) -> Reply:
        return answer if isinstance(answer, Reply) else answer(received)

    return HTTPServer(handler, **options)


def picture(body: Any = PNG, kind: str = "image/png", **more: Any) -> Reply:
    """A picture as a server sends it."""
    return Reply(200, {"Content-Type": kind}, body, **more)


def fetching(server: HTTPServer, **options: Any) -> Any:
    """The rule, for a server on the loopback."""
    given = {"schemes": ["http", "https"], "ports": [server.port], "networks": LOOPBACK}
    return addresses(**{"fetch": True, **given, **options})


def at(server: HTTPServer, path: str = "/a.png", host: str = "images") -> str:
    """An address of the server by a name."""
    return f"http://{host}.example.com:{server.port}{path}"


HERE = ["127.0.0.1"]


async def fetched(
    answer: Reply | Answers, *, resolve: Any = None, part: Any = Image, **options: Any
) -> Any:
    """What a provider gets in place of a picture at a server; or why it gets nothing."""
    async with serving(answer) as server:
        resolve = resolve or names(images=HERE, other=HERE)
        pipeline, transport = pipe(fetching(server, **options), resolve=resolve)
        try:
            await pipeline.run(showing(part(url=at(server))))
        except BlockedError as error:
            return str(error).partition(": ")[2].partition(" ")[0]
        await server.until(lambda s: s.open_connections == 0)
    return transport.requests[0].messages[0].parts[1]


async def test_the_guard_fetches_and_the_provider_does_not() -> None:
    """The content stands in the request; header and query arrive, the fragment does not."""
    seen: list[Received] = []

    def answer(received: Received) -> Reply:
        seen.append(received)
        return picture()

    async with serving(answer) as server:
        resolve = names(images=HERE)
        pipeline, transport = pipe(fetching(server), resolve=resolve)
        part = Image(url=at(server, "/\u00fc?a=b%20c#f"), detail="low")
        await pipeline.run(showing(part))
        assert transport.requests[0].messages[0].parts[1] == Image(
            data=PNG, media_type="image/png", detail="low"
        )
    (received,) = seen
    assert (received.method, received.target) == ("GET", "/%C3%BC?a=b%20c")
    assert received.headers["host"] == f"images.example.com:{server.port}"
    assert "authorization" not in received.headers
    assert resolve.asked == [("images.example.com", server.port)]


async def test_documents_are_fetched_too() -> None:
    """With their name; a picture has to be one, a document may be either."""
    found = await fetched(picture(b"%PDF-1.7", "application/pdf; x=y"), part=File)
    assert found == File(data=b"%PDF-1.7", media_type="application/pdf")
    assert await fetched(picture(b"%PDF-1.7", "application/pdf")) == "media_type"
    named = lambda url: File(url=url, filename="a.txt")  # noqa: E731
    found = await fetched(picture(b"words", "text/plain"), part=named)
    assert found == File(data=b"words", media_type="text/plain", filename="a.txt")


@pytest.mark.parametrize(
    ("reply", "options", "found"),
    [
        (picture(kind="text/html"), {}, "media_type"),
        (picture(b"<html>", "image/png"), {}, "media_type"),
        (picture(b"\xff\xd8\xff", "image/png"), {}, "media_type"),
        (picture(b"<svg/>", "image/svg+xml"), {}, "media_type"),
        (picture(b"<svg/>", "image/svg+xml"), {"media_types": ["image/*"]}, "image/svg+xml"),
        (picture(kind="application/octet-stream"), {}, "image/png"),
        (Reply(200, {}, b"GIF89a"), {}, "image/gif"),
        (Reply(200, {}, b"RIFF1234WEBPxx"), {}, "image/webp"),
        (picture(b"RIFF1234WEBPxx", "IMAGE/WebP"), {}, "image/webp"),
        (Reply(200, {}, b"unknown"), {}, "media_type"),
        (Reply(200, {"Content-Type": "image/png"}, b""), {}, "media_type"),
        (Reply(404, {"Content-Type": "image/png"}, PNG), {}, "unreachable"),
        (Reply(206, {"Content-Type": "image/png"}, PNG), {}, "unreachable"),
        (Reply(302, {}, b""), {}, "unreachable"),
        (picture(PNG + bytes(100)), {"max_bytes": 116}, "image/png"),
        (picture(PNG + bytes(101)), {"max_bytes": 116}, "too_large"),
        (picture([PNG, bytes(60), bytes(60)]), {"max_bytes": 116}, "too_large"),
        (picture(faults=Faults(gzip_bomb=10_000_000)), {"max_bytes": 1000}, "too_large"),
        (picture(faults=Faults(limit_data=3)), {}, "unreachable"),
        (picture(faults=Faults(reset_at=3)), {}, "unreachable"),
        (picture(faults=Faults(reset_before_headers=True)), {}, "unreachable"),
        (picture([PNG, b"x"], faults=Faults(stall_at=1)), {}, "timeout"),
        (picture(faults=Faults(delay=math.inf)), {}, "timeout"),
        (picture(PNG, faults=Faults(bandwidth=1)), {}, "timeout"),
    ],
)
async def test_bounds_of_a_fetch(reply: Reply, options: dict[str, Any], found: str) -> None:
    """Kinds, sizes and times are bounded; an answer that is none is unreachable."""
    result = await fetched(reply, **options)
    assert (result if isinstance(result, str) else result.media_type) == found


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    """Nothing listens at the port."""
    async with serving(picture()) as server:
        rule, url = fetching(server), at(server)
    assert await refusal(url, rule, names(images=HERE)) == "unreachable"


def sending_on(to: Callable[[Received], str | None], status: int = 302) -> Answers:
    """A server that sends on where a function says so."""

    def answer(received: Received) -> Reply:
        location = to(received)
        return picture() if location is None else Reply(status, {"Location": location})

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_hops_are_followed_and_looked_up_again(status: int) -> None:
    """Relative ones too; each host is checked in its turn."""
    resolve = names(images=HERE, other=["127.0.0.1"])
    path: dict[str, Any] = {
        "/a.png": lambda r: f"http://other.example.com:{r.headers['host'].partition(':')[2]}/b",
        "/b": lambda _: "c?d",
        "/c?d": lambda _: None,
    }
    found = await fetched(sending_on(lambda r: path[r.target](r), status), resolve=resolve)
    assert found.data == PNG
    assert [host for host, _ in resolve.asked] == [
        "images.example.com",
        "other.example.com",
        "other.example.com",
    ]


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("http://169.254.169.254/latest", "port"),
        ("http://169.254.169.254:{port}/latest", "private"),
        ("http://inner.example.com:{port}/", "private"),
        ("//inner.example.com:{port}/", "private"),
        ("http://nobody.example.com:{port}/", "unresolved"),
        ("http://localhost:{port}/", "host"),
        ("http://user@images.example.com:{port}/", "credentials"),
        ("http://0xa.1:{port}/", "private"),
        ("ftp://images.example.com/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("http://[", "malformed"),
        ("http://", "too_many_redirects"),
        ("/a.png", "too_many_redirects"),
    ],
)
async def test_hops_lead_nowhere_else(to: str, reason: str) -> None:
    """Each is held to the same rules as the first, and there are only so many."""

    def location(received: Received) -> str:
        return to.format(port=received.headers["host"].partition(":")[2])

    resolve = names(images=HERE, inner=["10.0.0.1"])
    assert await fetched(sending_on(location), resolve=resolve) == reason


async def test_the_number_of_hops_is_bounded() -> None:
    """So many after the first, and none with 0."""

    def counting(received: Received) -> str | None:
        step = int(received.target.removeprefix("/a.png") or "0")
        return f"/a.png{step + 1}" if step < 3 else None

    assert (await fetched(sending_on(counting), max_redirects=3)).data == PNG
    assert await fetched(sending_on(counting), max_redirects=2) == "too_many_redirects"
    assert await fetched(sending_on(lambda _: "/x"), max_redirects=0) == "too_many_redirects"


async def test_a_name_that_changes_its_number_leads_nowhere() -> None:
    """The number that was checked is the one that is connected to (DNS rebinding)."""
    async with serving(picture(b"secret", "image/png"), host="127.0.0.2") as inner:
        async with serving(picture(), port=inner.port) as outer:
            resolve = Names({"images.example.com": [["127.0.0.1"], ["127.0.0.2"]]})
            rule = fetching(outer, networks=["127.0.0.1/32"])
            pipeline, transport = pipe(rule, resolve=resolve)
            await pipeline.run(showing(at(outer)))
            assert transport.requests[0].messages[0].parts[1].data == PNG
            assert len(resolve.asked) == 1
            with pytest.raises(BlockedError, match="private"):
                await pipeline.run(showing(at(outer)))
        assert not inner.requests


async def test_certificates_are_those_of_the_name(tmp_path: Path) -> None:
    """Though the connection is made by number, the name is what TLS is for."""
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("images.example.com").configure_cert(context)
    shown: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: shown.append(name)
    async with serving(picture(), tls=context) as server:
        resolve = names(images=HERE, other=HERE)
        rule = fetching(server, authorities=str(file))
        good, bad = (
            at(server, host=host).replace("http:", "https:") for host in ("images", "other")
        )
        pipeline, transport = pipe(rule, resolve=resolve)
        await pipeline.run(showing(good))
        assert transport.requests[0].messages[0].parts[1].data == PNG
        assert await refusal(bad, rule, resolve) == "unreachable"
        assert await refusal(good, fetching(server), resolve) == "unreachable"  # nobody's authority
    assert shown[:2] == ["images.example.com", "other.example.com"]


async def test_a_missing_file_of_authorities_lets_nothing_pass() -> None:
    """It is said as a failed inspection."""
    async with serving(picture()) as server:
        rule = fetching(server, authorities="/does/not/exist.pem")
        pipeline, _ = pipe(rule, resolve=names(images=HERE))
        with pytest.raises(InspectionError, match="ConfigurationError"):
            await pipeline.run(showing(at(server).replace("http:", "https:")))


async def test_what_only_a_provider_can_read_is_blocked_where_we_fetch() -> None:
    """As nobody but the provider could fetch it."""
    pipeline, _ = pipe(addresses(fetch=True))
    foreign = Message("user", [Opaque({"video_url": "https://images.example.com/a.mp4"})])
    with pytest.raises(BlockedError, match="foreign"):
        await pipeline.run(ChatRequest.of([foreign]))


async def test_the_same_is_fetched_once_in_a_call() -> None:
    """In one request and over its turns; another call fetches again."""
    async with serving(picture()) as server:

        async def twice(request: ChatRequest, call_next: Any) -> ChatResponse:
            await call_next(request)
            return await call_next(request.turn(1))  # type: ignore[no-any-return]

        ports = attrs.evolve(virtual_ports(), resolve=names(images=HERE))
        transport = Scripted(["ok"], repeat=True)
        pipeline = Pipeline([twice, Guard(fetching(server))], transport, ports=ports)
        asked = showing(at(server), at(server))
        await pipeline.run(asked)
        assert server.requests == 1
        assert len({request_key(r) for r in transport.requests}) == 1
        await pipeline.run(asked)
        assert server.requests == 2


async def test_leaving_closes_the_connection() -> None:
    """A cancelled call leaves nothing open."""
    async with serving(picture(faults=Faults(delay=math.inf))) as server:
        pipeline, _ = pipe(fetching(server, timeout=None), resolve=names(images=HERE), timeout=None)
        async with anyio.create_task_group() as group:
            group.start_soon(pipeline.run, showing(at(server)))
            await server.until(lambda s: s.requests == 1)
            group.cancel_scope.cancel()
        await server.until(lambda s: s.open_connections == 0)


# --- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"allow_hosts": "example.com"},
        {"allow_hosts": ["https://example.com"]},
        {"deny_hosts": ["*"]},
        {"deny_hosts": [5]},
        {"schemes": []},
        {"schemes": "https"},
        {"ports": [0]},
        {"ports": ["443"]},
        {"networks": ["10.0.0.1/8"]},
        {"networks": "10.0.0.0/8"},
        {"max_addresses": 0},
        {"max_bytes": 0},
        {"max_redirects": -1},
        {"max_redirects": True},
        {"media_types": []},
        {"timeout": 0},
        {"timeout": "5"},
        {"fetch": True, "resolve": False},
        {"fetch": True, "schemes": ["https", "gs"]},
        {"name": "two words"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """When the rule is made, naming it."""
    with pytest.raises(ConfigurationError):
        addresses(**options)


async def test_a_file_can_name_it() -> None:
    """As a table, with its options."""
    pipeline, _ = pipe({"use": "addresses", "deny_hosts": ["images.example.com"]})
    with pytest.raises(BlockedError, match="host"):
        await pipeline.run(showing("https://images.example.com/"))


def test_media_are_changed_copy_on_write() -> None:
    """What has none stays the same object."""
    plain = ChatRequest.of([Message.user("a"), Message.assistant("b")])
    assert map_media(plain, lambda one: one) is plain
    request = ChatRequest.of([Message.user("a"), *showing("https://a.com").messages])
    changed = map_media(request, lambda one: attrs.evolve(one, url="https://b.com"))
    assert changed.messages[0] is request.messages[0]
    assert changed.messages[1].parts[1] == Image(url="https://b.com")
