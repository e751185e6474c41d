"""Who has to agree before a call of a tool is run, and what somebody has decided."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Any, cast

import attrs

from lamella import ApprovalRequired, Context, MisuseError, Outcome, ToolCall
from lamella._decisions import APPROVED, DECLINED, declined_words, must_be_either


def must_be_decisions(context: Context) -> None:
    """See that what somebody has declined can be told from what he has agreed to.

    Raises:
        MisuseError: If it cannot.
    """
    if not context.attributes.get(DECLINED):
        return
    try:
        must_be_either(_approved(context), _declined(context))
    except (MisuseError, TypeError) as error:
        hint = "Context(attributes={'approvals': [id], 'declined': {id: 'words for the model'}})"
        raise MisuseError(f"Tools: {error}", hint=hint, layer="tools") from None


def _approved(context: Context) -> Collection[str]:
    given: object = context.attributes.get(APPROVED) or ()
    # A text is one id: as a collection, any part of it would be in it.
    return (given,) if isinstance(given, str) else cast("Collection[str]", given)


def _declined(context: Context) -> Mapping[str, str]:
    given: Any = context.attributes.get(DECLINED) or ()
    return declined_words((given,) if isinstance(given, str) else given)


@attrs.define(eq=False)
class Approvals:
    """What somebody has decided, for one answer. Each decision is good for one call.

    Args:
        context: Of the request.
    """

    context: Context
    used: set[str] = attrs.field(factory=set[str])
    declined: Mapping[str, str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.declined = _declined(self.context)

    def take(self, call: ToolCall) -> bool:
        """Whether somebody has agreed to this call, which is then used up."""
        found = self.id_of(call)
        if found in self.used or found not in _approved(self.context):
            return False
        self.used.add(found)
        return True

    def refused(self, call: ToolCall) -> str | None:
        """What to tell the model if somebody has declined this call, which is then used up.

        Empty where nobody has said; None if nobody has declined it.
        """
        if not self.declined:
            return None
        found = self.id_of(call)
        if found in self.used:
            return None
        words = self.declined.get(found)
        if words is not None:
            self.used.add(found)
        return words

    def decided(self, call: ToolCall) -> bool:
        """Whether somebody has agreed to this call or declined it, and it was not answered yet."""
        found = self.id_of(call)
        return found not in self.used and (
            found in self.declined or found in _approved(self.context)
        )

    def id_of(self, call: ToolCall) -> str:
        """What the question is called: a digest of the call and of whose it is."""
        context = self.context
        digest = blake2b(digest_size=16, person=b"lamella-tools-1")
        facts = (
            call.id, call.name, call.arguments, context.tenant, context.user, context.session,
        )  # fmt: skip
        for fact in facts:
            data = b"" if fact is None else b"=" + fact.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()


def not_approved(calls: Mapping[str, ToolCall]) -> ApprovalRequired:
    """The error of calls that somebody has to agree to, by the id of each question."""
    names = sorted({call.name for call in calls.values()})
    error = ApprovalRequired(
        f"The model asks for what has to be approved first: {', '.join(names)}. Nothing of its "
        "message was run.",
        hint="Ask somebody. Then resume(approvals=[...], declined=[...]) of a Conversation goes "
        "on, with the ids in `error.calls`; without one, run the request again with "
        "`error.partial.messages` behind its own and "
        "Context(attributes={'approvals': [...], 'declined': [...]}).",
        layer="tools",
        outcome=Outcome.FAILED,
    )
    fields: Any = {"rule": "tools", "approval_id": next(iter(calls)), "calls": dict(calls)}
    for name, value in fields.items():
        setattr(error, name, value)
    return error
