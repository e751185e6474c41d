"""From Google's requests to the library's own, strictly where Google would be strict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from lamella._chat import ChatRequest
from lamella._messages import Message
from lamella._mock_rejections import Rejection
from lamella._tools import Tool
from lamella.testing._mock_google._json import as_object, read_message
from lamella.testing._mock_google._parts import json_schema, read_messages, read_parts, read_tools
from lamella.testing._mock_google._turns import check_content, check_contents
from lamella.testing._mock_openai._requests import JSON

BUDGETS = {0: "none", 1_024: "low", 8_192: "medium", 24_576: "high"}
"""The efforts that budgets of thinking tokens stand for, as Google's OpenAI-style API has them."""

_SAME = {
    "temperature": "temperature",
    "topP": "top_p",
    "candidateCount": "n",
    "maxOutputTokens": "max_output_tokens",
    "stopSequences": "stop",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
}
_BOUNDS = {
    "temperature": (0, 2),
    "topP": (0, 1),
    "candidateCount": (1, 8),
    "logprobs": (0, 20),
    "presencePenalty": (-2, 2),
    "frequencyPenalty": (-2, 2),
    "maxOutputTokens": (1, 2**31 - 1),
    "seed": (-(2**31), 2**31 - 1),
}
_STOPS = 5
_FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:\-]{0,127}")


def read_google(body: Any, *, model: str | None = None, vertex: bool = False) -> ChatRequest:
    """The request in a body of `generateContent`, with all that it says.

    What the library has no word for stands in `extra` under its own name. Whether thoughts are to
    be shown is no more than how the answer is written, and left out.

    Args:
        body: The body, read as JSON.
        model: The model, which the path names.
        vertex: Whether it came to Vertex AI.

    Raises:
        Rejection: If a field is unknown or out of range.
    """
    given = read_message(body, "GenerateContentRequest", vertex=vertex)
    fields: JSON = {"model": model, "extra": {}}
    _take_prompt(fields, given)
    _take_tool_config(fields, given.pop("toolConfig", {}))
    _take_generation(fields, given.pop("generationConfig", {}))
    tier = given.pop("serviceTier", None)
    if tier is not None:
        fields["service_tier"] = tier.lower()
    given.pop("model", None)
    fields["extra"] |= given
    try:
        return ChatRequest(**fields)
    except (TypeError, ValueError) as error:
        raise Rejection(400, None, f"The request cannot be read: {error}") from error


def check_google(body: Any, *, model: str, vertex: bool) -> JSON:
    """A body of `generateContent` whose conversation and tools are as Google demands.

    Raises:
        Rejection: If they are not.
    """
    given = read_message(body, "GenerateContentRequest", vertex=vertex)
    check_contents(given.get("contents") or [], seals_needed="reasoning" in model)
    if "systemInstruction" in given:
        check_content(given["systemInstruction"], "system_instruction")
    if "cachedContent" in given:
        raise Rejection(403, None, "CachedContent not found (or permission denied)")
    _check_tools(given, vertex=vertex)
    return given


def answerable(request: ChatRequest) -> ChatRequest:
    """The request as the embedded provider understands it: a choice among some tools is made."""
    choice = request.tool_choice
    if not isinstance(choice, Mapping):
        return request
    names = choice.get("allowedFunctionNames")
    tools = [each for each in request.tools if isinstance(each, Tool)]
    if names:
        tools = [each for each in tools if each.name in names]
    must = choice.get("mode") == "ANY"
    return attrs.evolve(request, tools=tools, tool_choice="required" if must else "auto")


def thoughts_shown(given: JSON) -> bool:
    """Whether the client wants to see what the model thinks."""
    config = as_object(given.get("generationConfig")).get("thinkingConfig")
    return as_object(config).get("includeThoughts") is True


def _take_prompt(fields: JSON, given: JSON) -> None:
    contents = given.pop("contents", [])
    for place, content in enumerate(contents):
        check_content(content, f"contents[{place}]")
    messages = list(read_messages(contents))
    system = given.pop("systemInstruction", None)
    if system is not None:
        messages.insert(0, Message("system", read_parts(system)))
    fields["messages"] = messages
    fields["tools"] = read_tools(given.pop("tools", []))


def _take_tool_config(fields: JSON, given: JSON) -> None:
    calling = given.pop("functionCallingConfig", None)
    if given:
        fields["extra"]["toolConfig"] = given
    if calling is None:
        return
    mode, names = calling.get("mode", "MODE_UNSPECIFIED"), calling.get("allowedFunctionNames")
    plain = calling.keys() <= {"mode", "allowedFunctionNames"}
    words = {"AUTO": "auto", "NONE": "none", "ANY": "required"}
    if plain and not names and mode in words:
        fields["tool_choice"] = words[mode]
    elif plain and mode == "ANY" and len(names or ()) == 1:
        fields["tool_choice"] = names[0]
    else:
        fields["tool_choice"] = calling


def _take_generation(fields: JSON, given: JSON) -> None:
    for name, (low, high) in _BOUNDS.items():
        if name in given and not low <= given[name] <= high:
            message = f"{name} must be in the range [{low}, {high}], not {given[name]!r}."
            raise Rejection(400, None, message, f"generation_config.{name}")
    if len(given.get("stopSequences", ())) > _STOPS:
        message = f"At most {_STOPS} stop sequences are taken."
        raise Rejection(400, None, message, "generation_config.stop_sequences")
    for name, own in _SAME.items():
        if name in given:
            fields[own] = given.pop(name)
    wanted, others = given.pop("responseLogprobs", None), given.pop("logprobs", None)
    if others is not None and not wanted:
        message = "logprobs needs responseLogprobs to be true."
        raise Rejection(400, None, message, "generation_config.logprobs")
    if wanted:
        fields["logprobs"] = others or 0
    _take_format(fields, given)
    _take_thinking(fields, given)
    if given:
        fields["extra"]["generationConfig"] = given


def _take_format(fields: JSON, given: JSON) -> None:
    kind = given.get("responseMimeType", "text/plain")
    schema, plain = given.get("responseSchema"), given.get("responseJsonSchema")
    if schema is not None and plain is not None:
        message = "Only one of responseSchema and responseJsonSchema may be set."
        raise Rejection(400, None, message, "generation_config.response_schema")
    if kind not in {"text/plain", "application/json", "text/x.enum"}:
        message = f"The allowed response MIME types do not include {kind!r}."
        raise Rejection(400, None, message, "generation_config.response_mime_type")
    if kind == "text/plain" and (schema is not None or plain is not None):
        message = "A response schema needs the response MIME type 'application/json'."
        raise Rejection(400, None, message, "generation_config.response_mime_type")
    if kind != "application/json":
        return
    for name in ("responseMimeType", "responseSchema", "responseJsonSchema"):
        given.pop(name, None)
    if schema is not None:
        plain = json_schema(schema)
    if plain is None:
        fields["response_format"] = {"type": "json_object"}
        return
    inner = {"name": as_object(plain).get("title", "response"), "schema": plain}
    fields["response_format"] = {"type": "json_schema", "json_schema": inner}


def _take_thinking(fields: JSON, given: JSON) -> None:
    config = given.pop("thinkingConfig", {})
    level, budget = config.get("thinkingLevel"), config.get("thinkingBudget")
    if level is not None and budget is not None:
        message = "Only one of the thinking budget and the thinking level may be set."
        raise Rejection(400, None, message, "generation_config.thinking_config")
    if level is not None:
        fields["reasoning_effort"] = level.lower()
    elif budget is not None and budget >= 0:
        fields["reasoning_effort"] = next(
            (word for most, word in BUDGETS.items() if budget <= most), "high"
        )
        if budget not in BUDGETS:
            given["thinkingConfig"] = {"thinkingBudget": budget}


def _check_tools(given: JSON, *, vertex: bool) -> None:
    declared: list[str] = []
    for place, tool in enumerate(given.get("tools", ())):
        for n, each in enumerate(tool.get("functionDeclarations", ())):
            path = f"tools[{place}].function_declarations[{n}]"
            if not _FUNCTION_NAME.fullmatch(each.get("name", "")):
                message = (
                    "Invalid function name. It starts with a letter or an underscore; letters, "
                    "digits, underscores, dots, colons and dashes follow, 128 at most in all."
                )
                raise Rejection(400, None, message, f"{path}.name")
            if each["name"] in declared:
                message = f"Duplicate function declaration found: {each['name']}"
                raise Rejection(400, None, message, f"{path}.name")
            if "parameters" in each and "parametersJsonSchema" in each:
                message = "Only one of parameters and parametersJsonSchema may be set."
                raise Rejection(400, None, message, path)
            declared.append(each["name"])
    config = as_object(given.get("toolConfig"))
    calling = as_object(config.get("functionCallingConfig"))
    names, mode = calling.get("allowedFunctionNames"), calling.get("mode")
    path = "tool_config.function_calling_config"
    if names and mode not in {"ANY", "VALIDATED"}:
        message = "allowed_function_names may be set only where the mode is ANY or VALIDATED."
        raise Rejection(400, None, message, path)
    if mode == "ANY" and not declared:
        raise Rejection(400, None, "The mode ANY needs function declarations.", path)
    lenient = vertex or config.get("includeServerSideToolInvocations")
    if "functionCallingConfig" in config and not declared and not lenient:
        message = "Function calling config is set without function_declarations."
        raise Rejection(400, None, message, path)
    if names and not set(names) <= set(declared):
        message = "allowed_function_names holds a name that no function declaration has."
        raise Rejection(400, None, message, path)
