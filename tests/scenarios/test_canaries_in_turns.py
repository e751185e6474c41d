"""Canaries through many turns: tools, typed answers, templates and summaries leak nothing either.

What a tool is given and gives, what a model answers wrongly, what is summarised and what stands in
a variable are as personal as what the user says.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import attrs
import pytest
from canaries import CARD, IBAN, KEY, MAIL, PHONE, World, must_hold_no_canary

from lamella import (
    ChatRequest,
    Context,
    Message,
    Prompt,
    PromptTemplate,
    Size,
    StructureError,
    TemplateError,
)
from lamella.testing import HTTPServer, MockServer, Reply
from lamella.testing._http_wire import Received
from lamella_middlewares import Structured, Summarise, Template, Tools
from lamella_middlewares.tools import ToolFailed

pytestmark = pytest.mark.anyio

ADA = Context(tenant="acme", user="u1", session="s1")


@pytest.fixture
def anyio_backend(lamella_virtual_backend: Any) -> Any:
    """Waits of seconds take none."""
    return lamella_virtual_backend


@pytest.fixture(params=[False, True], ids=["run", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    """Unstreamed and streamed."""
    return bool(request.param)


def must_hold_none(world: World, received: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither what was sent, nor what was written, noted and kept here."""
    sent = [json.dumps(request.json, ensure_ascii=False) for request in received]
    assert sent
    must_hold_no_canary("\n".join(sent))
    must_hold_no_canary(world.looked_over())
    must_hold_no_canary(caplog.text)


async def test_tools_hear_and_say_what_nobody_else_does(
    stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Their arguments, results, refusals and exceptions."""
    caplog.set_level(logging.DEBUG)

    def look_up(who: str) -> dict[str, str]:
        """Who somebody is."""
        return {"who": who, "mail": MAIL, "card": CARD, "key": KEY}

    async def explode(why: str) -> str:
        """Never works."""
        raise ValueError(f"{why}: {IBAN} of {MAIL}")

    def decline(why: str) -> str:
        """Says why not."""
        raise ToolFailed(f"{why}: call {PHONE} or write to {MAIL}.")

    said = " ".join(
        f"{name}({json.dumps({key: MAIL})})"
        for name, key in (("look_up", "who"), ("explode", "why"), ("decline", "why"))
    )
    request = ChatRequest.of(said, model="gpt-4o-mini", context=ADA)
    async with MockServer() as server:
        world = World(server.url, tmp_path, compose=[Tools([look_up, explode, decline])])
        assert await world.ask(stream=stream, asked=request) is None
        await world.pipeline.aclose()
        received = list(server.requests)
    assert len(received) == 2
    results = [message.text for message in world.answer.messages if message.role == "tool"]
    assert CARD in results[0]
    assert results[1] == "The tool failed: ValueError."
    assert PHONE in results[2]
    must_hold_none(world, received, caplog)


@attrs.frozen
class Person:
    """Somebody."""

    name: str
    age: int


@pytest.mark.parametrize("mode", ["native", "tool", "prompt"])
async def test_an_answer_that_does_not_fit_is_told_of_by_its_places(
    mode: Any, stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model's wrong words hold what it was told, and the error does not."""
    caplog.set_level(logging.DEBUG)
    answers: list[str] = []

    async def answer(received: Received) -> Reply:
        asked = json.loads(received.body)
        answers.append(received.body.decode())
        said = next(m["content"] for m in asked["messages"] if m["role"] == "user")
        wrong = json.dumps({"name": "Ada", "age": said, said: 1})
        message: dict[str, Any] = {"role": "assistant", "content": wrong}
        if asked.get("tools"):
            name = asked["tools"][0]["function"]["name"]
            call = {"id": "c", "type": "function", "function": {"name": name, "arguments": wrong}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        body = {
            "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6},
        }  # fmt: skip
        return Reply(200, {"content-type": "application/json"}, json.dumps(body).encode())

    request = ChatRequest.of(f"{MAIL} pays by {CARD}.", model="gpt-4o-mini", context=ADA)
    async with HTTPServer(answer) as server:
        layer = Structured(mode=mode, attempts=2, hold=True)
        world = World(f"{server.url}/v1", tmp_path, compose=[layer])
        failure = await world.ask(stream=stream, asked=request, returns=Person)
        await world.pipeline.aclose()
    assert isinstance(failure, StructureError)
    assert len(answers) == 2
    must_hold_no_canary("\n".join(answers))
    assert MAIL in failure.text
    must_hold_no_canary(world.looked_over())
    must_hold_no_canary(caplog.text)


async def test_what_is_summarised_and_what_is_kept_of_it_is_masked(
    stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The question to the model that summarises, its answer, the store, and the next question."""
    caplog.set_level(logging.DEBUG)
    history = [Message.system("Be kind.")]
    for turn in range(4):
        history += [Message.user(f"{turn}: I am {MAIL}."), Message.assistant(f"Card {CARD}.")]
    request = ChatRequest.of([*history, Message.user("And now?")], model="gpt-4o-mini", context=ADA)
    async with MockServer() as server:
        layer = Summarise(Size(messages=5), before=())
        world = World(server.url, tmp_path, shape=[layer])
        assert await world.ask(stream=stream, asked=request) is None
        assert "summarise" in world.trace.costs_by_layer()
        await world.pipeline.aclose()
        received = list(server.requests)
    must_hold_none(world, received, caplog)


async def test_a_templates_variables_are_as_personal_as_a_users_words(
    stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rendered or refused."""
    caplog.set_level(logging.DEBUG)
    template = PromptTemplate.of("Write to {mail} about {card}.", name="letter")
    async with MockServer() as server:
        world = World(server.url, tmp_path, compose=[Template(templates=[template])])
        right: dict[str, Any] = {"mail": MAIL, "card": CARD}
        for wrong in (False, True):
            prompt = Prompt("letter", **{**right, "mail": [MAIL]} if wrong else right)
            request = ChatRequest.of(prompt, model="gpt-4o-mini", context=ADA)
            failure = await world.ask(stream=stream, asked=request)
            assert isinstance(failure, TemplateError) is wrong
        await world.pipeline.aclose()
        received = list(server.requests)
    must_hold_none(world, received, caplog)
