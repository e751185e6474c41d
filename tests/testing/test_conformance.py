"""The conformance kit passes what keeps the contract, and names the rule that is broken."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ConnectionLostError,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    Handler,
    LamellaError,
    RateLimitError,
    ServerError,
    TextDelta,
    Usage,
    UsageReport,
    begin,
    middleware,
)
from lamella._loops import current_loop
from lamella.testing import (
    Check,
    Scripted,
    check_middleware,
    check_transport,
    middleware_checks,
    transport_checks,
)

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("What is the answer?", extra={"nested": {"list": [1]}})


# --- what keeps the contract ---------------------------------------------------------------------


@middleware(phase="shape", requests=ChatRequest)
async def shout(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """A level of its own."""
    response = await call_next(request)
    return response.map_text(str.upper)


@middleware(phase="attempt")
class Again:
    """Tries once more after an uncommitted, retryable error."""

    async def __call__(self, request: Any, call_next: Handler) -> Any:
        try:
            return await call_next(request.branch("try1"))
        except LamellaError as error:
            if not error.retryable:
                raise
            await request.context.sleep(error.retry_after or 0.1)
        return await call_next(request.branch("try2"))


@middleware(phase="remember", requests=ChatRequest)
class Memory:
    """Answers by itself what it has answered before."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Any, ...]] = {}

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        key = repr((request.messages, request.tools))
        if key in self._kept:
            return request.answer(self._kept[key])
        response = await call_next(request)

        def keep(end: Any) -> None:
            if end.outcome == "complete":
                self._kept[key] = tuple(end.events)

        await response.on_end(keep)
        return response


@pytest.mark.parametrize("make", [lambda: shout, Again, Memory], ids=["shout", "again", "memory"])
async def test_a_good_layer_passes(make: Callable[[], Any]) -> None:
    """A layer that changes, one that asks again and one that answers by itself pass."""
    await check_middleware(make)


async def test_a_layer_may_need_others_and_real_time() -> None:
    """A layer is checked among those it needs, or on the caller's own loop."""

    @middleware(phase="shape", requires=["memory"])
    async def needy(request: Any, call_next: Handler) -> Any:
        return await call_next(request)

    await check_middleware(lambda: needy, stack=lambda layer: [Memory(), layer], requests=[HELLO])
    closed: list[Any] = []
    for check in middleware_checks(lambda: shout, virtual=False, settled=closed.append):
        if check.name in {"answers", "left early", "cancelled anywhere"}:
            await check()
    assert len(closed) > 20


async def test_checks_can_be_skipped_by_name() -> None:
    """A check that does not apply is left out; a name that is none is an error naming all."""
    names = [check.name for check in middleware_checks(Again)]
    assert "nested (embeddings)" in names
    left = [check.name for check in middleware_checks(Again, skip=["nested"])]
    assert [name for name in names if name not in left] == ["nested (chat)", "nested (embeddings)"]
    with pytest.raises(ValueError, match="names no check; there are: answers"):
        middleware_checks(Again, skip=["nesting"])


# --- layers that break it ------------------------------------------------------------------------


async def capital(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Depends on where the text is cut."""
    return (await call_next(request)).map_text(str.capitalize)


async def two_faced(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Treats a stream otherwise."""
    response = await call_next(request)
    return response if request.stream else response.map_text(str.upper)


async def scribbler(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Writes into nested JSON."""
    request.extra["nested"]["list"].append("mine")
    return await call_next(request)


async def hoarder(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Opens an answer that it neither returns nor closes."""
    await call_next(request.branch("spare"))
    return await call_next(request.branch("used"))


async def leaky_race(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Lets an ExceptionGroup out."""
    found: list[ChatResponse] = []

    async def ask() -> None:
        found.append(await call_next(request))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
    return found[0]


async def soother(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Swallows what is no Exception."""
    try:
        return await call_next(request)
    except BaseException:  # noqa: BLE001 - the mistake that is to be found
        return ChatResponse.of("All is well.")


async def translator(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Turns cancellation into an error."""
    try:
        return await call_next(request)
    except anyio.get_cancelled_exc_class():
        raise LamellaError("Timed out, perhaps.") from None


async def marker(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Mutates an error."""
    try:
        return await call_next(request)
    except LamellaError as error:
        error.layer = "marker"
        raise


async def namesake(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Tries again under the same name."""
    try:
        return await call_next(request)
    except RateLimitError:
        return await call_next(request)


class Resuming:
    """Asks again after the commitment, as if nothing had been shown."""

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        response = await call_next(request)
        if not response.open:
            return response

        class Events:
            def __init__(self) -> None:
                self.response = response
                self.cursor = aiter(response)

            async def __anext__(self) -> Any:
                try:
                    return await anext(self.cursor)
                except LamellaError:
                    self.response = await call_next(request.branch("resumed"))
                    self.cursor = aiter(self.response)
                    return await anext(self.cursor)

            async def aclose(self) -> None:
                await self.response.aclose()

        return request.open(Events(), response.head)


async def timeless(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Forgets the deadline."""
    return await call_next(request.evolve(context=request.context.evolve(deadline=None)))


class Scatterbrain:
    """Keeps a call's state on the layer."""

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        self.request = request
        await request.context.sleep(0.01)
        return await call_next(self.request)


class Settled:
    """Belongs to the first event loop that it sees."""

    loop: Any = None

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        self.loop = self.loop or current_loop()
        if self.loop is not current_loop():
            raise RuntimeError("Attached to a different loop.")
        return await call_next(request)


_ambient: contextvars.ContextVar[str] = contextvars.ContextVar("ambient")


async def ambient(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Leaves a context variable set."""
    _ambient.set(request.context.call_id)
    return await call_next(request)


async def gossip(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Notes what was asked."""
    request.context.note("gossip", "heard", prompt=request.messages[-1].text)
    return await call_next(request)


async def diarist(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Logs what was answered."""
    response = await call_next(request)
    await response.on_end(lambda end: logging.getLogger("diary").info("heard %r", end.events))
    return response


async def quoting(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Puts what was asked into an error."""
    try:
        return await call_next(request)
    except ServerError as error:
        raise ServerError(f"No answer to {request.messages[-1].text!r}.") from error


async def deaf(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Hands on an answer whose callbacks nobody hears of."""
    response = await (await call_next(request)).collect()
    return ChatResponse([*response.events[:-1], Finish("stop"), Finish("stop")])


BROKEN: list[tuple[Any, str, str]] = [
    (capital, "same however it is cut", "in one event and in pieces of 1"),
    (two_faced, "same streamed or not", "collecting a stream and running"),
    (scribbler, "answers", "nested JSON included"),
    (hoarder, "answers", "does not return it closes it"),
    (leaky_race, "errors before commitment", "No ExceptionGroup"),
    (soother, "foreign errors", "HostStop.. passes every layer"),
    (translator, "cancelled anywhere", "never turned into an error"),
    (marker, "errors before commitment", "never mutated"),
    (namesake, "errors before commitment", "has a branch of its own"),
    (Resuming(), "errors after commitment", "A committed error was tried again"),
    (timeless, "expired deadlines", "Nothing is sent after the deadline"),
    (Scatterbrain(), "many at once", "got the answer"),
    (ambient, "context variables", "'ambient'. changed"),
    (gossip, "nothing private", "stands in a note of the trace"),
    (diarist, "nothing private", "stands in a log record"),
    (quoting, "nothing private", "stands in a error"),
    (deaf, "answers", "`Finish` comes once, and last"),
]


def named(checks: tuple[Check, ...], name: str) -> Check:
    """The check of a name."""
    return next(check for check in checks if check.name == name)


@pytest.mark.parametrize(
    ("layer", "name", "words"), BROKEN, ids=[getattr(b[0], "__name__", b[1]) for b in BROKEN]
)
async def test_a_broken_layer_is_told_the_rule(layer: Any, name: str, words: str) -> None:
    """Each way of breaking the contract is found by its check, which says which rule it is."""
    check = named(middleware_checks(lambda: layer, requests=[HELLO]), name)
    with caplog_at_info(), pytest.raises(AssertionError, match=words) as broken:
        await check()
    assert check.rule in str(broken.value)


class caplog_at_info:  # noqa: N801 - reads as a statement
    """Lets informative records through while it lasts."""

    def __enter__(self) -> None:
        self.level = logging.getLogger("diary").level
        logging.getLogger("diary").setLevel(logging.INFO)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("diary").setLevel(self.level)


async def test_an_exception_of_the_layers_own_says_what_was_checked() -> None:
    """A layer that simply fails shows its own exception, with a note of the rule."""
    check = named(middleware_checks(Settled, requests=[HELLO]), "loop after loop")
    with pytest.raises(RuntimeError, match="different loop") as failed:
        await check()
    assert any("one event loop after another" in note for note in failed.value.__notes__)


async def test_a_callers_own_check_is_run() -> None:
    """`settled` may know of more that has to be back where it was."""

    def settled(_: object) -> None:
        raise AssertionError("One permit is still out.")

    with pytest.raises(AssertionError, match="One permit is still out"):
        await check_middleware(lambda: shout, settled=settled)


# --- transports ----------------------------------------------------------------------------------


class Oracle:
    """A transport that keeps the contract, and counts its connections."""

    name = "oracle"

    def __init__(self) -> None:
        self.connections = 0

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        if request.model == "broken":
            raise ServerError("The oracle is silent.", status=500)
        return await begin(request, Connection(self))

    def settled(self, _: object) -> None:
        """Nothing is connected."""
        assert self.connections == 0, f"{self.connections} connections are open."


class Connection:
    """The events of one answer."""

    def __init__(self, oracle: Oracle) -> None:
        self.events = iter([TextDelta("for"), TextDelta("ty-two"), Finish("stop")])
        self.oracle: Oracle | None = oracle
        self.scope: anyio.CancelScope | None = None
        oracle.connections += 1

    async def __anext__(self) -> Any:
        with anyio.CancelScope() as self.scope:
            await anyio.sleep(0.002)
        if self.oracle is None:
            raise ConnectionLostError("Closed.")
        return next(self.events)

    async def aclose(self) -> None:
        if self.oracle is not None:
            self.oracle.connections -= 1
        self.oracle = None
        if self.scope is not None:
            self.scope.cancel()


async def test_a_good_transport_passes() -> None:
    """Streamed and not, cancelled, left, dropped, limited: on a loop in real time."""
    oracle = Oracle()
    broken = HELLO.evolve(model="broken")
    await check_transport(lambda: oracle, HELLO, failing=[broken], settled=oracle.settled)


async def test_a_transport_of_another_operation_passes() -> None:
    """Embeddings have the same life."""

    async def embed(request: EmbeddingRequest) -> EmbeddingResponse:
        await anyio.sleep(0.002)
        return EmbeddingResponse.of([[1.0]] * len(request.inputs))

    await check_transport(lambda: embed, EmbeddingRequest.of(["a", "b"]))


def scripted(*script: Any, **options: Any) -> Callable[[], Any]:
    """Makes transports with a script."""
    return lambda: Scripted(script, repeat=True, **options)


async def moody(request: ChatRequest) -> ChatResponse:
    """Answers a stream otherwise."""
    return ChatResponse.of("streamed" if request.stream else "whole")


async def writer(request: ChatRequest) -> ChatResponse:
    """Writes to the request."""
    request.extra["nested"]["list"].append(2)
    return ChatResponse.of("x")


async def raw(request: ChatRequest) -> ChatResponse:
    """Lets the HTTP library's errors out."""
    raise OSError(f"cannot connect for {request.messages[0].text}")


async def telling(request: ChatRequest) -> ChatResponse:
    """Says in its error what was asked."""
    raise ServerError(f"cannot answer {request.messages[0].text}")


async def translating(request: ChatRequest) -> ChatResponse:
    """Takes cancellation for a lost connection."""
    try:
        await anyio.sleep(0.002)
    except anyio.get_cancelled_exc_class():
        raise ConnectionLostError("gone") from None
    return ChatResponse.of("x")


async def confused(request: ChatRequest) -> Any:
    """Answers a conversation with vectors."""
    return EmbeddingResponse.of([[1.0]])


class Stuck(Connection):
    """Does not wake a read that waits."""

    async def __anext__(self) -> Any:
        event = next(self.events)
        if event != TextDelta("for"):
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1.5)
        return event


async def stuck(request: ChatRequest) -> ChatResponse:
    """A transport whose source cannot be interrupted."""
    return await begin(request, Stuck(Oracle()))


twice = [UsageReport(Usage(text_output=1)), UsageReport(Usage(text_output=2))]
BROKEN_TRANSPORTS: list[tuple[Any, str, str]] = [
    (lambda: moody, "same streamed or not", "collecting a stream"),
    (lambda: writer, "answers", "nested JSON included"),
    (lambda: raw, "errors", "the library's own"),
    (lambda: telling, "errors", "does not stand in the error"),
    (scripted("x"), "errors", "was said to fail"),
    (lambda: translating, "cancelled anywhere", "never turned into an error"),
    (lambda: stuck, "closed under a read", "does not wake a read"),
    (scripted(["x", *twice, Finish("stop")]), "answers", "Usage is reported"),
    (lambda: confused, "answers", "is answered by ChatResponse"),
]


@pytest.mark.parametrize(
    ("make", "name", "words"), BROKEN_TRANSPORTS, ids=[entry[2] for entry in BROKEN_TRANSPORTS]
)
async def test_a_broken_transport_is_told_the_rule(
    make: Callable[[], Any], name: str, words: str
) -> None:
    """Each way of breaking the contract is found by its check, which says which rule it is."""
    request = ChatRequest.of("What is the answer?", extra={"nested": {"list": [1]}})
    check = named(transport_checks(make, request, failing=[request]), name)
    with pytest.raises(AssertionError, match=words):
        await check()


async def test_a_transport_that_leaves_a_connection_open_is_found() -> None:
    """The caller's own check sees what the kit cannot."""

    class Careless(Oracle):
        async def __call__(self, request: ChatRequest) -> ChatResponse:
            connection = Connection(self)
            await anyio.sleep(0.002)  # cancelled here, nobody closes it
            return await begin(request, connection)

    oracle = Careless()
    with pytest.raises(AssertionError, match="1 connections are open"):
        await check_transport(lambda: oracle, HELLO, settled=oracle.settled)


async def test_scripted_keeps_the_contract() -> None:
    """The scripted transport is a transport like any other."""
    failing: Callable[[], Awaitable[None]] = named(
        transport_checks(scripted("a b c", delay=0.001), HELLO), "cancelled anywhere"
    )
    await failing()
    await check_transport(scripted("a b c"), HELLO, skip=["cancelled anywhere"])
