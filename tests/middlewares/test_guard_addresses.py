"""The rule `addresses`: no request leads a provider, or the guard, to where nobody else looks."""

from __future__ import annotations

import math
from typing import Any

import anyio
import attrs
import pytest
from guarded_addresses import (
    PNG,
    PUBLIC,
    PUBLIC_NAMES,
    Later,
    Names,
    names,
    pipe,
    refusal,
    showing,
)

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
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import Deadline
from lamella_middlewares.guard import Fetching, Guard, addresses
from lamella_middlewares.guard._media import map_media

pytestmark = pytest.mark.anyio

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
    numbers = addresses(deny_hosts=["2606:4700:0:0::1111", PUBLIC])
    for host in ("[2606:4700::1111]", "[2606:4700:0::0:1111]", PUBLIC, f"[::ffff:{PUBLIC}]"):
        assert await refusal(f"https://{host}/", numbers, everywhere) == "host", host


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
    over = {"image_url": {"url": f" {bad}"}}
    good = "https://images.example.com/a.png"
    deep = ToolResult("1", (Opaque({"url": "https:10.0.0.1/x"}),))
    moderating = Scripted([ModerationResponse.of([{}])], repeat=True)
    counting = Scripted([TokenCountResponse.of(1)], repeat=True)
    for request, transport in (
        (ChatRequest.of([Message.user("?"), called, inside]), None),
        (showing(File(url=bad)), None),
        (ChatRequest.of([foreign]), None),
        (showing(Image(url=good, extra=over)), None),
        (ChatRequest.of([Message("user", [Text("x")], extra=over)]), None),
        (ChatRequest.of([Message.user("?"), called, Message("tool", deep)]), None),
        (ChatRequest.of([{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": bad}}]}]), None),
        (ModerationRequest.of([["x", Image(url=bad)]]), moderating),
        (TokenCountRequest.of(showing(bad)), counting),
    ):  # fmt: skip
        pipeline, used = pipe(addresses(), transport=transport)
        with pytest.raises(BlockedError, match=r"private|malformed"):
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


@pytest.mark.parametrize(
    "link",
    [
        "![x](https://images.example.com'.evil.example/?d=1)",
        "![x](https://images.example.com{.evil.example/?d=1)",
        '[x](https://images.example.com"@evil.example/)',
        "[x](https://images.example.com`@evil.example)",
        '[x]: https://images.example.com",.evil.example/',
        "https://images.example.com@evil.example",
        "https://images.example.com\\@evil.example/",
        "https:\\\\evil.example/",
        "https:/evil.example/",
        "https:///evil.example/",
        "![x](//evil.example/?d=1)",
        '<img src="//evil.example/?d=1">',
        "<a href = /\\evil.example>",
        "https://images.example.com\u3002evil.example/",
        "https://images.example.com\u200b.evil.example/",
        "https://images.example.com.",
        "https://images.example.com:8443/",
    ],
)
async def test_no_spelling_of_a_link_leads_elsewhere(link: str) -> None:
    """Where readers may disagree on the host, it is odd, and does not pass."""
    rule = addresses(texts=True, allow_hosts=["images.example.com"])
    pipeline, _ = pipe(rule, transport=Scripted([f"Look: {link} there"]))
    if link.endswith("com."):  # the sentence's
        await pipeline.run(ChatRequest.of("Hi"))
        return
    with pytest.raises(BlockedError):
        await pipeline.run(ChatRequest.of("Hi"))


@pytest.mark.parametrize(
    "text",
    [
        '{"u":"https://images.example.com","v":"a.b","w":"c@d.example"}',
        '{"s":"see https://images.example.com","n":1}',
        "<https://images.example.com>, `https://images.example.com`",
        "[https://images.example.com](https://images.example.com/a_(b))",
        "\u201chttps://images.example.com\u201d \uff08https://images.example.com\uff09",
        "|https://images.example.com|2|",
        'XPath: "//div[@id]", and // a remark, file:///etc/hosts',
        "https:// is a scheme; https://",
    ],
)
async def test_what_stands_around_a_link_is_no_part_of_it(text: str) -> None:
    """Quotes, brackets, JSON, tables, and what only looks like a link."""
    rule = addresses(texts=True, allow_hosts=["images.example.com"])
    pipeline, _ = pipe(rule)
    assert (await pipeline.run(ChatRequest.of(text))).text == "ok"


async def test_streams_of_links_are_let_through_whole() -> None:
    """A good answer arrives as it was; nothing of a bad one does."""
    rule = addresses(texts=True)
    pieces = ["At https://ima", "ges.example.com/", "a.png ", "there."]
    pipeline, _ = pipe(rule, transport=Scripted([ChatResponse.of("".join(pieces))]))
    async with pipeline.stream(ChatRequest.of("Hi")) as response:
        assert (await response.collect()).text == "".join(pieces)


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
        {"timeout": 0},
        {"timeout": "5"},
        {"fetch": 1},
        {"fetch": "yes"},
        {"fetch": True, "resolve": False},
        {"fetch": Fetching(), "resolve": False},
        {"fetch": True, "schemes": ["https", "gs"]},
        {"name": "two words"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """When the rule is made, naming it."""
    with pytest.raises(ConfigurationError):
        addresses(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"max_bytes": 0},
        {"max_redirects": -1},
        {"max_redirects": True},
        {"media_types": []},
        {"media_types": "image/png"},
    ],
)
def test_wrong_bounds_of_fetching_are_refused(options: dict[str, Any]) -> None:
    """When the record is made, naming the option."""
    with pytest.raises(ConfigurationError, match=rf"^Fetching\({next(iter(options))}="):
        Fetching(**options)


async def test_a_file_can_name_it() -> None:
    """As a table, with its options."""
    pipeline, _ = pipe({"use": "addresses", "deny_hosts": ["images.example.com"]})
    with pytest.raises(BlockedError, match="host"):
        await pipeline.run(showing("https://images.example.com/"))


def test_a_file_can_say_how_it_fetches() -> None:
    """The record is a table in it, and a mistake in it is one at its place."""
    (rule,) = Guard(
        [{"use": "addresses", "fetch": {"max_bytes": 5, "media_types": ["IMAGE/*"]}}]
    ).rules
    assert rule.fetching == Fetching(max_bytes=5, media_types=["image/*"])  # type: ignore[attr-defined]
    (rule,) = Guard([{"use": "addresses", "fetch": True}]).rules
    assert rule.fetching == Fetching()  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match=r"rules\[0\]\.fetch\.max_bytes"):
        Guard([{"use": "addresses", "fetch": {"max_bytes": 0}}])


def test_media_are_changed_copy_on_write() -> None:
    """What has none stays the same object."""
    plain = ChatRequest.of([Message.user("a"), Message.assistant("b")])
    assert map_media(plain, lambda one: one) is plain
    request = ChatRequest.of([Message.user("a"), *showing("https://a.com").messages])
    changed = map_media(request, lambda one: attrs.evolve(one, url="https://b.com"))
    assert changed.messages[0] is request.messages[0]
    assert changed.messages[1].parts[1] == Image(url="https://b.com")
