"""What is said once for every request to an Ollama server."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import attrs

from lamella._errors import ConfigurationError
from lamella._nothing import NOTHING
from lamella.transports._http_transport import TransportOptions
from lamella.transports._wire_json import is_object

_SPAN: Final = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+|[+-]?0")
_OWN_FIELDS: Final = {"num_ctx": "num_ctx="}


def _positive(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        msg = f"OllamaOptions({field.name}={value!r}) is no number of tokens, 1 or more."
        raise ConfigurationError(msg, hint="None leaves it to the server.")


def _is_switch(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        msg = f"OllamaOptions({field.name}={value!r}) is neither True, False nor None."
        raise ConfigurationError(msg, hint="None leaves it to the server.")


def _span(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _is_span(_: object, __: object, value: Any) -> None:
    if value is None or (isinstance(value, str) and _SPAN.fullmatch(value)):
        return
    number = isinstance(value, int | float) and not isinstance(value, bool | str)
    if not number or not math.isfinite(float(value)):
        raise ConfigurationError(
            f"OllamaOptions(keep_alive={value!r}) is no span of time.",
            hint="Give seconds, a timedelta, or text such as '10m'; -1 is for ever, 0 not at all.",
        )


def _are_options(_: object, __: object, value: Any) -> None:
    if not is_object(value) or not all(isinstance(name, str) for name in value):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = "OllamaOptions(model_options=...) is no dict of names and values."
        raise ConfigurationError(msg, hint="For example: model_options={'top_k': 40}.")
    for name in value.keys() & _OWN_FIELDS.keys():
        msg = f"OllamaOptions(model_options=...) holds {name!r}, which has a field of its own."
        raise ConfigurationError(msg, hint=f"Give it as {_OWN_FIELDS[name]}.")


@attrs.frozen(kw_only=True)
class OllamaOptions(TransportOptions):
    """What is rarely said of an `Ollama` transport, besides `TransportOptions`.

    What is None is left to the server. A request says otherwise by its `extra`:
    `extra={"options": {"num_ctx": 8192}, "keep_alive": "1h"}`. The `name` that is not given is
    `ollama-native`; there are no model cards, unless a `card_provider` is named.

    Attributes:
        num_ctx: The model's window, prompt and answer together, in tokens; at least 1. A server
            loads a model anew for another window. It cuts a longer conversation without a word;
            the trace then has a note `ollama.prompt_cut` where that can be proved.
        keep_alive: How long the model stays in memory after a request: seconds, a timedelta, or
            text such as `"10m"`. 0 unloads it at once, what is negative keeps it for ever.
        truncate: Whether a conversation that is longer than the window is cut. False has the server
            refuse it, which is a `ContextLengthError`.
        shift: Whether an answer may go on past the end of the window, at the cost of the oldest
            tokens. False ends it there.
        model_options: Further options of the model, as its files name them: `top_k`, `min_p`,
            `repeat_penalty`, `num_gpu` ... What a request states itself (`temperature` ...) wins.
    """

    num_ctx: int | None = attrs.field(default=None, validator=_positive)
    keep_alive: float | str | timedelta | None = attrs.field(
        default=None, converter=_span, validator=_is_span
    )
    truncate: bool | None = attrs.field(default=None, validator=_is_switch)
    shift: bool | None = attrs.field(default=None, validator=_is_switch)
    model_options: Mapping[str, Any] = attrs.field(
        default=NOTHING, hash=False, validator=_are_options
    )
