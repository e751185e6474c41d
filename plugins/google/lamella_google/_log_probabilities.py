"""Log probabilities of an answer, token by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella.transports._wire_json import objects_of


def tokens_of(given: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The tokens of a `logprobsResult` as they stand, each with what it was chosen among."""
    others = objects_of(given, "topCandidates")
    return tuple(
        [
            {**token, "topCandidates": others[at].get("candidates")} if at < len(others) else token
            for at, token in enumerate(objects_of(given, "chosenCandidates"))
        ]
    )
