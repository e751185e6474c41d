"""What comes with an answer besides its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from lamella._making import unfrozen
from lamella._nothing import NOTHING

if TYPE_CHECKING:
    from lamella._money import Money


@attrs.frozen
class Head:
    """What is known of an answer besides its events.

    Attributes:
        model: The model that the provider says answered.
        provider: Which transport it came through.
        request_id: The provider's id of the request.
        id: The provider's id of the answer.
        status: The HTTP status; None where there was no HTTP.
        headers: The headers that the library understands, with lower-case names: request ids, rate
            limits, processing times.
        raw: The provider's answer as it came, where it was not streamed.
        cached: Whether it was replayed rather than paid for.
        service: The class of service that the provider says it used, which is what it bills; None
            where it does not say, or has not said so by the first event of a stream.
        cost: What the provider itself says that it costs; None where it does not say.
    """

    model: str | None = None
    provider: str | None = None
    request_id: str | None = None
    id: str | None = None
    status: int | None = None
    headers: Mapping[str, str] = attrs.field(default=NOTHING, repr=False)
    raw: bytes | None = attrs.field(default=None, repr=False)
    cached: bool = False
    service: str | None = None
    cost: Money | None = None

    def through(self, provider: str) -> Head:
        """The same of an answer that came through another transport.

        `attrs.evolve` would do; this is in the way of every call, and takes a fifth of the time.
        """
        new = object.__new__(_Head)
        new.model = self.model
        new.provider = provider
        new.request_id = self.request_id
        new.id = self.id
        new.status = self.status
        new.headers = self.headers
        new.raw = self.raw
        new.cached = self.cached
        new.service = self.service
        new.cost = self.cost
        new.__class__ = Head
        return new  # type: ignore[no-any-return]


def bare(head: Head, *, cached: bool) -> Head:
    """What a head says of an answer wherever it is given: not what it cost, nor how it came.

    Args:
        head: Of the answer as it came.
        cached: What to say of it: whether it is replayed.
    """
    new = object.__new__(_Head)
    new.model = head.model
    new.provider = head.provider
    new.request_id = head.request_id
    new.id = head.id
    new.status = head.status
    new.headers = NOTHING
    new.raw = new.service = new.cost = None
    new.cached = cached
    new.__class__ = Head
    return new  # type: ignore[no-any-return]


def learned_head(model: str | None, id: str | None, raw: bytes, service: str | None) -> Head:
    """What a complete answer says of itself; who read it says by what way it came."""
    new = object.__new__(_Head)
    new.model = model
    new.provider = new.request_id = None
    new.id = id
    new.status = None
    new.headers = NOTHING
    new.raw = raw
    new.cached = False
    new.service = service
    new.cost = None
    new.__class__ = Head
    return new  # type: ignore[no-any-return]


_Head = unfrozen(Head)
NO_HEAD = Head()
