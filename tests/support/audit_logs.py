"""Audit logs that tests make: by a layer around a script, with keys that are the same each time."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from audit_disks import good, segments

from lamella import ChatRequest, Context, Handler, Pipeline, Ports, Secret
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.audit import Audit, Heads
from lamella_middlewares.audit._keys import Signer

KEY = Secret.of_value("the key of the digests " * 2)
SEAL = Secret.of_value("the key of the keys " * 2)


def signing(letter: str) -> str:
    """A private key for signing."""
    return base64.b64encode(letter.encode() * 32).decode("ascii")


def signer(letter: str) -> Secret:
    """The secret that holds it."""
    return Secret.of_value(signing(letter))


def public(letter: str) -> str:
    """Its public key."""
    return Signer.of(signing(letter)).public


def ask(text: str = "My name is Ada.", **context: Any) -> ChatRequest:
    """A question of Ada's, of the tenant acme."""
    who = {"tenant": "acme", "user": "ada", "session": "s1", **context}
    return ChatRequest.of(text, model="m", context=Context(**who))


def pipeline(
    directory: Path,
    script: Any = ("Hello.",),
    *,
    ports: Ports | None = None,
    inside: tuple[Any, ...] = (),
    transport: Handler | None = None,
    **options: Any,
) -> Pipeline:
    """A pipeline with an audit log in a directory, around a script that repeats itself."""
    options = {"key": KEY, "fsync": "none", **options}
    return Pipeline(
        [Audit(directory, **options), *inside],
        transport or Scripted(list(script), repeat=True),
        ports=ports or virtual_ports(),
    )


def records(directory: Path, *kinds: str) -> list[dict[str, Any]]:
    """The records of all segments, of some kinds or of all; the segments must be good."""
    found = [record for path in segments(directory) for record in good(path)]
    return [record for record in found if not kinds or record["kind"] in kinds]


def heads_in(path: Path) -> list[dict[str, Any]]:
    """The heads that a file was given."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def written(
    directory: Path, calls: int = 6, *, sink: Path | None = None, **options: Any
) -> list[dict[str, Any]]:
    """Write a log of some calls with a head every 4 records, close it; the heads of its sink."""
    heads = Heads(every=4, sinks=[] if sink is None else [sink])
    async with pipeline(directory, heads=heads, **options) as line:
        for number in range(calls):
            await line.run(ask(f"question {number}"))
    return [] if sink is None else heads_in(sink)
