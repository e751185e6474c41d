"""The layer: its options, and the way past it for answers that are not to be values."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from lamella import ChatRequest, ChatResponse, Handler, middleware
from lamella._options import flag, one_of, whole
from lamella_middlewares.structured._asking import Asking
from lamella_middlewares.structured._near_json import must_be_mendable


def _count_or_none(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        whole(1)(layer, option, value)


def _mendable(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    flag(layer, option, value)
    if value:
        must_be_mendable()


_KEPT = (
    "a kept answer would be given without its value, which is read here; a question asked again is "
    "kept by itself"
)


@middleware(
    phase="compose",
    rank=30,
    requests=ChatRequest,
    provides=("value",),
    effects=("changes requests", "changes events", "calls again"),
    outside={
        "tools": "it asks for a value once the tools have been used; inside it, the answer of each "
        "turn would have to be one",
        "pii": "the value would be read before placeholders are replaced, and hold them",
        "cache": _KEPT,
        "semantic_cache": _KEPT,
        "single_flight": _KEPT,
    },
)
@attrs.frozen
class Structured:
    """Makes the answer a typed value: `run(request, returns=Person)` has `response.value`.

    The model is asked for JSON of the type's schema in the best way that it knows. An answer that
    does not fit is asked for again, with what is wrong and nothing else, as long as nobody has seen
    any of it. Requests without `returns` pass untouched.

    Args:
        mode: `"native"` uses the provider's own field for a schema, `"tool"` a tool that the model
            must call, `"prompt"` words. `"auto"` takes the first of them that the model's card has;
            where there is no card, the first that the transport and the provider take.
        attempts: How often the model is asked in all, the first time included; 1 or more. 1 never
            asks again.
        max_tokens: Tokens of all these turns together, 1 or more: a further turn is not begun if
            its question alone would pass them. None sets no such bound.
        repair: Whether what is nearly JSON is mended instead of asked for again: words around it,
            commas and quotes. Needs the extra `structured`. What was cut off never is; one fence
            around the whole answer is always taken off.
        hold: Whether a stream is read to its end before anything is shown: then an answer that does
            not fit can be asked for again, as in `run`. Without it that is an error at the end.
        strict: Whether the provider is to hold the answer to the schema where it can.

    Raises:
        ConfigurationError: If an option is wrong, or an extra is needed that is not installed.
    """

    mode: Literal["auto", "native", "tool", "prompt"] = attrs.field(
        default="auto", validator=one_of("auto", "native", "tool", "prompt")
    )
    attempts: int = attrs.field(default=3, validator=whole(1))
    max_tokens: int | None = attrs.field(default=None, validator=_count_or_none)
    repair: bool = attrs.field(default=False, validator=_mendable)
    hold: bool = attrs.field(default=False, validator=flag)
    strict: bool = attrs.field(default=True, validator=flag)

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        """Ask for a value.

        Raises:
            StructureError: If the answer is none, and is not asked for again; see its `code`.
            ConfigurationError: If the type cannot be asked for, or the request says otherwise.
            LamellaError: What the layers inside raise; with the turns before it in `partial`.
        """
        if request.returns is None:
            return await call_next(request)
        return await Asking(self, request, call_next).run()
