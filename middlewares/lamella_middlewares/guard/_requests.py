"""Requests before the rules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from lamella import Request, Surface, map_texts, request_key
from lamella_middlewares.guard._approvals import agree
from lamella_middlewares.guard._lanes import Place, Question, Stage
from lamella_middlewares.guard._rules import Inspection, Review, Rule, inspects, reviews
from lamella_middlewares.guard._scene import Scene
from lamella_middlewares.guard._verdicts import Verdict


async def guard_request(scene: Scene, rules: Sequence[Rule]) -> Request[Any]:
    """The request as the rules let it pass.

    They are asked in order, and each sees what those before have left. A block ends it; whoever has
    to agree is asked once no rule has blocked.
    """
    questions: list[Question] = []
    for reviewing, group in groupby(rules, key=reviews):
        if reviewing:
            for rule in group:
                await _review(scene, rule, questions)
                if inspects(rule):
                    await _inspect(scene, [rule], questions)
        else:
            await _inspect(scene, list(group), questions)
    for question in questions:
        await agree(scene, question)
    return scene.request


async def _review(scene: Scene, rule: Rule, questions: list[Question]) -> None:
    review = Review(scene.request, scene)
    verdict = await scene.review(rule, review)
    if verdict is None:
        return
    if verdict.kind == "block":
        raise scene.blocked(rule, verdict, "in")
    if verdict.kind == "ask":
        questions.append(_about_all(scene, rule, verdict))
    elif verdict.request is not None:
        scene.note("changed", rule, verdict, "in")
        scene.request = verdict.request


async def _inspect(scene: Scene, rules: Sequence[Rule], questions: list[Question]) -> None:
    found: list[tuple[str, Surface]] = []

    def collect(text: str, surface: Surface) -> str:
        found.append((text, surface))
        return text

    request = scene.request
    map_texts(request, collect)
    made: list[str] = []
    changed = False
    everywhere = all(rule.roles is None for rule in rules)
    for text, surface in found:
        here = rules if everywhere else [rule for rule in rules if _concerns(rule, surface)]
        new = text
        inspection: Inspection | None = None
        for rule in here:
            if inspection is None:
                inspection = Inspection(
                    new,
                    0,
                    0,
                    final=True,
                    direction="in",
                    surface=surface,
                    channel=None,
                    scene=scene,
                )
            verdict = await scene.judge(rule, inspection)
            if verdict is None or verdict.kind == "allow":
                continue
            stage = Stage(rule, Place(scene, "in", surface))
            new, _ = stage.let_through(verdict, inspection)
            inspection = None
            if stage.asking is not None:
                questions.append(Question(rule, verdict, text, "in"))
        changed = changed or new != text
        made.append(new)
    if changed:
        left = iter(made)
        scene.request = map_texts(request, lambda _, __: next(left))


def _concerns(rule: Rule, surface: Surface) -> bool:
    return rule.roles is None or surface.role in rule.roles


def _about_all(scene: Scene, rule: Rule, verdict: Verdict) -> Question:
    """A question about the request with all that it holds: pictures, tools and numbers too."""
    found: list[str] = []

    def collect(text: str, _: Surface) -> str:
        found.append(text)
        return text

    map_texts(scene.request, collect)
    try:
        whole = request_key(scene.request)
    except TypeError:
        why = "it asks about a request that has no key (request_key says why)"
        raise scene.broken(rule, why, "in") from None
    return Question(rule, verdict, "\n".join(found), "in", whole)
