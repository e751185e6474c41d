"""How a model is asked for a value: by the provider's own field, by a tool, or in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from lamella import ChatRequest, ConfigurationError, Handler, Message, Tool
from lamella._answer_shape import AnswerShape, with_shape
from lamella._provided import provided
from lamella._target_fitness import Fitness
from lamella_middlewares.structured._words import TOOL_DESCRIPTION, instruction

if TYPE_CHECKING:
    from lamella._cards import ModelCard
    from lamella._typed_forms import Form

Mode: TypeAlias = Literal["native", "tool", "prompt"]

TOOL_NAME: Final = "final_answer"

_FREE_CHOICES: Final = (None, "auto", "required", "any", "none")


@attrs.frozen
class Asked:
    """A request for a value, in one of the ways.

    Attributes:
        mode: Which.
        request: What is sent.
        tool: The name of the tool that gives the value; None in the other modes.
        strict: Whether the provider is to hold the answer to the schema.
    """

    mode: Mode
    request: ChatRequest
    tool: str | None = None
    strict: bool = False


async def card_of(request: ChatRequest) -> ModelCard | None:
    """What is known of the model that would answer, if nobody sends the request elsewhere."""
    fitness = Fitness(request)
    if not fitness.at_hand:
        await fitness.ready()
    return fitness.card(None)


def tool_may_be_forced(request: ChatRequest) -> bool:
    """Whether a request leaves it open which tool is called."""
    return request.tool_choice in _FREE_CHOICES


def modes(card: ModelCard | None, *, strict: bool, tool: bool = True) -> tuple[Mode, ...]:
    """The ways to ask, the best first. A transport that refuses one is asked in the next.

    Args:
        card: What is known of the model; None if nothing is.
        strict: Whether the provider can be made to hold the answer to the schema. Where it cannot,
            a tool takes any schema, and a provider's own field often does not.
        tool: Whether the request lets a tool be forced.
    """
    order: tuple[Mode, ...] = ("native", "tool") if strict else ("tool", "native")
    if card is not None:
        needs: Mapping[Mode, str] = {"native": "json_schema", "tool": "tools"}
        order = tuple([mode for mode in order if needs[mode] in card.capabilities])
    return (*[mode for mode in order if tool or mode != "tool"], "prompt")


def asked(
    mode: Mode,
    request: ChatRequest,
    form: Form[Any],
    card: ModelCard | None,
    call_next: Handler,
    *,
    strict: bool,
) -> Asked:
    """The request as it is sent.

    Args:
        mode: The way to ask.
        request: The caller's, without `returns`.
        form: What is wanted.
        card: What is known of the model.
        call_next: Who is inside: perhaps a layer that has tools.
        strict: Whether a strict schema is sent where there is one.
    """
    schema = form.strict if strict else None
    if mode == "native":
        sent = form.object_schema if schema is None else schema
        wanted = {"name": form.name, "schema": sent, "strict": schema is not None}
        changed = request.evolve(response_format={"type": "json_schema", "json_schema": wanted})
        return Asked(mode, changed, None, schema is not None)
    if mode == "prompt":
        return _in_words(request, form, card)
    if card is None or "json_schema" not in card.capabilities:
        schema = None  # such a model does not know strict tools either
    return _by_tool(request, form, schema, call_next)


def _by_tool(
    request: ChatRequest, form: Form[Any], strict: Mapping[str, Any] | None, call_next: Handler
) -> Asked:
    taken = {getattr(tool, "name", None) for tool in request.tools}
    name = TOOL_NAME
    while name in taken:
        name += "_"
    if not tool_may_be_forced(request):
        msg = f"tool_choice={request.tool_choice!r} forces another tool than the one that answers."
        hint = "Leave tool_choice out, or ask without `returns=` until that tool has been called."
        raise ConfigurationError(msg, hint=hint, layer="structured")
    schema = form.object_schema if strict is None else strict
    tool = Tool(name, TOOL_DESCRIPTION, schema, True if strict is not None else None)
    others = bool(request.tools) or provided(call_next, "tools") is not None
    only = not others or request.tool_choice == "none"
    return Asked(
        "tool",
        request.evolve(
            context=with_shape(request.context, AnswerShape(tool=name, json=True)),
            tools=(*request.tools, tool),
            # With other tools it may use those first; then some call is all that can be forced.
            tool_choice=name if only else "required",
        ),
        name,
        strict is not None,
    )


def _in_words(request: ChatRequest, form: Form[Any], card: ModelCard | None) -> Asked:
    schema = form.object_schema
    place = 0
    for message in request.messages:
        if message.role not in {"system", "developer"}:
            break
        place += 1
    said = Message("system", instruction(schema), pinned=True)
    changes: dict[str, Any] = {
        "context": with_shape(request.context, AnswerShape(json=True)),
        "messages": (*request.messages[:place], said, *request.messages[place:]),
    }
    if card is not None and "json_object" in card.capabilities:
        changes["response_format"] = {"type": "json_object"}
    return Asked("prompt", request.evolve(**changes))
