"""A pipeline with PII around a script, and what is looked at in its tests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from lamella import ChatRequest, Finding, Pipeline, Ports, Request, Response
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.pii import PII

KEY = "0123456789abcdef-of-the-tests"
EMAIL = "ada@example.com"
CARD = "4111 1111 1111 1111"
TOKEN = re.compile("⟦[A-Z_]+_[0-9A-Z]+⟧")


class Codes:
    """Finds `ID-` and four to six digits."""

    kinds = ("code",)
    reach = 12
    _form = re.compile(r"(?<![\w-])ID-\d{4,6}(?!\d)")

    def find(self, text: str, /) -> Iterable[Finding]:
        return [Finding(*found.span(), "code") for found in self._form.finditer(text)]


class Broken:
    """Fails on texts with a certain word, quoting them."""

    kinds = ("broken",)
    reach = 10
    name = "brittle"

    def find(self, text: str, /) -> Iterable[Finding]:
        if "boom" in text:
            raise RuntimeError(f"cannot read {text!r}")
        return ()


def pii(**options: Any) -> PII:
    """The layer with two built-in kinds, and codes."""
    given = {"kinds": ["email", "card"], "detectors": [Codes()], **options}
    return PII(given.pop("kinds"), **given)


def stack(
    *script: Any, layer: PII | None = None, ports: Ports | None = None, **options: Any
) -> tuple[Pipeline, Any]:
    """A pipeline with the layer around a script, which is what it returns beside it."""
    transport = Scripted(script or [echo], repeat=True)
    made = layer or pii(**options)
    return Pipeline([made], transport, ports=ports or virtual_ports()), transport


def echo(request: Any) -> str:
    """Answer with what was asked."""
    return "You said: " + " | ".join(message.text for message in request.messages)


async def ask(pipeline: Pipeline, request: Request[Any] | str, *, stream: bool = False) -> Any:
    """The complete response, run or streamed."""
    asked = ChatRequest.of(request, model="m") if isinstance(request, str) else request
    if not stream:
        return await pipeline.run(asked)
    async with pipeline.stream(asked) as response:
        return await response.collect()


def sent(transport: Any, index: int = -1) -> str:
    """All of a request as it left, written out."""
    return repr(transport.requests[index])


def noted(response: Response, name: str) -> list[dict[str, Any]]:
    """The fields of the notes of that name."""
    return [dict(note.fields) for note in response.trace.notes if note.name == name]
