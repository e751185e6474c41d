"""The rule `addresses` with `fetch`: what the guard gets itself, from whom, and how much."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import trustme
from guarded_addresses import (
    HERE,
    LOOPBACK,
    PNG,
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
    File,
    Image,
    InspectionError,
    Message,
    Opaque,
    Pipeline,
    request_key,
)
from lamella.testing import Scripted, virtual_ports
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella_middlewares.guard import Fetching, Guard, addresses

pytestmark = pytest.mark.anyio

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
    names_of_fetching = {field.name for field in attrs.fields(Fetching)}
    how = {name: options.pop(name) for name in names_of_fetching & options.keys()}
    given = {"schemes": ["http", "https"], "ports": [server.port], "networks": LOOPBACK}
    return addresses(**{"fetch": Fetching(**how), **given, **options})


def at(server: HTTPServer, path: str = "/a.png", host: str = "images") -> str:
    """An address of the server by a name."""
    return f"http://{host}.example.com:{server.port}{path}"


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
        (picture(kind="text/plain"), {}, "image/png"),
        (picture(b"%PDF-1.7", "text/plain"), {"media_types": ["text/plain"]}, "media_type"),
        (picture(b"\xff\xd8\xff", "image/jpg"), {"media_types": ["image/*"]}, "image/jpeg"),
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


def test_a_file_that_holds_no_authorities_is_told_at_once(tmp_path: Path) -> None:
    """A missing or wrong file does not wait for the first address."""
    (tmp_path / "ca.pem").write_text("no certificate")
    wrong: list[Any] = ["/does/not/exist.pem", str(tmp_path / "ca.pem"), 3]
    for file in wrong:
        with pytest.raises(ConfigurationError, match=r"Fetching\(authorities=.*holds PEM"):
            Fetching(authorities=file)


async def test_a_file_of_authorities_that_is_gone_lets_nothing_pass(tmp_path: Path) -> None:
    """It is said as a failed inspection."""
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    async with serving(picture()) as server:
        rule = fetching(server, authorities=str(file))
        file.unlink()
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
