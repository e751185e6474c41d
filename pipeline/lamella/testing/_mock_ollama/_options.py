"""The options of a model on Ollama's server, and how long it is to think."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lamella._chat import ChatRequest
from lamella._mock_answers import CONTEXT_TOKENS
from lamella._mock_rejections import Rejection
from lamella.testing._mock_ollama._fields import json_kind
from lamella.testing._mock_openai._requests import JSON

NUM_CTX = 4096
"""The window of a model for which no request has asked another, on a machine of little memory."""

_INTEGERS = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict"}
    | {"num_keep", "seed", "num_predict", "top_k", "repeat_last_n"}
)
_FLOATS = frozenset(
    {"top_p", "min_p", "typical_p", "temperature"}
    | {"repeat_penalty", "presence_penalty", "frequency_penalty"}
)
_LEVELS = ("low", "medium", "high", "max")
_OURS = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")


def sampling(options: JSON) -> JSON:
    """The options that requests of ours have fields for. Unknown options are ignored.

    Raises:
        Rejection: If an option is of the wrong type.
    """
    for name, value in options.items():
        if value is not None:
            _must_fit(name, value)
    found: JSON = {name: options[name] for name in _OURS if options.get(name) is not None}
    if found.get("seed", 0) < 0:
        del found["seed"]  # any
    if (most := options.get("num_predict") or 0) > 0:
        found["max_output_tokens"] = int(most)
    if options.get("stop"):
        found["stop"] = options["stop"]
    for name in ("temperature", "top_p"):
        if found.get(name, 0) < 0:
            del found[name]  # a sampler takes it for none
    return found


def thinking(given: Any) -> str | None:
    """The effort that `think` asks for; None leaves it to the model.

    Raises:
        Rejection: If it is no such value.
    """
    if given is None:
        return None
    if isinstance(given, bool):
        return "medium" if given else "none"
    words = '("high", "medium", "low", "max", true, or false)'
    if not isinstance(given, str):
        raise Rejection(400, None, f"think must be a boolean or string {words}", "think")
    if given not in _LEVELS:
        message = f'invalid think value: "{given}" (must be {words[1:]}'
        raise Rejection(400, None, message, "think")
    return given


def option(request: ChatRequest, name: str, default: int) -> int:
    """A whole number among the options that only this API knows."""
    options = cast("Mapping[str, Any]", request.extra.get("options") or {})
    value = options.get(name)
    return default if value is None else int(value)


def window_of(request: ChatRequest) -> int:
    """How many tokens the model sees at once."""
    asked = option(request, "num_ctx", NUM_CTX)
    return min(asked if asked > 0 else NUM_CTX, CONTEXT_TOKENS)


def _must_fit(name: str, value: Any) -> None:
    number = json_kind(value) == "number"
    if name in _INTEGERS and not number:
        problem = "of type integer"
    elif name in _FLOATS and not number:
        problem = "of type float32"
    elif name == "use_mmap" and json_kind(value) != "bool":
        problem = "of type boolean"
    elif name == "stop" and json_kind(value) != "array":
        problem = "of type array"
    elif name == "stop" and not {json_kind(each) for each in value} <= {"string"}:
        problem = "of an array of strings"
    else:
        return
    # A server finds out only when it loads the model, so that it says it is its own fault.
    raise Rejection(500, None, f'option "{name}" must be {problem}', f"options.{name}")
