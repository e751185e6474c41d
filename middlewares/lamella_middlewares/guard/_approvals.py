"""Asking somebody: what is asked, what the question is called, and whether it has been answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, cast

import attrs

from lamella import ClosedError, Context, DeadlineExceeded
from lamella._nothing import NOTHING
from lamella_middlewares.guard._lanes import Question
from lamella_middlewares.guard._refusals import Failure, failure_of, not_approved

if TYPE_CHECKING:
    from lamella_middlewares.guard._scene import Scene


@attrs.frozen
class Approval:
    """What an approver is asked.

    Attributes:
        id: The same for the same question about the same text, or the same request, of the same
            tenant, user and session.
        rule: Which rule asks.
        reason: Why, as a word.
        kinds: Of what kinds it found something.
        direction: `"in"` for a request, `"out"` for an answer.
        tenant: Whose request it is.
        user: The end user.
        session: The conversation.
        preview: The beginning of the text, if the guard was told to show it; otherwise empty.
        numbers: Counts that say more about the reason.
    """

    id: str
    rule: str
    reason: str
    kinds: tuple[str, ...]
    direction: Literal["in", "out"]
    tenant: str | None
    user: str | None
    session: str | None
    preview: str = attrs.field(default="", repr=False)
    numbers: Mapping[str, int] = attrs.field(default=NOTHING, hash=False)


async def agree(scene: Scene, question: Question) -> None:
    """Return if somebody agrees.

    Raises:
        ApprovalRequired: If there is nobody to ask.
        BlockedError: If the approver says no.
        InspectionError: If the approver fails.
    """
    approve = scene.guard.approve
    if approve is None or _is_given(scene, question):
        must_be_given(scene, question)
        return
    scene.note("asked", question.rule, question.verdict, question.direction)
    approval, rule = _approval(scene, question), question.rule
    answer: Any = None
    try:
        answer = await scene.request.context.wait(
            lambda: approve(approval), what="waiting for an approval"
        )
    except (ClosedError, DeadlineExceeded):  # what ends the whole call
        raise
    except Exception as error:  # noqa: BLE001 - it may quote the text
        answer = failure_of(error)
    if answer is True:
        _approved(scene).add(approval.id)
        scene.note("approved", rule, question.verdict, question.direction)
        return
    if answer is not False:
        said = answer.why if type(answer) is Failure else "it gave neither True nor False"
        raise scene.broken(rule, f"the approver failed: {said}", question.direction)
    scene.note("denied", rule, question.verdict, question.direction)
    denied = attrs.evolve(question.verdict, reason="denied")
    raise scene.blocked(rule, denied, question.direction)


def must_be_given(scene: Scene, question: Question) -> None:
    """Return if somebody has agreed.

    Raises:
        ApprovalRequired: Otherwise.
    """
    rule, verdict, direction = question.rule, question.verdict, question.direction
    if _is_given(scene, question):
        scene.note("approved", rule, verdict, direction)
        return
    scene.note("asked", rule, verdict, direction)
    raise not_approved(rule, verdict, direction, _id(scene, question))


def _is_given(scene: Scene, question: Question) -> bool:
    given: object = scene.request.context.attributes.get("approvals", ())
    approvals = () if isinstance(given, str) else cast("Collection[str]", given)
    approved = _approved(scene)
    if not approvals and not approved:
        return False
    found = _id(scene, question)
    return found in approvals or found in approved


def _approved(scene: Scene) -> set[str]:
    """What has been agreed to in this call."""
    return cast("set[str]", scene.kept.setdefault("guard.approved", set()))


def _approval(scene: Scene, question: Question) -> Approval:
    context, verdict = scene.request.context, question.verdict
    return Approval(
        _id(scene, question),
        question.rule.name,
        verdict.reason,
        verdict.kinds,
        question.direction,
        context.tenant,
        context.user,
        context.session,
        question.text[: scene.guard.preview],
        verdict.numbers,
    )


def _id(scene: Scene, question: Question) -> str:
    """What the question is called: a digest of all that it is about.

    It is a name, and no proof that somebody has agreed: whoever is refused is told it. With a key,
    nobody without that key can tell from it whether a text is the one that he guesses.
    """
    context: Context = scene.request.context
    verdict = question.verdict
    facts = (
        question.rule.name, verdict.reason, ",".join(verdict.kinds), question.direction,
        context.tenant, context.user, context.session, question.whole or question.text,
    )  # fmt: skip
    digest = blake2b(digest_size=16, person=b"lamella-guard-1", key=scene.key)
    for fact in facts:
        data = b"" if fact is None else b"=" + fact.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
