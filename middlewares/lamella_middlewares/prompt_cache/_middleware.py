"""The layer: marks and keys for the prompt cache of whoever the attempt goes to."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Handler,
    PromptCaching,
    middleware,
)
from lamella._options import flag, is_async, one_of, refused, whole
from lamella._prompt_caching import prompt_caching_of
from lamella_middlewares.prompt_cache._keys import KINDS, KeyOf, Kind, cache_key
from lamella_middlewares.prompt_cache._marks import LONG, SHORT, Wanted, with_marks

_CHOOSES = "it would put the marks of one provider on requests that {} sends to another"

_INSTEAD = frozenset({"prompt_cache_retention", "prompt_cache_options"})
"""Fields of OpenAI's that say how long a prompt is kept; it refuses a request with both."""


def _lifetime_or_none(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        one_of(SHORT, LONG)(layer, option, value)


def _minimum(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        whole(1)(layer, option, value)


def _key(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and value not in KINDS and (not callable(value) or is_async(value)):
        want = "None, 'tenant', 'session', or a plain function of the request that gives text"
        raise refused(layer, option, value, want)


def _wanted(layer: Any) -> Wanted:
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    later = layer.messages_lifetime or layer.lifetime
    if later == LONG and layer.lifetime == SHORT:
        raise ConfigurationError(
            "PromptCache(lifetime='5m', messages_lifetime='1h'): turns come after tools and "
            "instructions, and providers refuse a mark that lives longer than one before it.",
            hint="Give both '1h', or leave messages_lifetime out.",
        )
    return Wanted(
        tools=layer.tools,
        system=layer.system,
        messages=layer.messages,
        lifetime=layer.lifetime,
        later=later,
        minimum=layer.minimum,
    )


# What is asked stays the same, so the layer is no part of the keys of a `Cache` outside of it: it
# does not declare that it changes requests.
@middleware(
    phase="wire",
    rank=50,
    requests=ChatRequest,
    inside={
        "fallback": _CHOOSES.format("Fallback"),
        "route": _CHOOSES.format("Route"),
        "hedge": _CHOOSES.format("Hedge"),
    },
)
@attrs.frozen
class PromptCache:
    """Has providers keep the beginning of requests that stays the same, which they bill less.

    For each attempt it asks the transport what its target takes. Where that is marks (Anthropic,
    Bedrock, some gateways), it marks the end of the tools, of the instructions, and of the user's
    last turns; where it is a key (OpenAI, Azure), it sets one; for all others it does nothing.
    Marks and keys of the caller's own stay as they are. The caller's request is not changed.

    Args:
        lifetime: How long what is marked is to be kept since it was last used: `"5m"` or `"1h"`,
            which costs more to write (twice the input price instead of 1.25 times, at Anthropic).
            Targets that have only `"5m"` get that.
        messages_lifetime: The same for the turns; None is as `lifetime`. Not longer than that.
        tools: Whether the end of the tools is marked.
        system: Whether the end of the instructions that the conversation begins with is marked.
        messages: How many of the user's last turns are marked, 0 or more; a tool's results are a
            turn. With 2, the mark of this turn is what the next one finds, also where more blocks
            lie between than the provider looks back.
        minimum: The least number of tokens, as estimated, up to a mark, 1 or more; None takes what
            the model's card or the transport says.
        key: What requests have in common that are to share a cache, besides their tenant. None is
            their beginning: the names of the tools and the instructions, or without either the
            first message. `"session"` is `context.session`, `"tenant"` nothing more; a function
            gets the request and gives text, or None for no key. A digest of it is sent.
        retention: How long OpenAI keeps prompts: `"in_memory"` or `"24h"`, where the model takes
            that; None leaves it to the provider.
    """

    lifetime: Literal["5m", "1h"] = attrs.field(default=SHORT, validator=one_of(SHORT, LONG))
    messages_lifetime: Literal["5m", "1h"] | None = attrs.field(
        default=None, validator=_lifetime_or_none
    )
    tools: bool = attrs.field(default=True, validator=flag)
    system: bool = attrs.field(default=True, validator=flag)
    messages: int = attrs.field(default=2, validator=whole(0))
    minimum: int | None = attrs.field(default=None, validator=_minimum)
    key: Kind | KeyOf | None = attrs.field(default=None, validator=_key)
    retention: str | None = attrs.field(
        default=None,
        validator=attrs.validators.optional(one_of("in_memory", "24h")),
    )
    _wanted: Wanted = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_wanted, takes_self=True)
    )

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        """Send the request on, with what its target's prompt cache takes.

        Raises:
            MisuseError: If `key` gives something else than text.
        """
        attempt = request.context.attempt
        if attempt is None:
            why = "no attempt is under way here"
            request.context.note("prompt_cache", "prompt_cache.skipped", why=why)
            return await call_next(request)
        target = await prompt_caching_of(attempt.transport, request)
        if target is not None:
            if target.marks:
                request = self._marked(request, target)
            if target.key_field is not None or target.retention_field is not None:
                request = self._keyed(request, target)
        return await call_next(request)

    def _marked(self, request: ChatRequest, target: PromptCaching) -> ChatRequest:
        marked = with_marks(request, self._wanted, target)
        if marked is None:
            return request
        request.context.note(
            "prompt_cache",
            "prompt_cache.marked",
            marks=len(marked.where),
            where=marked.where,
            lifetimes=marked.lifetimes,
            given=marked.given,
        )
        return marked.request

    def _keyed(self, request: ChatRequest, target: PromptCaching) -> ChatRequest:
        added: dict[str, Any] = {}
        field = target.key_field
        if field is not None and field not in request.extra:
            key = cache_key(request, self.key)
            if key is not None:
                added[field] = key
        field = target.retention_field
        free = field is not None and not request.extra.keys() & {field, *_INSTEAD}
        if field is not None and free and self.retention is not None:
            added[field] = self.retention
        if not added:
            return request
        request.context.note("prompt_cache", "prompt_cache.keyed", fields=tuple(added))
        return request.evolve(extra={**request.extra, **added})
