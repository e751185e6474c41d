"""Affinity: what belongs together goes to the same target.

A conversation that stays where it was finds the provider's prompt cache warm. Each key ranks all
targets by a hash of the two (rendezvous hashing), so that a target which leaves or comes moves only
the keys that were, or will be, its own, and no table has to be kept or shared between processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias, cast

import attrs

from lamella import (
    ChatRequest,
    ConfigurationError,
    Context,
    Message,
    Opaque,
    Request,
    Text,
    Tool,
)
from lamella._options import is_async, is_number, refused, whole
from lamella._structuring import build_option
from lamella_middlewares.route._policies import Candidate

By: TypeAlias = Literal["session", "user", "tenant", "prompt"]
WORDS: Final = ("session", "user", "tenant", "prompt")

PREFIX: Final = 8_192
"""Characters of each message that count. Providers look at less to find a warm prefix."""

PROMPT_LOAD: Final = 2.0

_BITS: Final = 53
"""What a float holds exactly."""


def _by(affinity: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if callable(value):
        if is_async(value):
            raise refused(affinity, option, value, "a plain function of the request")
    elif value not in WORDS:
        want = f"one of {', '.join(map(repr, WORDS))}, or a function of the request"
        raise refused(affinity, option, value, want)


def _load(affinity: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or value < 1):
        raise refused(affinity, option, value, "a number, 1 or more, or None for no bound")


def _usual_load(affinity: Any) -> float | None:
    return PROMPT_LOAD if affinity.by == "prompt" else None


@attrs.frozen
class Affinity:
    """What belongs together, and for how long it stays.

    Args:
        by: `session`, `user` or `tenant` of the context; `prompt`: the stable beginning of the
            request (model, tools, instructions and the first messages); or a plain function of the
            request that gives text, or None for none.
        ranks: Among how many targets a key stays, 1 or more: its own, and those it goes to while
            that one cannot take it. Beyond them the policy chooses.
        load: A target takes no more than so many times the mean of calls in flight for the sake of
            affinity, 1 or more; then the key's next one is asked. None sets no bound. Usually None,
            and 2 for `prompt`, where all traffic may have one beginning.
        messages: For `prompt`, how many messages after the instructions count, 0 or more. With 1, a
            conversation stays together; with 0, all that share their instructions do.
    """

    by: By | Callable[[Request[Any]], str | None] = attrs.field(default="session", validator=_by)
    ranks: int = attrs.field(default=2, validator=whole(1))
    load: float | None = attrs.field(
        default=attrs.Factory(_usual_load, takes_self=True), validator=_load
    )
    messages: int = attrs.field(default=1, validator=whole(0))

    @property
    def word(self) -> str:
        """What it goes by, as a word for the trace."""
        return self.by if isinstance(self.by, str) else "affinity"

    def key(self, request: Request[Any]) -> str | None:
        """What a request belongs to; None if to nothing. Empty text is nothing."""
        if callable(self.by):
            return _text(self.by(request)) or None
        if self.by == "prompt":
            return prompt_key(request, self.messages)
        return owner(request.context, self.by)

    def ranked(
        self, key: str, tenant: str | None, names: Sequence[str], weights: Mapping[str, float]
    ) -> list[str]:
        """The targets in the order in which they get a key, its own first.

        Args:
            key: What the request belongs to.
            tenant: Whose it is: another's session of the same name is another one.
            names: All targets that could take the request, were they well.
            weights: How many keys each gets, above 0.
        """
        rest = _framed("" if tenant is None else str(tenant)) + _framed(key)

        def distance(name: str) -> float:
            # The least one wins; a target of twice the weight wins twice as many keys. The
            # logarithm of a uniform number over the weight is the first of that many exponential
            # ones, so that a change of one weight moves keys only from or to that target.
            return -math.log1p(-_fraction(_framed(name) + rest)) / weights[name]

        return sorted(names, key=distance)

    def choose(self, ranked: Sequence[str], fit: Sequence[Candidate]) -> Candidate | None:
        """The target that a key goes to; None if neither its own nor its next ones can take it.

        Args:
            ranked: The targets as `ranked` has them.
            fit: Those of them that can take the request now.
        """
        able = {one.name: one for one in fit}
        most = math.inf  # calls in flight for each unit of weight
        if self.load is not None and fit:
            flying = sum([one.in_flight for one in fit]) + 1
            most = self.load * flying / sum([one.weight for one in fit])
        for name in ranked[: self.ranks]:
            one = able.get(name)
            if one is not None and one.in_flight < most * one.weight:
                return one
        return None


def _text(said: Any) -> str | None:
    if said is not None and not isinstance(said, str):
        kind = type(said).__name__
        raise TypeError(f"Affinity(by=...) returned {kind}: it gives text, or None.")
    return said


def owner(context: Context, key: str) -> str | None:
    """Whose a call is, by `session`, `user` or `tenant`; None where that is not said, or empty."""
    found: object = getattr(context, key)
    # Somebody's ids are numbers: the same one is the same user nevertheless.
    return None if found is None or found == "" else str(found)


def fraction(*texts: str) -> float:
    """A number from 0 to below 1, the same for the same texts in every process and release."""
    return _fraction(b"".join([_framed(text) for text in texts]))


def _framed(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    # With its length, so that ("ab", "c") is not ("a", "bc").
    return len(data).to_bytes(8, "big") + data


def _fraction(data: bytes) -> float:
    digest = blake2b(data, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / (1 << _BITS)


def prompt_key(request: Request[Any], count: int) -> str | None:
    """The stable beginning of a conversation, as text; None of other operations.

    Args:
        request: The request.
        count: How many messages after the instructions count.
    """
    seen: object = request
    if not isinstance(seen, ChatRequest):
        return None
    texts = [seen.model or ""]
    texts += [tool.name if isinstance(tool, Tool) else _shortened(tool.data) for tool in seen.tools]
    left = count
    for message in seen.messages:
        if message.role not in {"system", "developer"}:
            if left == 0:
                break
            left -= 1
        texts += message.role, _beginning(message)
    return "\0".join(texts)


def _beginning(message: Message) -> str:
    parts: list[str] = []
    for part in message.parts:
        if isinstance(part, Text):
            parts.append(part.text[:PREFIX])
        elif isinstance(part, Opaque):
            parts.append(_shortened(part.data))
        else:
            # Of pictures and sound the size will do: equal beginnings have equal sizes.
            content = getattr(part, "data", None) or getattr(part, "text", None) or ""
            address = getattr(part, "url", None) or getattr(part, "id", None) or ""
            parts.append(f"{part.type}:{len(content)}:{str(address)[:PREFIX]}")
    return "\0".join(parts)


def _shortened(data: Mapping[str, Any]) -> str:
    """Nested data as text; a picture of megabytes in it is not looked at as a whole."""

    def short(value: Any) -> Any:
        if isinstance(value, str):
            return value[:PREFIX]
        if isinstance(value, Mapping):
            return {key: short(item) for key, item in cast("Mapping[str, Any]", value).items()}
        if isinstance(value, list | tuple):
            return [short(item) for item in cast("Sequence[Any]", value)[:PREFIX]]
        return value

    return str(short(data))[:PREFIX]


def affinity_of(given: Any) -> Affinity | None:
    """The affinity that an option asks for: a word, a function, a table, or an `Affinity`.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if given is None or isinstance(given, Affinity):
        return given
    if isinstance(given, Mapping):
        return build_option("affinity", Affinity, cast("Any", given))
    if (isinstance(given, str) and given in WORDS) or callable(given):
        return Affinity(cast("Any", given))
    raise ConfigurationError(
        f"Route(affinity={given!r}): give one of {', '.join(map(repr, WORDS))}, a function of the "
        "request, a table such as {'by': 'session', 'ranks': 3}, or an Affinity."
    )
