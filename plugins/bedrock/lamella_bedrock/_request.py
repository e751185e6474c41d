"""Converse: how a request is written.

System messages at the beginning become `system`; a later one stays where it is if the model's card
says that it may (`x-late-system`), and is moved there otherwise, with a note in the trace. Messages
of one role in a row become one, and the results of all calls of an answer one message of the user.
What the API has no words for is refused before the network; what only another provider understands
is left out with a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella._messages import Message
from lamella._parts import Opaque, Text
from lamella.transports._closed_schemas import closed_schema
from lamella.transports._dialect import JSON, DialectOptions
from lamella.transports._exchange import encoded_json
from lamella.transports._losses import Losses
from lamella.transports._wire_json import is_object
from lamella.transports._wire_parts import merge_extra, unsupported
from lamella_bedrock._cache_points import settle_points
from lamella_bedrock._caching import has_cache, lasts_an_hour
from lamella_bedrock._models import ModelNames
from lamella_bedrock._request_effort import add_effort
from lamella_bedrock._request_parts import PartWriter
from lamella_bedrock._request_tools import ADDITIONAL, add_tools

_REFUSED: Final = ("seed", "logprobs", "presence_penalty", "frequency_penalty")
_JOINED: Final = (ADDITIONAL, "inferenceConfig", "outputConfig", "requestMetadata", "toolConfig")
"""Fields of `extra` that are joined with ours, name by name."""

_LAYERS_LOOK_AT: Final = {"system": "set `messages` on the request", "modelId": "set `model`"}
_METADATA: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}")
_SYSTEM = ("system", "developer")


def converse_body(
    request: ChatRequest, *, options: DialectOptions, provider: str, names: ModelNames
) -> JSON:
    """The body of a request to Converse or ConverseStream, which is the same.

    Raises:
        UnsupportedError: If the API has no words for a part or a value.
    """
    body, losses = _conversation(request, options, provider, names)
    inference = _inference(request)
    if inference:
        body["inferenceConfig"] = inference
    if request.response_format is not None:
        shape = _shape(request.response_format, provider, losses)
        if shape is not None:
            body["outputConfig"] = {**body.get("outputConfig", {}), "textFormat": shape}
    if request.service_tier is not None and request.service_tier != "auto":
        body["serviceTier"] = {"type": request.service_tier}
    if options.send_user and request.context.user is not None:
        if _METADATA.fullmatch(request.context.user):
            body["requestMetadata"] = {"user": request.context.user}
        else:
            losses.add("user", "Bedrock's metadata has no place for such letters, or so many")
    if request.extra:
        _merge(body, request, provider)
    losses.declare(request)
    return body


def counted_body(
    request: ChatRequest, *, options: DialectOptions, provider: str, names: ModelNames
) -> JSON:
    """The body of a request to CountTokens: of a conversation, what it counts.

    Raises:
        UnsupportedError: If the API has no words for a part or a value.
    """
    body, losses = _conversation(request, options, provider, names)
    body.pop("outputConfig", None)
    extra = {name: request.extra[name] for name in (ADDITIONAL,) if name in request.extra}
    if extra:
        _merge(body, request.evolve(extra=extra), provider)
    losses.declare(request)
    return {"input": {"converse": body}}


def _conversation(
    request: ChatRequest, options: DialectOptions, provider: str, names: ModelNames
) -> tuple[JSON, Losses]:
    """Messages, tools and effort: what both operations take."""
    _refuse(request, provider)
    losses = Losses(provider, refuse_foreign=options.refuse_foreign, cache_marks=True)
    base = names.base(request.model or "")
    family = names.family(request.model)
    capabilities = frozenset[str]() if options.card is None else options.card.capabilities
    caches = has_cache(family, options.card)
    lasting = caches and lasts_an_hour(family, options.card)
    writer = PartWriter(provider, family, losses, caches=caches, lasting=lasting)
    body = _messages(request, writer, losses, late_system="x-late-system" in capabilities)
    if writer.documents:
        for message in body["messages"]:
            _say_something(message["content"], losses)
    able = not capabilities or "tools" in capabilities
    add_tools(body, request, family, writer, losses, able=able)
    if writer.points:
        settle_points(body, losses, family)
    add_effort(body, request, base, capabilities, losses)
    return body, losses


def _refuse(request: ChatRequest, provider: str) -> None:
    given = request.__dict__
    names = [name for name in _REFUSED if given[name] is not None]
    if request.n is not None and request.n > 1:
        names.append("n")
    if names:
        raise UnsupportedError(
            f"Converse has no words for {', '.join(f'`{name}`' for name in names)}.",
            hint=f"Leave it out, or say it as the model does, in extra[{ADDITIONAL!r}].",
            code="unsupported_parameter",
            provider=provider,
        )


# --- messages ----------------------------------------------------------------------------------


def _messages(
    request: ChatRequest, writer: PartWriter, losses: Losses, *, late_system: bool
) -> JSON:
    system: list[JSON] = []
    messages: list[JSON] = []
    for message in request.messages:
        if message.name is not None:
            hint = "Write it into the text."
            raise unsupported("A message's `name`", "to Bedrock", hint, provider=writer.provider)
        if message.role in _SYSTEM:
            content = _instructions(message, writer)
            if not messages or not (late_system or _changes_tools(message)):
                if messages:
                    losses.add("position of a system message", "the model takes them first only")
                system += content
                continue
            role = "system"
        else:
            role = "assistant" if message.role == "assistant" else "user"
            content = _content(message, writer)
            if message.extra and content:
                content += writer.cache_point(message.extra)
        if not content:
            continue
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += content
        else:
            messages.append({"role": role, "content": content})
        if message.extra:
            messages[-1].update(writer.own(message.extra, "Message"))
    return {"messages": messages, "system": system} if system else {"messages": messages}


def _content(message: Message, writer: PartWriter) -> list[JSON]:
    if message.role == "function":
        hint = "Use Message.tool(call_id, content)."
        raise unsupported(
            "A message of role 'function'", "to Bedrock", hint, provider=writer.provider
        )
    parts = message.parts
    if len(parts) == 1 and type(parts[0]) is Text and not parts[0].extra:
        text = parts[0].text
        if text and not text.isspace():
            return [{"text": text}]
    said = message.role == "assistant"
    return [block for part in parts for block in writer.blocks(part, said=said)]


def _say_something(content: list[JSON], losses: Losses) -> None:
    """Put a document's name before documents without any words, which Bedrock refuses."""
    first = next((place for place, block in enumerate(content) if "document" in block), None)
    if first is not None and not any("text" in block for block in content):
        content.insert(first, {"text": content[first]["document"]["name"]})
        losses.add("File", "Bedrock wants words beside a document: its name was put there")


def _changes_tools(message: Message) -> bool:
    """Whether it only holds blocks of Bedrock's own, which stand where they take effect."""
    return all(isinstance(part, Opaque) for part in message.parts)


def _instructions(message: Message, writer: PartWriter) -> list[JSON]:
    for part in message.parts:
        if not isinstance(part, Text | Opaque):
            hint = "Send it in a user message."
            raise unsupported(part, "in a system message", hint, provider=writer.provider)
    blocks = [block for part in message.parts for block in writer.blocks(part)]
    return blocks + writer.cache_point(message.extra) if message.extra and blocks else blocks


# --- the rest ----------------------------------------------------------------------------------


def _inference(request: ChatRequest) -> JSON:
    found: JSON = {}
    if request.max_output_tokens is not None:
        found["maxTokens"] = request.max_output_tokens
    if request.temperature is not None:
        found["temperature"] = request.temperature
    if request.top_p is not None:
        found["topP"] = request.top_p
    if request.stop:
        found["stopSequences"] = list(request.stop)
    return found


def _shape(given: Mapping[str, Any], provider: str, losses: Losses) -> JSON | None:
    """The shape of the answer; None if it is plain text."""
    kind = given.get("type")
    if kind == "text":
        return None
    schema: Any = given.get("json_schema")
    if kind == "json_schema" and is_object(schema) and "schema" in schema:
        inner: Any = schema["schema"]
        if is_object(inner):
            inner = closed_schema(inner, losses, "response_format", provider=provider)
        made: JSON = {"schema": encoded_json(inner).decode()}
        made.update({name: schema[name] for name in ("name", "description") if schema.get(name)})
        return {"type": "json_schema", "structure": {"jsonSchema": made}}
    raise UnsupportedError(
        f"Converse has no `response_format` of type {kind!r}.",
        hint='Give a schema: {"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}.',
        code="unsupported_value",
        provider=provider,
    )


def _merge(body: JSON, request: ChatRequest, provider: str) -> None:
    for name, remedy in _LAYERS_LOOK_AT.items():
        if name in request.extra:
            raise UnsupportedError(
                f"`extra` may not hold {name!r}: layers go by the request's own field.",
                hint=f"Instead, {remedy}.",
                code="unsupported_parameter",
                provider=provider,
            )
    before = {name: body[name] for name in _JOINED if name in body}
    merge_extra(body, request, provider=provider)
    for name, ours in before.items():
        given: Any = body[name]
        if given is not ours and is_object(given):
            body[name] = {**ours, **given}
