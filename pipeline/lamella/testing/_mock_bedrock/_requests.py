"""From requests to Converse to the library's own, strictly and without loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json import JSONDecodeError, loads
from typing import Any, Final, cast

from lamella._chat import ChatRequest
from lamella._messages import Message
from lamella._parts import Opaque, Part, ToolResult
from lamella._tools import Tool
from lamella.testing._mock_bedrock._errors import wrong
from lamella.testing._mock_bedrock._model import CONVERSE_STREAM
from lamella.testing._mock_bedrock._parts import MARK, marked, may_mark, members, opaque, parts_of
from lamella.testing._mock_bedrock._shapes import Check
from lamella.testing._mock_openai._requests import JSON

_KEPT: Final = ("guardrailConfig", "promptVariables", "additionalModelResponseFieldPaths",
                "requestMetadata", "performanceConfig")  # fmt: skip
_LIMITS: Final = {
    "maxTokens": "max_output_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "stopSequences": "stop",
}
_MORE: Final = "additionalModelRequestFields"


def read_bedrock(body: Any, model: str = "", *, shape: Check = CONVERSE_STREAM) -> ChatRequest:
    """The request in a body of Converse, ConverseStream, or one to be counted.

    System blocks become one message, results of tools one each. What has no field of its own is in
    `extra`, under the API's name for it.

    Args:
        body: The JSON that was sent.
        model: The model that the path names.
        shape: What the operation takes; by default all that any of them does.

    Raises:
        Rejection: If it does not have the shape.
    """
    shape(body, "")
    told = members(body)
    fields: JSON = {"model": model or None, "extra": {k: told[k] for k in _KEPT if k in told}}
    messages: list[Message] = []
    if told.get("system"):
        messages.append(Message("system", parts_of(told["system"])))
    for given in told.get("messages", ()):
        messages.extend(_messages(given["role"], given["content"]))
    for name, value in members(told.get("inferenceConfig", {})).items():
        fields[_LIMITS[name]] = value
    if "toolConfig" in told:
        _add_tools(fields, members(told["toolConfig"]))
    if "serviceTier" in told:
        fields["service_tier"] = told["serviceTier"]["type"]
    _add_output(fields, members(told.get("outputConfig", {})))
    if _MORE in told:
        _add_more(fields, told[_MORE])
    return ChatRequest.of(messages, **fields)


def _messages(role: str, content: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The messages of one turn: a result of a tool is one of its own."""
    found: list[Message] = []
    others: list[Part] = []
    for part in parts_of(content):
        if not isinstance(part, ToolResult):
            others.append(part)
            continue
        if others:
            found.append(Message(role, others))
            others = []
        found.append(Message("tool", part))
    if others or not found:
        found.append(Message(role, others))
    return found


def _add_tools(fields: JSON, config: Mapping[str, Any]) -> None:
    tools: list[Tool | Opaque] = []
    for each in config["tools"]:
        given = members(each)
        last = tools[-1] if tools else None
        if "toolSpec" in given:
            spec = given["toolSpec"]
            schema = spec["inputSchema"]["json"]
            if not isinstance(schema, dict):
                raise wrong("The JSON of a tool's inputSchema is an object.")
            words = spec.get("description") or ""
            known = cast("JSON", schema)
            tools.append(Tool(spec["name"], words, known, spec.get("strict")))
        elif "cachePoint" in given and isinstance(last, Tool) and may_mark(last):
            tools[-1] = marked(last, given["cachePoint"])
        else:
            tools.append(opaque(given))
    fields["tools"] = tools
    match members(config.get("toolChoice") or {}):
        case {"auto": _}:
            fields["tool_choice"] = "auto"
        case {"any": _}:
            fields["tool_choice"] = "required"
        case {"tool": {"name": name}}:
            fields["tool_choice"] = name
        case _:
            pass


def _add_output(fields: JSON, config: Mapping[str, Any]) -> None:
    if "effort" in config:
        fields["reasoning_effort"] = config["effort"]
    if "textFormat" not in config:
        return
    given = members(config["textFormat"]["structure"]["jsonSchema"])
    try:
        schema = loads(given["schema"])
    except (JSONDecodeError, RecursionError) as error:
        raise wrong("The schema of the output is not JSON.") from error
    if not isinstance(schema, dict):
        raise wrong("The schema of the output is not an object.")
    fields["response_format"] = {
        "type": "json_schema",
        "json_schema": {**given, "schema": schema},
    }


def _add_more(fields: JSON, given: Any) -> None:
    """What the models' own fields say, as far as all know such a thing; the rest as it is."""
    if not isinstance(given, dict):
        raise wrong(f"'{_MORE}' is an object.")
    rest = cast("JSON", {**given})
    effort = _effort(rest)
    if effort is not None:
        fields.setdefault("reasoning_effort", effort)
    choice = _mapping(rest.get("tool_choice"))
    if isinstance(choice.get("disable_parallel_tool_use"), bool):
        del rest["tool_choice"]
        fields["parallel_tool_calls"] = not choice["disable_parallel_tool_use"]
        named = {"any": "required", "none": "none", "tool": choice.get("name")}
        if (asked := named.get(str(choice.get("type")))) is not None:
            fields["tool_choice"] = asked
    if rest:
        fields["extra"][_MORE] = rest


def _effort(rest: JSON) -> str | None:
    """How hard to think, taken out of the fields of a family of models."""
    effort = rest.get("reasoning_effort")
    if isinstance(effort, str):  # OpenAI's and others'
        del rest["reasoning_effort"]
        return effort
    nova = _mapping(rest.get("reasoningConfig"))
    if nova.keys() == {"type", "maxReasoningEffort"} and nova["type"] == "enabled":
        del rest["reasoningConfig"]
        return str(nova["maxReasoningEffort"])
    claude = _mapping(rest.get("output_config"))
    if claude.keys() == {"effort"}:
        del rest["output_config"]
        if rest.get("thinking") == {"type": "adaptive"}:
            del rest["thinking"]
        return str(claude["effort"])
    return None


def wants_thoughts(request: ChatRequest) -> bool:
    """Whether fields of a model's own switch thinking on, without a word for how much."""
    more = _mapping(request.extra.get(_MORE))
    modes = [_mapping(more.get(name)).get("type") for name in ("thinking", "reasoningConfig")]
    return request.reasoning_effort is None and any(
        mode in {"enabled", "adaptive"} for mode in modes
    )


def _mapping(given: Any) -> JSON:
    return dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else {}


def cache_mark(part: Part | Tool | Opaque) -> Mapping[str, Any] | None:
    """The mark for a prompt cache that a part carries, or is."""
    if isinstance(part, Opaque):
        return part.data.get("cachePoint")
    return part.extra.get(MARK)
