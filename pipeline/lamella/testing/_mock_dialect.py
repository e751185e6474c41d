"""What the mock server needs of an API: which addresses are its own, and how it answers there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import attrs

from lamella._mock_answers import Answer
from lamella._mock_rejections import Rejection
from lamella.testing._http_framing import Reply
from lamella.testing._http_wire import Received
from lamella.testing._mock_batches import MockBatches
from lamella.testing._mock_faults import MockFaults


@attrs.frozen(kw_only=True)
class MockSettings:
    """What all APIs of one server have in common.

    Attributes:
        keys: The keys that are accepted; empty accepts everybody.
        models: The models that there are; None accepts any name.
        answer: Asked first for what to say.
        latency_per_token: Seconds before each token but the first.
        reasoning_field: Where OpenAI's chat API puts reasoning; None leaves it out.
        batches: How OpenAI's batches go.
    """

    keys: Collection[str] = attrs.field(default=(), repr=False)
    models: Collection[str] | None = None
    answer: Answer | None = None
    latency_per_token: float = 0.0
    reasoning_field: str | None = "reasoning_content"
    batches: MockBatches = attrs.field(factory=MockBatches)


@attrs.frozen(kw_only=True)
class Asked:
    """One request to be answered.

    Attributes:
        received: As it came.
        body: Its body read as JSON; None if it has none, or it is not JSON.
        model: The model that it names, without what is to go wrong; empty if it names none.
        faults: What goes wrong with its answer.
    """

    received: Received
    body: Any
    model: str
    faults: MockFaults

    @property
    def number(self) -> int:
        """Which request of the server it is, from 0."""
        return self.received.index


class MockDialect(Protocol):
    """One provider's API on the mock server. It is made for a server, from its `MockSettings`.

    What is wrong with a request is raised as `Rejection`, in OpenAI's codes, by whoever finds out;
    `refusal` puts it into the API's own form.
    """

    def speaks(self, received: Received) -> bool:
        """Whether a request is for this API, by its path and headers; its body is not there yet."""
        ...

    def model(self, received: Received, body: Any) -> str | None:
        """The model that a request names, in its path or body, as it stands there."""
        ...

    def answer(self, asked: Asked) -> tuple[Reply, float]:
        """The answer to a request, and the seconds that its making takes besides the latency.

        Faults of events are worked into it; those of bytes are in its `faults`. Keys are checked
        here, and whether there is such an address, method and model.

        Raises:
            Rejection: If a provider would not accept the request.
        """
        ...

    def refusal(self, rejection: Rejection, received: Received) -> Reply:
        """The answer to a request that is not accepted; an empty message means the usual one."""
        ...

    def headers(self, received: Received) -> tuple[tuple[str, str], ...]:
        """Headers of every answer: the request's id, limits."""
        ...
