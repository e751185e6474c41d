"""What a new user gets wrong: each error names the cause and the remedy."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from inline_snapshot import snapshot

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    Image,
    Message,
    Pipeline,
    Secret,
    TextDelta,
    begin,
    middleware,
)
from lamella.testing import Scripted
from lamella.transports import AzureOpenAI, OpenAI
from lamella_middlewares import Cost, Deadline, Retry, Timeout, Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from lamella import Event

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello", model="mock")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables and no lamella.toml of the machine's."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "AZURE_OPENAI_API_KEY", "LAMELLA_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


async def said(wrong: Callable[[], Any]) -> str:
    """What somebody reads who does `wrong`."""
    try:
        result = wrong()
        if inspect.isawaitable(result):
            await result
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to read well
        return f"{type(error).__name__}: {error}"
    return "nothing was wrong"


async def echo(request: ChatRequest) -> ChatResponse:
    """Say it back."""
    return ChatResponse.of(request.messages[-1].text)


# --- building -----------------------------------------------------------------------------------


async def test_a_misspelt_layer() -> None:
    """The closest name is suggested, and those are listed that are installed."""
    told, _, known = (await said(lambda: Pipeline(["retyr"]))).partition(" Known are ")
    assert told == snapshot(
        "UnknownNameError: There is no middleware 'retyr'. Did you mean 'retry'?"
    )
    assert {"budget", "cost", "retry", "watch"} <= set(known.rstrip(".").split(", "))


async def test_a_misspelt_transport() -> None:
    """The closest name is suggested, and those are listed that are installed."""
    told, _, known = (await said(lambda: Pipeline([], "opnai"))).partition(" Known are ")
    assert told == snapshot(
        "UnknownNameError: There is no transport 'opnai'. Did you mean 'openai'?"
    )
    assert {"azure", "mock", "openai", "vllm"} <= set(known.rstrip(".").split(", "))


async def test_a_misspelt_option_of_a_preset() -> None:
    """The closest layer is suggested."""
    assert await said(lambda: Pipeline.preset("test", retyr={"attempts": 2})) == snapshot(
        "UnknownNameError: Pipeline.preset('test'): retyr: is neither a layer nor an option of Pipeline. Did you mean 'retry'?"
    )


async def test_an_unknown_preset() -> None:
    """The known ones are listed."""
    assert await said(lambda: Pipeline.preset("prod")) == snapshot(
        "UnknownNameError: There is no preset 'prod'. Known are cost, debug, development, production, test."
    )


async def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    """File, line and column are named."""
    (tmp_path / "lamella.toml").write_text("[presets.mine]\nlayers = [\n")
    assert await said(lambda: Pipeline.preset("mine")) == snapshot(
        "ConfigurationError: lamella.toml: line 3, column 1: Invalid value (end of the file). Correct the TOML there."
    )


async def test_a_file_with_several_mistakes(tmp_path: Path) -> None:
    """All of them are reported at once, each with its place."""
    (tmp_path / "lamella.toml").write_text(
        "[presets.mine]\n"
        'layers = ["log", { use = "retry", atempts = 5 }, { use = "deadline", seconds = "soon" }]\n'
        "transprot = 'mock'\n"
    )
    assert await said(lambda: Pipeline.preset("mine")) == snapshot(
        "ConfigurationError: lamella.toml: presets.mine.transprot: is no option. Did you mean 'transport'?"
    )


async def test_a_leaking_order() -> None:
    """The reason and the remedy are named."""
    assert await said(lambda: Pipeline([Cost(), Retry()])) == snapshot(
        "OrderError: 'cost' is outside 'retry': what Retry discards is paid for as well, and Cost outside it sees only the answer that is kept. Put 'retry' before 'cost'; to accept it nevertheless pass allow=[\"cost outside retry\"]."
    )


async def test_a_synchronous_function_as_a_middleware() -> None:
    """It says to write `async def`."""

    def shout(request: Any, call_next: Any) -> Any:
        return call_next(request)

    assert await said(lambda: Pipeline([shout])) == snapshot(
        "ConfigurationError: The middleware 'shout' is not asynchronous. Write `async def`; blocking work goes through `await context.ports.thread(...)`. For a model to call: Tools([shout])."
    )


async def test_a_function_for_a_model_among_the_layers() -> None:
    """It says how a layer looks, and where such a function belongs; asynchronous or not."""

    def weather(city: str, unit: str = "C") -> str:
        return city + unit

    async def news(topic: str) -> str:
        return topic

    wrong: Any = [weather]
    assert await said(lambda: Pipeline(wrong)) == snapshot(
        "ConfigurationError: The function 'weather' is no middleware: it cannot take (request, call_next). One is `async def weather(request, call_next)`. For a model to call: Tools([weather])."
    )
    wrong = [news]
    assert await said(lambda: Pipeline(wrong)) == snapshot(
        "ConfigurationError: The function 'news' is no middleware: it cannot take (request, call_next). One is `async def news(request, call_next)`. For a model to call: Tools([news])."
    )


async def test_a_class_instead_of_an_instance() -> None:
    """It says to call it."""
    wrong: Any = Retry
    assert await said(lambda: Pipeline([wrong])) == snapshot(
        "ConfigurationError: The class Retry was given where a middleware is needed. Make an instance of it: Retry()."
    )


async def test_a_layer_that_is_not_in_a_list() -> None:
    """It says to write brackets."""
    wrong: Any = Retry()
    assert await said(lambda: Pipeline(wrong)) == snapshot(
        "ConfigurationError: `layers` is a list, not 'retry'. Put the one layer into brackets: Pipeline([...])."
    )


async def test_a_pipeline_among_the_layers() -> None:
    """It says where a pipeline belongs."""
    wrong: Any = Pipeline([])
    assert await said(lambda: Pipeline([wrong])) == snapshot(
        "ConfigurationError: A Pipeline stands among the layers. A pipeline is a handler: give it as transport=, or as a target of Fallback or Route."
    )


async def test_an_unknown_phase() -> None:
    """The phases are listed."""
    wrong: Any = "wires"
    assert await said(lambda: middleware(phase=wrong)) == snapshot(
        "ConfigurationError: Unknown phase 'wires': use one of observe, compose, govern, remember, shape, choose, attempt, wire."
    )


async def test_options_that_make_no_sense() -> None:
    """Each says what would."""
    wrong: list[Callable[[], Any]] = [
        lambda: Retry(attempts=0),
        lambda: Timeout(idle=0),
        lambda: Deadline(-1),
        Watch,
        lambda: Pipeline([], max_attempts=0),
        lambda: ChatRequest.of("hi", temperature=-1),
    ]
    assert [await said(each) for each in wrong] == snapshot(
        [
            "ConfigurationError: Retry(attempts=0): give a whole number, 1 or more.",
            "ConfigurationError: Timeout(idle=0): give seconds above 0, a timedelta, or None for no limit (0 would let nothing pass).",
            "ConfigurationError: Deadline(seconds=-1): give seconds above 0, a timedelta, or None for no limit (0 would let nothing pass).",
            "ConfigurationError: Watch() watches nothing. Give it a function: on_request=, on_event=, on_response= or on_error=.",
            "ConfigurationError: max_attempts=0 would let no request out; it is 1 or more.",
            "ValueError: temperature must be 0 or more, not -1.",
        ]
    )


# --- asking -------------------------------------------------------------------------------------


async def test_text_instead_of_a_request() -> None:
    """It shows how a request is made."""
    wrong: Any = "Why is the sky blue?"
    assert await said(lambda: Pipeline([]).run(wrong)) == snapshot(
        'TypeError: A pipeline runs requests, not str. Write ChatRequest.of("...", model="...").'
    )


async def test_a_misspelt_field() -> None:
    """The closest name is suggested."""
    assert await said(lambda: ChatRequest.of("hi", temprature=0)) == snapshot(
        "TypeError: ChatRequest has no field 'temprature'. Did you mean 'temperature'?"
    )


async def test_a_message_without_a_role() -> None:
    """The roles are listed."""
    assert await said(lambda: ChatRequest.of([{"content": "hi"}])) == snapshot(
        "ValueError: A message dict needs a 'role' out of system, developer, user, assistant, tool, function; got None among the keys ['content']."
    )


async def test_a_picture_of_nothing() -> None:
    """It says what it takes."""
    assert await said(Image) == snapshot(
        "ValueError: Image takes exactly one of `url` and `data`; got none."
    )


async def test_a_tool_message_by_hand() -> None:
    """It names the function that makes one."""
    assert await said(lambda: Message("tool", "42")) == snapshot(
        "ValueError: A message of role 'tool' holds exactly one ToolResult; use Message.tool(call_id, content)."
    )


async def test_a_value_without_structured() -> None:
    """It names the layer that is missing."""
    assert await said(lambda: Pipeline([]).run(HELLO, returns=int)) == snapshot(
        "ConfigurationError: `returns=` needs a layer that turns answers into values, and there is none. Add Structured() to the layers."
    )


async def test_a_missing_key() -> None:
    """It names the variable and the option, and sends nothing."""
    request = ChatRequest.of("hi", model="gpt-4o-mini")
    assert await said(lambda: Pipeline([], OpenAI()).run(request)) == snapshot(
        "ConfigurationError: The transport 'openai' has no key. Set OPENAI_API_KEY, or give api_key=."
    )


async def test_a_missing_azure_resource() -> None:
    """It names the variables and the options."""
    request = ChatRequest.of("hi", model="gpt-4o-mini")
    wrong = Pipeline([], "azure")
    assert await said(lambda: wrong.run(request)) == snapshot(
        "ConfigurationError: AzureOpenAI does not know its endpoint. Give endpoint= or resource=, or set AZURE_OPENAI_ENDPOINT or AZURE_RESOURCE_NAME."
    )
    assert AzureOpenAI is not None


async def test_a_secret_that_is_not_there() -> None:
    """The reference is named, never a value."""
    assert await said(lambda: Secret("env:NO_SUCH_VARIABLE").reveal()) == snapshot(
        "SecretError: The environment variable NO_SUCH_VARIABLE of Secret('env:NO_SUCH_VARIABLE') is not set. Set it: export NO_SUCH_VARIABLE=..."
    )


async def test_what_the_model_cannot_do() -> None:
    """It is refused before the network, and it says what the model can do."""
    openai = OpenAI(api_key="unused", base_url="http://127.0.0.1:9/v1", endpoint="openai")
    request = ChatRequest.of([Message.user([Image(url="https://example.org/cat.png")])])
    wrong = request.evolve(model="gpt-3.5-turbo")
    assert await said(lambda: Pipeline([], openai).run(wrong)) == snapshot(
        "UnsupportedError: The model 'gpt-3.5-turbo' of openai cannot do input:image. It can do chat, input:text, json_object, logit_bias, logprobs, n, output:text, parallel_tool_calls, seed, stop, streaming, system_role, tools. If that is out of date (as of 2026-11-18, OpenAI's public price list, model pages, deprecation page and API reference), state the model in a card file of your own."
    )


async def test_a_price_that_nobody_knows() -> None:
    """It is refused before it is sent."""
    pipeline = Pipeline([Cost()], Scripted(["Hi."]))
    request = ChatRequest.of("hi", model="my-own-model")
    assert await said(lambda: pipeline.run(request)) == snapshot(
        'RefusedError: Cost refuses the model \'my-own-model\' of \'scripted\': it has no price. State its price with Cost(prices={"my-own-model": {"input": "0.50", "output": "1.50"}}), per million tokens, "0" for a model of your own; or send it uncounted with Cost(unknown="note").'
    )


# --- using --------------------------------------------------------------------------------------


async def test_awaiting_a_call_twice() -> None:
    """It says to make another call."""
    call = Pipeline([]).run(HELLO)
    await call
    assert await said(lambda: call) == snapshot(
        "MisuseError: This call has already been awaited. Call pipeline.run(request) again for another answer; the request can be reused."
    )


async def test_text_of_an_open_response() -> None:
    """It names `collect` and `partial`."""

    async def endless(request: ChatRequest) -> ChatResponse:
        async def events() -> AsyncIterator[Event]:
            yield TextDelta("one")
            await anyio.sleep_forever()

        return await begin(request, events())

    async with Pipeline([], endless).stream(HELLO) as response:
        assert await said(lambda: response.text) == snapshot(
            "StillOpenError: The answer is still open: not all of its events have come. Call `await response.collect()` first, or use `response.partial`."
        )


async def test_iterating_over_stream_itself() -> None:
    """It shows the block."""
    stream: Any = Pipeline([]).stream(HELLO)
    assert await said(stream.__aiter__) == snapshot(
        "MisuseError: pipeline.stream(...) is a block, so that leaving it closes the connection. Write `async with pipeline.stream(request) as response:` and iterate over response."
    )


async def test_calling_a_pipeline() -> None:
    """It names `run` and `stream`."""
    assert await said(lambda: Pipeline([])(HELLO)) == snapshot(
        "NotBegunError: 'pipeline' was called with a request that no call has begun. Use `await pipeline.run(request)` or `.stream(request)`."
    )


async def test_running_a_closed_pipeline() -> None:
    """It says that it is closed."""
    pipeline = Pipeline([])
    await pipeline.aclose()
    assert await said(lambda: pipeline.run(HELLO)) == snapshot(
        "ClosedError: 'pipeline' has been closed. Make a new pipeline, or close this one later."
    )


async def test_a_layer_that_forgets_to_return() -> None:
    """The layer is named."""

    async def forgetful(request: Any, call_next: Any) -> Any:
        await call_next(request)

    assert await said(lambda: Pipeline([forgetful], echo).run(HELLO)) == snapshot(
        "TypeError: Layer 'forgetful' returned NoneType instead of a response. A layer ends with `return await call_next(request)`, or returns a response of its own."
    )


async def test_the_trace_of_a_request_that_was_never_run() -> None:
    """It says how a call begins."""
    assert await said(lambda: Context().trace.cost) == snapshot(
        "NotBegunError: This request belongs to no call yet, so it has no trace. Begin a call with pipeline.run(request) or .stream(request)."
    )
