"""The two providers of a failover scenario, and the transports that talk to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._mock_rejections import Rejection
from lamella.testing._failover import PRIMARY, SECONDARY, FailoverScenario
from lamella.testing._mock_server import MockServer
from lamella.transports import OpenAI, OpenAIOptions

if TYPE_CHECKING:
    from lamella._chat import ChatRequest


def providers(scenario: FailoverScenario) -> tuple[MockServer, MockServer]:
    """The first provider, which fails as the scenario says, and the second."""

    def second(request: ChatRequest) -> str:
        refuses = scenario.refuses
        if refuses is not None and refuses([message.role for message in request.messages]):
            raise Rejection(400, "unsupported_value", "Prefilled answers are not supported.")
        return SECONDARY

    faults = scenario.primary
    first = MockServer(faults=faults if isinstance(faults, str) else faults(), answer=_primary)
    return first, MockServer(answer=second)


def _primary(_: ChatRequest) -> str:
    return PRIMARY


def openai_target(server: MockServer, name: str) -> OpenAI:
    """A transport to one of them; what is known of OpenAI's models is known of theirs."""
    options = OpenAIOptions(name=name, card_provider="openai")
    return OpenAI("unused", base_url=server.url, options=options)
