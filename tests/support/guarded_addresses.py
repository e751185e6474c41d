"""What tests of the rule `addresses` share: names that lead somewhere, requests, a pipeline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs

from lamella import (
    BlockedError,
    ChatRequest,
    Image,
    Message,
    Pipeline,
    Text,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.guard import Guard, addresses

PUBLIC = "93.184.216.34"
PNG = b"\x89PNG\r\n\x1a\n picture"
LOOPBACK = ("127.0.0.0/8",)
"""What tests allow expressly, as their servers are there."""


@attrs.frozen
class Later:
    """An answer that has to be waited for."""

    function: Callable[[], Awaitable[Any]]

    def __call__(self) -> Awaitable[Any]:
        return self.function()


class Names:
    """A resolver with a table: each name has answers for the first look, the second ..."""

    def __init__(self, table: Mapping[str, Sequence[Any]]) -> None:
        self.table: dict[str, list[Any]] = {name: list(answers) for name, answers in table.items()}
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        answers = self.table.get(host)
        if not answers:
            raise OSError(-2, "Name or service not known")
        answer: Any = answers.pop(0) if len(answers) > 1 else answers[0]
        return list(await answer() if isinstance(answer, Later) else answer)


def names(**table: Any) -> Names:
    """A resolver of names under example.com, each always with the same answer."""
    return Names({f"{name}.example.com": [answer] for name, answer in table.items()})


HERE = ["127.0.0.1"]
PUBLIC_NAMES = {"images.example.com": [[PUBLIC]]}


def pipe(
    *rules: Any, transport: Any = None, resolve: Any = None, **options: Any
) -> tuple[Pipeline, Any]:
    """A guarded pipeline and its transport, with a resolver of its own."""
    transport = transport or Scripted(["ok"], repeat=True)
    ports = attrs.evolve(virtual_ports(), resolve=resolve or Names(PUBLIC_NAMES))
    return Pipeline([Guard(list(rules), **options)], transport, ports=ports), transport


def showing(*media: Any) -> ChatRequest:
    """A question about pictures or documents, given as parts or as addresses of pictures."""
    parts = [Image(url=one) if isinstance(one, str) else one for one in media]
    return ChatRequest.of([Message.user([Text("What is this?"), *parts])], model="m")


async def refusal(url: str, rule: Any = None, resolve: Any = None) -> str:
    """Why a picture at an address is blocked; empty if it passes."""
    pipeline, transport = pipe(rule or addresses(schemes=["http", "https"]), resolve=resolve)
    blocked: BlockedError | None = None
    try:
        await pipeline.run(showing(url))
    except BlockedError as error:
        blocked = error
    assert len(transport.requests) == (blocked is None)
    if blocked is None:
        return ""
    assert blocked.rule == "addresses"
    assert not url or url not in str(blocked)
    return str(blocked).partition(": ")[2].partition(" ")[0]
