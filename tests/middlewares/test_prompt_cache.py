"""PromptCache: what stays the same is marked, or gets a key, as the target takes it."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Context,
    Handler,
    Message,
    MisuseError,
    OrderError,
    Pipeline,
    PromptCaching,
    ServerError,
    Text,
    Tool,
    middleware,
)
from lamella._fingerprints import inside
from lamella.testing import virtual_ports
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.prompt_cache import PromptCache
from lamella_middlewares.retry import Retry

pytestmark = pytest.mark.anyio

MARKS = PromptCaching(marks=4, lifetimes=("5m", "1h"), minimum=100)
KEYS = PromptCaching(key_field="prompt_cache_key", retention_field="prompt_cache_retention")
SHORT = {"cache_control": {"type": "ephemeral"}}
LONG = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
WORDS = "a few words of instructions " * 40
TOOLS = [Tool("look_up", "Looks something up. " * 30, {"type": "object", "properties": {}})]
TALK = [
    Message.system(WORDS),
    Message.user("first"),
    Message.assistant("yes"),
    Message.user("second"),
]


@attrs.define
class Target:
    """A transport that says what its prompt cache takes, and keeps what it gets."""

    caching: Any = None
    name: str = "target"
    failures: int = 0
    requests: list[ChatRequest] = attrs.field(factory=list[ChatRequest])

    async def prompt_caching(self, request: ChatRequest) -> Any:
        """As it was told."""
        return self.caching

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        """An answer, after some failures."""
        self.requests.append(request)
        if len(self.requests) <= self.failures:
            raise ServerError("no", status=503)
        return ChatResponse.of("yes")


def ask(messages: Any = TALK, **fields: Any) -> ChatRequest:
    """A request."""
    return ChatRequest.of(messages, model="m", **fields)


async def sent(layer: Any, request: ChatRequest, caching: Any = MARKS) -> ChatRequest:
    """What reaches the transport of a request."""
    target = Target(caching)
    async with Pipeline([layer], target, ports=virtual_ports()) as pipeline:
        await pipeline.run(request)
    return target.requests[0]


def marks(request: ChatRequest) -> list[tuple[str, Any]]:
    """Where a request has marks: the text, or the name of the tool, and for how long."""
    found: list[tuple[str, Any]] = []
    for tool in request.tools:
        assert isinstance(tool, Tool)
        if "cache_control" in tool.extra:
            found.append((tool.name, tool.extra["cache_control"].get("ttl", "5m")))
    for message in request.messages:
        for part in message.parts:
            holder: Any = part
            if "cache_control" in holder.extra:
                text = getattr(holder, "text", None) or holder.type
                found.append((text, holder.extra["cache_control"].get("ttl", "5m")))
    return found


def key_of(request: ChatRequest) -> Any:
    """The key that was sent."""
    return request.extra.get("prompt_cache_key")


# --- marks ---------------------------------------------------------------------------------------


async def test_the_ends_of_what_stays_the_same_are_marked() -> None:
    """Tools, instructions, and the user's last two turns."""
    got = await sent(PromptCache(), ask(tools=TOOLS))
    assert marks(got) == [("look_up", "5m"), (WORDS, "5m"), ("first", "5m"), ("second", "5m")]


async def test_the_callers_request_is_not_changed() -> None:
    """Marks are for one attempt; the same request may go elsewhere next."""
    request = ask(tools=TOOLS)
    got = await sent(PromptCache(), request)
    assert marks(request) == []
    assert got.messages[0].text == request.messages[0].text
    assert request == ask(tools=TOOLS)


async def test_it_says_what_it_has_marked() -> None:
    """In the trace, without a word of the prompt."""
    target = Target(MARKS)
    response = await Pipeline([PromptCache()], target).run(ask())
    (note,) = response.trace.notes
    assert (note.layer, note.name) == ("prompt_cache", "prompt_cache.marked")
    assert note.fields == {
        "marks": 3,
        "where": ("system", "message 1", "message 3"),
        "lifetimes": ("5m", "5m", "5m"),
        "given": 0,
    }


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({"tools": False}, [WORDS, "first", "second"]),
        ({"system": False}, ["look_up", "first", "second"]),
        ({"messages": 0}, ["look_up", WORDS]),
        ({"messages": 1}, ["look_up", WORDS, "second"]),
        ({"messages": 9}, ["look_up", WORDS, "first", "second"]),
        ({"tools": False, "system": False, "messages": 0}, []),
    ],
)
async def test_each_place_can_be_left_out(options: Any, places: list[str]) -> None:
    """By its option."""
    got = await sent(PromptCache(**options), ask(tools=TOOLS))
    assert [place for place, _ in marks(got)] == places


@pytest.mark.parametrize(
    ("most", "places"),
    [
        (3, [WORDS, "first", "second"]),
        (2, [WORDS, "second"]),
        (1, ["second"]),
        (0, []),
    ],
)
async def test_the_most_useful_places_come_first(most: int, places: list[str]) -> None:
    """The last turn is found by the next one; instructions hold the tools as well."""
    got = await sent(PromptCache(), ask(tools=TOOLS), attrs.evolve(MARKS, marks=most))
    assert [place for place, _ in marks(got)] == places


async def test_a_tools_results_are_a_turn() -> None:
    """The last of them has the mark, whoever of them came first."""
    talk = [
        *TALK,
        Message.assistant("let me see"),
        Message.tool("1", "one"),
        Message.tool("2", "two"),
    ]
    got = await sent(PromptCache(system=False), ask(talk))
    assert marks(got) == [("second", "5m"), ("tool_result", "5m")]
    result: Any = got.messages[-1].parts[0]
    assert result.extra == SHORT


async def test_a_mark_inside_of_a_result_where_only_texts_hold_one() -> None:
    """Some gateways know marks on texts only."""
    talk = [*TALK, Message.assistant("let me see"), Message.tool("1", ["one", "two"])]
    caching = attrs.evolve(MARKS, texts_only=True)
    got = await sent(PromptCache(messages=1), ask(talk), caching)
    result: Any = got.messages[-1].parts[0]
    assert not result.extra
    assert [part.extra for part in result.content] == [{}, SHORT]


async def test_the_beginning_of_an_answer_is_not_marked() -> None:
    """What the assistant is to go on with is not the user's turn."""
    got = await sent(PromptCache(messages=1), ask([*TALK, Message.assistant("So")]))
    assert marks(got)[-1] == ("second", "5m")


@pytest.mark.parametrize("text", ["", "  \n"])
async def test_nothing_is_no_place_for_a_mark(text: str) -> None:
    """Providers refuse a mark on an empty text; the part before it has it."""
    talk = [Message.system(WORDS), Message.user(["here", Text(text)])]
    got = await sent(PromptCache(), ask(talk))
    assert marks(got) == [(WORDS, "5m"), ("here", "5m")]


async def test_what_is_too_short_is_not_marked() -> None:
    """Providers keep no beginning that has fewer tokens than they say."""
    long = attrs.evolve(MARKS, minimum=500)
    assert marks(await sent(PromptCache(), ask(), long)) == []
    grown = [*TALK, Message.assistant("more " * 300), Message.user("third")]
    assert marks(await sent(PromptCache(), ask(grown), long)) == [("third", "5m")]
    assert len(marks(await sent(PromptCache(minimum=10), ask(), long))) == 3
    assert marks(await sent(PromptCache(minimum=10_000), ask())) == []


async def test_a_place_of_the_targets() -> None:
    """Amazon's models take no marks among the tools."""
    caching = attrs.evolve(MARKS, places=frozenset({"system"}))
    assert marks(await sent(PromptCache(), ask(tools=TOOLS), caching)) == [(WORDS, "5m")]


# --- lifetimes -----------------------------------------------------------------------------------


async def test_instructions_for_an_hour_and_turns_for_minutes() -> None:
    """What is shared lives longer than one conversation."""
    layer = PromptCache(lifetime="1h", messages_lifetime="5m", messages=1)
    got = await sent(layer, ask(tools=TOOLS))
    assert marks(got) == [("look_up", "1h"), (WORDS, "1h"), ("second", "5m")]
    text: Any = got.messages[0].parts[0]
    assert text.extra == LONG


async def test_a_target_without_the_hour() -> None:
    """Gets the lifetime that it has."""
    got = await sent(PromptCache(lifetime="1h"), ask(), attrs.evolve(MARKS, lifetimes=("5m",)))
    assert {life for _, life in marks(got)} == {"5m"}


# --- marks of the caller's -----------------------------------------------------------------------


async def test_the_callers_marks_stay_and_count() -> None:
    """Of four places one is taken."""
    talk = [Message.system([Text("begin", SHORT), WORDS]), *TALK[1:]]
    got = await sent(PromptCache(), ask(talk, tools=TOOLS))
    places = [place for place, _ in marks(got)]
    assert places == ["look_up", "begin", "first", "second"]
    full = [Message.user([Text(word, SHORT) for word in "abcd"]), *TALK[2:]]
    assert len(marks(await sent(PromptCache(minimum=1), ask(full)))) == 4


async def test_none_of_an_hour_behind_one_of_minutes() -> None:
    """Providers refuse that, so ours is shorter."""
    talk = [Message.system(Text(WORDS, SHORT)), *TALK[1:]]
    got = await sent(PromptCache(lifetime="1h"), ask(talk))
    assert marks(got) == [(WORDS, "5m"), ("first", "5m"), ("second", "5m")]


async def test_none_of_minutes_before_one_of_an_hour() -> None:
    """Neither may ours make the caller's unlawful."""
    talk = [*TALK[:3], Message.user(Text("second", LONG))]
    assert marks(await sent(PromptCache(), ask(talk))) == [("second", "1h")]
    got = await sent(PromptCache(lifetime="1h"), ask(talk))
    assert marks(got) == [(WORDS, "1h"), ("first", "1h"), ("second", "1h")]


async def test_a_mark_on_the_whole_request_is_the_last_one() -> None:
    """Anthropic then marks the end by itself."""
    got = await sent(PromptCache(), ask(extra=SHORT, tools=TOOLS))
    assert [place for place, _ in marks(got)] == ["look_up", WORDS, "first"]
    assert marks(await sent(PromptCache(), ask(extra=LONG))) == []


# --- keys ----------------------------------------------------------------------------------------


async def test_all_turns_of_a_conversation_have_one_key() -> None:
    """And so do conversations with the same instructions."""
    first = key_of(await sent(PromptCache(), ask(TALK[:2]), KEYS))
    assert first == key_of(await sent(PromptCache(), ask(), KEYS))
    assert len(first) == 32
    assert first != key_of(await sent(PromptCache(), ask(TALK[1:]), KEYS))
    other = key_of(await sent(PromptCache(), ask(tools=TOOLS), KEYS))
    assert first != other
    talk = key_of(await sent(PromptCache(), ask(TALK[1:2]), KEYS))
    assert talk == key_of(await sent(PromptCache(), ask(TALK[1:]), KEYS))


async def test_what_changes_at_the_end_of_long_instructions_is_no_part_of_a_key() -> None:
    """A provider chooses a machine by the beginning, which is the same."""
    keys = {
        key_of(await sent(PromptCache(), ask([Message.system(WORDS * 20 + end), *TALK[1:]]), KEYS))
        for end in ("", "It is Monday.", "It is Wednesday.")
    }
    assert len(keys) == 1


@pytest.mark.parametrize("kind", [None, "tenant", "session", lambda _: "same"])
async def test_tenants_never_share_a_key(kind: Any) -> None:
    """Whatever else it is made of; and nobody's name is in it."""
    layer = PromptCache(key=kind)
    keys = {
        key_of(await sent(layer, ask(context=Context(tenant=tenant, session="s")), KEYS))
        for tenant in ("acme", "other", "", None)
    }
    assert len(keys) == 4
    assert not any("acme" in key for key in keys)


async def test_what_a_key_is_made_of() -> None:
    """The tenant alone, the session, or what a function says."""
    mine = Context(tenant="t", session="s")
    yours = Context(tenant="t", session="u")

    async def key(kind: Any, context: Context, messages: Any = TALK) -> Any:
        return key_of(await sent(PromptCache(key=kind), ask(messages, context=context), KEYS))

    assert await key("tenant", mine) == await key("tenant", yours, "something else")
    assert await key("session", mine) == await key("session", mine, "something else")
    assert await key("session", mine) != await key("session", yours)
    assert await key("session", Context()) == await key("session", Context(), TALK[:1])
    assert await key(lambda request: request.model, mine) == await key(lambda _: "m", yours)
    assert await key(lambda _: None, mine) is None


async def test_text_that_is_no_unicode_makes_a_key() -> None:
    """It is the transport that refuses it, with an error that shows none of it."""
    broken = Context(tenant="\ud800", session="\ud801")
    for layer in (PromptCache(), PromptCache(key="session"), PromptCache(key=lambda _: "\ud802")):
        request = ask([Message.system("secret \ud803"), *TALK[1:]], context=broken)
        assert len(key_of(await sent(layer, request, KEYS))) == 32


async def test_a_key_that_is_no_text() -> None:
    """Is a mistake of the program, and nothing is sent."""
    function: Any = lambda _: 3  # noqa: E731
    target = Target(KEYS)
    with pytest.raises(MisuseError, match="int"):
        await Pipeline([PromptCache(key=function)], target).run(ask())
    assert target.requests == []


async def test_the_callers_key_stays() -> None:
    """What the caller says of keys and of keeping wins."""
    extra = {"prompt_cache_key": "mine", "prompt_cache_options": {"ttl": "30m"}}
    request = ask(extra=extra)
    assert (await sent(PromptCache(retention="24h"), request, KEYS)).extra == extra


async def test_how_long_prompts_are_kept() -> None:
    """Said where the target can be told, and only if it was asked for."""
    assert "prompt_cache_retention" not in (await sent(PromptCache(), ask(), KEYS)).extra
    got = await sent(PromptCache(retention="24h"), ask(), KEYS)
    assert got.extra["prompt_cache_retention"] == "24h"
    got = await sent(PromptCache(retention="24h", key=lambda _: None), ask(), MARKS)
    assert got.extra == {}


# --- whom it asks --------------------------------------------------------------------------------


@pytest.mark.parametrize("caching", [None, PromptCaching()])
async def test_a_target_that_takes_nothing_gets_nothing(caching: Any) -> None:
    """And nobody says that something was left out."""
    target = Target(caching)
    response = await Pipeline([PromptCache()], target).run(ask())
    assert marks(target.requests[0]) == []
    assert target.requests[0].extra == {}
    assert not response.trace.notes


async def test_a_transport_that_says_nothing_gets_nothing() -> None:
    """Such as a plain function."""
    seen: list[ChatRequest] = []

    async def answer(request: ChatRequest) -> ChatResponse:
        seen.append(request)
        return ChatResponse.of("yes")

    await Pipeline([PromptCache()], answer).run(ask())
    assert marks(seen[0]) == []


async def test_what_is_wrapped_is_asked() -> None:
    """A wrapper that does not know leaves the answer to what it holds as `transport`."""

    @attrs.define
    class Wrapper:
        transport: Target

        async def __call__(self, request: ChatRequest) -> ChatResponse:
            return await self.transport(request)

    target = Target(MARKS)
    await Pipeline([PromptCache()], Wrapper(target)).run(ask())
    assert len(marks(target.requests[0])) == 3


async def test_a_transport_that_says_nonsense() -> None:
    """Is named."""
    with pytest.raises(MisuseError, match=r"target\.prompt_caching gave a dict"):
        await Pipeline([PromptCache()], Target({"marks": 4})).run(ask())


async def test_each_attempt_is_marked_anew() -> None:
    """A retry has the same marks, and no more of them."""
    target = Target(MARKS, failures=2)
    layers: list[Any] = [Retry(), PromptCache()]
    async with Pipeline(layers, target, ports=virtual_ports()) as pipeline:
        await pipeline.run(ask())
    assert len(target.requests) == 3
    assert len({str(marks(request)) for request in target.requests}) == 1


async def test_another_target_gets_what_it_takes() -> None:
    """A fallback never carries the marks or the key of the one before."""
    first, second = Target(MARKS, "first", failures=9), Target(KEYS, "second", failures=9)
    third = Target(None, "third")
    layers: list[Any] = [Fallback([second, third]), PromptCache()]
    async with Pipeline(layers, first, ports=virtual_ports()) as pipeline:
        await pipeline.run(ask())
    assert (len(marks(first.requests[0])), first.requests[0].extra) == (3, {})
    assert (marks(second.requests[0]), set(second.requests[0].extra)) == ([], {"prompt_cache_key"})
    assert (marks(third.requests[0]), third.requests[0].extra) == ([], {})


async def test_outside_of_a_choice_it_is_refused() -> None:
    """There it could not know who is going to be asked."""
    with pytest.raises(OrderError, match="marks of one provider"):
        Pipeline([PromptCache(), Fallback(["other"])], Target())


async def test_without_an_attempt_it_does_nothing() -> None:
    """Around a pipeline that is the transport, it says so and leaves the work to that one's."""
    target = Target(MARKS)
    inner = Pipeline([], target)
    response = await Pipeline([PromptCache()], inner).run(ask())
    assert marks(target.requests[0]) == []
    assert [note.name for note in response.trace.notes] == ["prompt_cache.skipped"]


async def test_nobody_answers_for_a_pipeline() -> None:
    """Its layers may send the request elsewhere, also where a transport is wrapped around it."""

    @attrs.frozen
    class Wrapper:
        transport: Any
        name: str = "wrapper"

        async def __call__(self, request: ChatRequest) -> ChatResponse:
            response: ChatResponse = await self.transport(request)
            return response

    first, second = Target(MARKS, "first", failures=9), Target(KEYS, "second")
    inner = Pipeline([Fallback([second])], first)
    layers: list[Any] = [Fallback([Wrapper(inner)]), PromptCache()]
    outermost = Target(None, failures=9)
    async with Pipeline(layers, outermost, ports=virtual_ports()) as pipeline:
        await pipeline.run(ask())
    assert [marks(each.requests[0]) for each in (outermost, first, second)] == [[], [], []]


async def test_a_copy_of_a_request_gets_what_its_own_target_takes() -> None:
    """Both are marked from the caller's request, which stays as it is."""

    @attrs.define
    class Slow(Target):
        async def __call__(self, request: ChatRequest) -> ChatResponse:
            self.requests.append(request)
            await anyio.sleep_forever()
            raise AssertionError

    first, second, request = Slow(MARKS, "first"), Target(KEYS, "second"), ask()
    layers: list[Any] = [Hedge([second], delay=1, max_extra=1), PromptCache()]
    async with Pipeline(layers, first, ports=virtual_ports()) as pipeline:
        await pipeline.run(request)
    assert (len(marks(first.requests[0])), first.requests[0].extra) == (3, {})
    assert (marks(second.requests[0]), set(second.requests[0].extra)) == ([], {"prompt_cache_key"})
    assert marks(request) == []


async def test_it_is_no_part_of_what_decides_an_answer() -> None:
    """So that kept answers are found again, whatever is marked for the provider."""
    found: list[str] = []

    @middleware(phase="remember")
    async def look(request: ChatRequest, call_next: Handler) -> ChatResponse:
        found.append(inside(call_next))
        return await call_next(request)

    inner: list[list[Any]] = [[], [PromptCache()], [PromptCache(lifetime="1h", key="tenant")]]
    for layers in inner:
        await Pipeline([look, *layers], Target(MARKS)).run(ask())
    assert len(found) == 3
    assert len(set(found)) == 1


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lifetime": "2h"}, "one of '5m', '1h'"),
        ({"messages_lifetime": "1d"}, "one of '5m', '1h'"),
        ({"messages_lifetime": "1h"}, "turns come after"),
        ({"tools": 1}, "True or False"),
        ({"system": "yes"}, "True or False"),
        ({"messages": -1}, "whole number"),
        ({"messages": True}, "whole number"),
        ({"minimum": 0}, "whole number"),
        ({"key": "user"}, "'tenant', 'session'"),
        ({"retention": "1h"}, "'in_memory', '24h'"),
    ],
)
def test_wrong_options_are_named(options: Any, words: str) -> None:
    """When the layer is made."""
    with pytest.raises(ConfigurationError, match=words):
        PromptCache(**options)


def test_a_key_is_made_without_waiting() -> None:
    """An async function would give a coroutine, which is no text."""

    async def key(request: ChatRequest) -> str:
        return "no"

    function: Any = key
    with pytest.raises(ConfigurationError, match="plain function"):
        PromptCache(key=function)
