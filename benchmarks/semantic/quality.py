"""How often a similar question is found, and how often the wrong one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio

from benchmarks.semantic.questions import Asked, asked, kept
from lamella import MemoryVectors
from lamella._mock_vectors import embed
from lamella_middlewares.semantic_cache import different_facts
from lamella_middlewares.semantic_cache._visit import CANDIDATES

Embed = Callable[[str], Sequence[float]]

THRESHOLDS: Final = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)


def hashed(text: str) -> Sequence[float]:
    """The vector that the embedded provider gives a text: words and pieces of words, hashed."""
    return embed(text)


def quality(make: Embed = hashed, thresholds: Sequence[float] = THRESHOLDS) -> list[dict[str, Any]]:
    """A row of figures for each threshold, with the check of facts and without."""
    return anyio.run(_quality, make, thresholds)


async def _quality(make: Embed, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    index = MemoryVectors()
    there = {str(number): question for number, question in enumerate(kept())}
    for key, question in there.items():
        await index.add("all", key, make(question.text))
    questions = list(asked())
    vectors = [make(question.text) for question in questions]
    rows: list[dict[str, Any]] = []
    for threshold in thresholds:
        near = [
            [
                there[one.key]
                for one in await index.nearest("all", vector, count=CANDIDATES, at_least=threshold)
            ]
            for vector in vectors
        ]
        rows.append(
            {
                "threshold": threshold,
                **_rates(questions, near, facts=False, name="without the check"),
                **_rates(questions, near, facts=True, name="with it"),
            }
        )
    return rows


def _rates(
    questions: Sequence[Asked], near: Sequence[Sequence[Asked]], *, facts: bool, name: str
) -> dict[str, Any]:
    """The share of paraphrases that are answered rightly, and of all questions that are wrongly."""
    right = wrong = paraphrases = 0
    for question, candidates in zip(questions, near, strict=True):
        paraphrases += question.kind == "paraphrase"
        for one in candidates:
            if facts and different_facts(one.text, question.text):
                continue
            right += one.meaning == question.meaning
            wrong += one.meaning != question.meaning
            break
    return {
        f"hits, {name}": round(right / paraphrases, 4),
        f"false hits, {name}": round(wrong / len(questions), 4),
    }


def counts() -> dict[str, int]:
    """How many questions there are of each kind."""
    kinds = [question.kind for question in asked()]
    return {"kept": len(kept()), **{kind: kinds.count(kind) for kind in sorted(set(kinds))}}
