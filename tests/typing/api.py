"""The public types, checked by mypy and pyright and never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, assert_type

from lamella import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    Handler,
    MapReport,
    MapResult,
    MapRun,
    ModerationRequest,
    ModerationResponse,
    Pipeline,
    Request,
    Response,
    Returns,
    Source,
    SyncMapRun,
    Values,
    begin,
    ending,
    middleware,
)
from lamella_middlewares import Tools
from lamella_middlewares.tools import ToolContext, tool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    from lamella import Ending

    R = TypeVar("R", bound=Response)


class Person:
    """What an answer may be turned into."""


class Place:
    """Something else that it may be."""


class Generic:
    """A class for every operation."""

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        return await ending(call_next, request, self.over)

    def over(self, ending: Ending) -> None:
        """Account for it."""


async def generic(request: Request[R], call_next: Handler) -> R:
    """A function for every operation."""
    answer = await call_next(request)
    child = await call_next(request.child(EmbeddingRequest.of("x"), purpose="search"))
    assert_type(child, EmbeddingResponse)
    return answer


@middleware(phase="shape", requests=ChatRequest)
async def chat_only(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """A function for chat."""
    response = await call_next(request)
    assert_type(response, ChatResponse)
    return response.map_text(str.upper)


class ChatOnly:
    """A class for chat."""

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        return await call_next(request.evolve(temperature=0.0))


async def embeddings_only(request: EmbeddingRequest, call_next: Handler) -> EmbeddingResponse:
    """A function for embeddings."""
    return await call_next(request)


async def moderation_only(request: ModerationRequest, call_next: Handler) -> ModerationResponse:
    """A function for moderation."""
    return await call_next(request)


async def chat_transport(request: ChatRequest) -> ChatResponse:
    """A transport for chat, in one line."""
    return ChatResponse.of("hello", model=request.model)


class Universal:
    """A transport for every operation."""

    def __init__(self, source: Source) -> None:
        self.source = source

    async def __call__(self, request: Request[R]) -> R:
        return await begin(request, self.source)


async def calls(source: Source) -> None:
    """What run, stream and their synchronous forms give."""
    inner = Pipeline([generic], Universal(source))
    pipeline = Pipeline(
        [Generic(), generic, chat_only, ChatOnly(), embeddings_only, moderation_only, "retry"],
        inner,
    )
    chat, embed = ChatRequest.of("hi"), EmbeddingRequest.of("hi")

    assert_type(await pipeline.run(chat), ChatResponse)
    assert_type((await pipeline.run(chat)).text, str)
    assert_type(await pipeline.run(embed), EmbeddingResponse)
    assert_type((await pipeline.run(embed)).vectors, tuple[tuple[float, ...], ...])
    assert_type((await pipeline.run(ModerationRequest.of("hi"))).flagged, bool)
    assert_type((await pipeline.run(chat)).value, None)
    async with pipeline.stream(chat) as response:
        assert_type(response, ChatResponse)
        assert_type(await response.collect(), ChatResponse)

    assert_type(pipeline.run_sync(chat), ChatResponse)
    assert_type(pipeline.run_sync(embed), EmbeddingResponse)
    with pipeline.stream_sync(embed) as vectors:
        assert_type(vectors, EmbeddingResponse)
    many: Sequence[ChatResponse | Exception] = await pipeline.run_many([chat, chat])
    assert_type(Pipeline([], chat_transport), Pipeline)
    assert_type(chat.evolve(seed=1), ChatRequest)
    assert many


async def values(source: Source) -> None:
    """What answers are when they are asked for as types."""
    pipeline, chat = Pipeline([], Universal(source)), ChatRequest.of("hi")

    assert_type(await pipeline.run(chat, returns=Person), ChatResponse[Person])
    assert_type((await pipeline.run(chat, returns=Person)).value, Person)
    assert_type((await pipeline.run(chat, returns=list[Person])).value, list[Person])
    assert_type((await pipeline.run(chat, returns=Returns[Person | Place]())).value, Person | Place)
    assert_type(
        (await pipeline.run(chat, returns=Returns[Literal["a", "b"]]())).value, Literal["a", "b"]
    )
    assert_type((await pipeline.run(chat, returns=int)).value, int)
    assert_type((await pipeline.run(chat, returns={"type": "object"})).value, Any)
    async with pipeline.stream(chat, returns=Person) as typed:
        assert_type(typed, ChatResponse[Person])
        assert_type(typed.values(), Values[Person])
        async for value in typed.values():
            assert_type(value, Person)
    async with pipeline.stream(chat, returns=list[Person]) as several:
        async for item in several.values():
            assert_type(item, Person)
    async with pipeline.stream(chat, returns=Returns[Person | Place]()) as either:
        async for one in either.values():
            assert_type(one, Person | Place)
    with pipeline.stream_sync(chat, returns=Person) as steps:
        for step in steps.values():
            assert_type(step, Person)
    found = await pipeline.run_many([chat], returns=Person)
    assert_type(found, list[ChatResponse[Person] | Exception])
    assert_type(pipeline.run_sync(chat, returns=Person).value, Person)


async def rows(source: Source) -> None:
    """What many rows give."""
    pipeline = Pipeline([], Universal(source))
    embed = EmbeddingRequest.of("hi")

    async with pipeline.map([embed], journal="x.journal", concurrency=4) as vectors:
        async for result in vectors:
            assert_type(result, MapResult[EmbeddingResponse])
            assert_type(result.response, EmbeddingResponse | None)
    async with pipeline.map([("a", ChatRequest.of("hi"))], concurrency="adaptive") as chats:
        assert_type([one async for one in chats], list[MapResult[ChatResponse]])
    assert_type(pipeline.map(["hi"]), MapRun[ChatResponse[Any]])
    assert_type(
        pipeline.map([{"id": 7, "prompt": "hi"}], returns=Person), MapRun[ChatResponse[Any]]
    )
    assert_type(await pipeline.map(["hi"]).report(), MapReport)
    with pipeline.map_sync([embed]) as work:
        assert_type(work, SyncMapRun[EmbeddingResponse])
        assert_type(list(work), list[MapResult[EmbeddingResponse]])
    assert_type(pipeline.map_sync(["hi"]).progress.done, int)


@tool
async def look_up(number: str, *, about: ToolContext) -> int:
    """A function as a tool."""
    return len(number) + about.attempt


@tool(timeout=5, approve=lambda call, about: call.name != about.context.user)
def shout(text: str) -> str:
    """One with options."""
    return text.upper()


async def tools(about: ToolContext, source: Source) -> None:
    """A tool is still the function, with its types."""
    assert_type(await look_up("A-1", about=about), int)
    assert_type(shout("a"), str)
    assert_type(await about.ask(ChatRequest.of("hi")), ChatResponse)
    Pipeline([Tools([look_up, shout, len], max_cost="0.50")], Universal(source))
    shout(7)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    tool(shout, timout=5)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]


async def wrong(source: Source) -> None:
    """What must not pass; an ignore that ignores nothing is an error itself."""
    pipeline = Pipeline([], Universal(source))
    await pipeline.run("hi")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    await pipeline.run(EmbeddingRequest.of("hi"), returns=Person)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    pipeline.map([3])  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    pipeline.map(["hi"], concurency=1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    Pipeline([3])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    Pipeline([], transport=len)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    (await pipeline.run(EmbeddingRequest.of("hi"))).text  # type: ignore[attr-defined] # noqa: B018 # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
