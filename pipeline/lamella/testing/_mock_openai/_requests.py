"""From what a client sends to the library's own requests, strictly where a provider would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from lamella._chat import ChatRequest
from lamella._embeddings import EmbeddingRequest
from lamella._messages import Message
from lamella._mock_rejections import Rejection
from lamella._parts import Reasoning

JSON: TypeAlias = dict[str, Any]

_SAME = ("model", "messages", "tools", "tool_choice", "parallel_tool_calls", "response_format",
         "temperature", "top_p", "seed", "n", "presence_penalty", "frequency_penalty",
         "reasoning_effort", "service_tier")  # fmt: skip
_COUNTED = frozenset(
    {"conversation", "input", "instructions", "model", "parallel_tool_calls", "personality"}
    | {"previous_response_id", "reasoning", "text", "tool_choice", "tools", "truncation"}
)
_NOT_WHILE_REASONING = ("max_tokens", "stop", "logprobs", "top_logprobs")
_FIXED_WHILE_REASONING = ("temperature", "top_p")


def chat_request(body: JSON) -> ChatRequest:
    """The request in a body of the chat API.

    Raises:
        Rejection: If a provider would not accept it.
    """
    model = _text(body, "model")
    _conversation(body, "messages")
    options = body.get("stream_options")
    if options is not None and not (body.get("stream") and isinstance(options, dict)):
        message = "'stream_options' is an object, and only for answers that are streamed."
        raise _wrong(message, "stream_options")
    if "reasoning" in model:
        _as_reasoning_models_do(body)
    fields = {name: body[name] for name in _SAME if body.get(name) is not None}
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None:
        fields["max_output_tokens"] = limit
    if body.get("stop") is not None:
        fields["stop"] = body["stop"]
    if body.get("logprobs"):
        fields["logprobs"] = body.get("top_logprobs") or 0
    elif body.get("top_logprobs"):
        raise _wrong("'top_logprobs' needs 'logprobs' to be true.", "top_logprobs")
    return _chat(fields)


def responses_request(
    body: JSON, earlier: Callable[[str], Sequence[Message] | None]
) -> ChatRequest:
    """The request in a body of the Responses API.

    Args:
        body: What was sent.
        earlier: The conversation that an earlier answer, given by its id, has led to.

    Raises:
        Rejection: If a provider would not accept it.
    """
    _text(body, "model")
    messages: list[Message] = []
    if isinstance(body.get("instructions"), str):
        messages.append(Message("system", body["instructions"]))
    previous = body.get("previous_response_id")
    if previous is not None:
        before = earlier(str(previous))
        if before is None:
            message = f"There is no response with the id {previous!r}."
            raise Rejection(400, "previous_response_not_found", message, "previous_response_id")
        messages += before
    messages += _items(body.get("input"))
    same = ("model", "temperature", "top_p", "parallel_tool_calls", "service_tier", "tool_choice")
    fields: JSON = {name: body[name] for name in same if body.get(name) is not None}
    fields["messages"] = messages
    fields["max_output_tokens"] = body.get("max_output_tokens")
    fields["response_format"] = _nested(_object(body.get("text")).get("format"))
    fields["reasoning_effort"] = _object(body.get("reasoning")).get("effort")
    fields["tools"] = [_tool(item) for item in _list(body.get("tools"))]
    if "message.output_text.logprobs" in _list(body.get("include")):
        fields["logprobs"] = body.get("top_logprobs") or 0
    return _chat(fields)


def count_request(body: JSON, earlier: Callable[[str], Sequence[Message] | None]) -> ChatRequest:
    """The conversation in a body of the Responses API's token counts.

    Args:
        body: What was sent.
        earlier: The conversation that an earlier answer, given by its id, has led to.

    Raises:
        Rejection: If a provider would not accept it.
    """
    for name in body:
        if name not in _COUNTED:
            message = f"Unknown parameter: {name!r}."
            raise Rejection(400, "unknown_parameter", message, name)
    if body.get("truncation") not in {None, "auto", "disabled"}:
        raise _wrong("'truncation' is 'auto' or 'disabled'.", "truncation")
    return responses_request(body, earlier)


def embedding_request(body: JSON) -> EmbeddingRequest:
    """The request in a body of the embeddings API; tokens are embedded by their numbers.

    Raises:
        Rejection: If a provider would not accept it.
    """
    model, given = _text(body, "model"), body.get("input")
    if body.get("encoding_format") not in {None, "float", "base64"}:
        raise _wrong("'encoding_format' is 'float' or 'base64'.", "encoding_format")
    items = [given] if isinstance(given, str) else _list(given)
    if items and all(isinstance(item, int) for item in items):
        items = [items]
    texts = [item if isinstance(item, str) else " ".join(map(str, _list(item))) for item in items]
    if not texts or not all(texts):
        raise _wrong("'input' is a text, or a list of texts, none of them empty.", "input")
    dimensions = body.get("dimensions")
    if dimensions is not None and not isinstance(dimensions, int):
        raise _wrong("'dimensions' is a whole number.", "dimensions")
    return EmbeddingRequest(inputs=texts, model=model, dimensions=dimensions)


def _must_be_objects(fields: JSON) -> None:
    """Refuse what would only be found out where it is used."""
    wanted = fields.get("response_format")
    if wanted is not None and not (
        isinstance(wanted, dict) and isinstance(_object(wanted).get("json_schema", {}), dict)
    ):
        raise _wrong("'response_format' is an object with a 'type'.", "response_format")
    if not isinstance(fields.get("tools") or [], list):
        raise _wrong("'tools' is a list.", "tools")
    for place, tool in enumerate(_list(fields.get("tools"))):
        function = _object(_object(tool).get("function"))
        if not isinstance(tool, dict) or not isinstance(function.get("parameters") or {}, dict):
            message = "A tool is an object whose 'parameters' are a JSON Schema."
            raise _wrong(message, f"tools[{place}]")


def _chat(fields: JSON) -> ChatRequest:
    _must_be_objects(fields)
    try:
        return ChatRequest.of(fields.pop("messages"), **fields)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _wrong(f"The request cannot be read: {error}", None) from error


def _as_reasoning_models_do(body: JSON) -> None:
    for name in _NOT_WHILE_REASONING:
        if body.get(name):
            hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            message = f"Unsupported parameter: {name!r} is not supported with this model.{hint}"
            raise Rejection(400, "unsupported_parameter", message, name)
    for name in _FIXED_WHILE_REASONING:
        if body.get(name) not in {None, 1}:
            message = f"Unsupported value: {name!r} does not support {body[name]!r}; only 1 is."
            raise Rejection(400, "unsupported_value", message, name)


def _items(given: Any) -> list[Message]:
    """The messages that the `input` of the Responses API stands for."""
    if isinstance(given, str):
        return [Message("user", given)]
    items = _list(given)
    if not items:
        raise Rejection(400, "missing_required_parameter", "There is no 'input'.", "input")
    found: list[JSON | Message] = []
    for place, item in enumerate(items):
        _add_item(found, _object(item), f"input[{place}]")
    try:
        return [Message.of(each) for each in found]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _wrong(f"The input cannot be read: {error}", "input") from error


def _add_item(found: list[JSON | Message], item: JSON, place: str) -> None:
    """Add one item; what belongs to one message of the assistant's becomes one message."""
    match item.get("type", "message"):
        case "message":
            found.append({"role": item.get("role"), "content": _content(item.get("content"))})
        case "function_call" | "custom_tool_call" as kind:
            words = {"name": item.get("name")}
            if kind == "function_call":
                call: JSON = {"type": "function", "function": words}
                words["arguments"] = item.get("arguments")
            else:
                call = {"type": "custom", "custom": words}
                words["input"] = item.get("input")
            last = found[-1] if found else None
            if not isinstance(last, dict) or "tool_calls" not in last:
                made: JSON = {"role": "assistant", "content": None, "tool_calls": []}
                found.append(made)
                last = made
            last["tool_calls"].append({"id": item.get("call_id"), **call})
        case "function_call_output" | "custom_tool_call_output":
            content, call_id = _content(item.get("output")), item.get("call_id")
            found.append({"role": "tool", "tool_call_id": call_id, "content": content})
        case "reasoning":
            found.append(Message.assistant(_thought(item)))
        case kind:
            raise _wrong(f"The mock provider does not know items of type {kind!r}.", place)


def _nested(given: Any) -> Any:
    """The format of an answer as the chat API nests it."""
    flat = _object(given)
    if flat.get("type") != "json_schema" or "json_schema" in flat:
        return given
    inner = {name: value for name, value in flat.items() if name != "type"}
    return {"type": "json_schema", "json_schema": inner}


def _thought(item: JSON) -> Reasoning:
    """A thought as it came back: what is shown of it, and its sealed form."""
    shown = [str(_object(part).get("text", "")) for part in _list(item.get("summary"))]
    sealed, origin = item.get("encrypted_content"), {"provider": "openai-responses"}
    return Reasoning("".join(shown), signature=sealed, id=item.get("id"), extra=origin)


def _content(given: Any) -> Any:
    if not isinstance(given, list):
        return given
    return [_content_part(_object(part)) for part in _list(given)]


def _content_part(part: JSON) -> JSON:
    kind = str(part.get("type"))
    if kind in {"input_text", "output_text"}:
        return {"type": "text", "text": part.get("text")}
    if kind == "input_image":
        url: JSON = {"url": part.get("image_url"), "detail": part.get("detail")}
        return {"type": "image_url", "image_url": {k: v for k, v in url.items() if v is not None}}
    if kind == "input_file":
        names = ("file_id", "file_data", "file_url", "filename")
        return {"type": "file", "file": {name: part[name] for name in names if part.get(name)}}
    return part


def _tool(given: Any) -> JSON:
    tool = _object(given)
    if tool.get("type") != "function" or "function" in tool:
        return tool
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _conversation(body: JSON, name: str) -> None:
    given = body.get(name)
    if given is None:
        message = f"Missing required parameter: '{name}'."
        raise Rejection(400, "missing_required_parameter", message, name)
    if not isinstance(given, list) or not given:
        raise _wrong(f"'{name}' is a list with at least one message in it.", name)


def _text(body: JSON, name: str) -> str:
    given = body.get(name)
    if not isinstance(given, str) or not given:
        message = f"You must provide a {name} parameter."
        raise Rejection(400, "missing_required_parameter", message, name)
    return given


def _object(given: Any) -> JSON:
    return dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else {}


def _list(given: Any) -> list[Any]:
    return list(cast("Sequence[Any]", given)) if isinstance(given, list) else []


def _wrong(message: str, param: str | None) -> Rejection:
    return Rejection(400, "invalid_value" if param else None, message, param)
