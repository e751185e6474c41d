"""Who has to agree before a call of a tool is run, and whether somebody has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Any, Final, cast

import attrs

from lamella import ApprovalRequired, Context, Outcome, ToolCall

GIVEN: Final = "approvals"
"""Under which attribute of the context the ids stand that somebody has agreed to."""


@attrs.define(eq=False)
class Approvals:
    """What somebody has agreed to, for one answer. Each agreement is good for one call.

    Args:
        context: Of the request.
    """

    context: Context
    used: set[str] = attrs.field(factory=set[str])

    def take(self, call: ToolCall) -> bool:
        """Whether somebody has agreed to this call, which is then used up."""
        found = self.id_of(call)
        if found in self.used or found not in self._given():
            return False
        self.used.add(found)
        return True

    def given(self, call: ToolCall) -> bool:
        """Whether somebody has agreed to this call and it was not run yet."""
        found = self.id_of(call)
        return found not in self.used and found in self._given()

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

    def _given(self) -> Collection[str]:
        given: object = self.context.attributes.get(GIVEN) or ()
        # A text is one id: as a collection, any part of it would be in it.
        return (given,) if isinstance(given, str) else cast("Collection[str]", given)


def not_approved(calls: Mapping[str, ToolCall]) -> ApprovalRequired:
    """The error of calls that somebody has to agree to, by the id of each question."""
    names = sorted({call.name for call in calls.values()})
    error = ApprovalRequired(
        f"The model asks for what has to be approved first: {', '.join(names)}. Nothing of its "
        "message was run.",
        hint="Ask somebody. Then resume(approvals=error.calls) of a Conversation goes on; without "
        "one, run the request again with `error.partial.messages` behind its own and "
        "Context(attributes={'approvals': [...]}) with the ids in `error.calls`.",
        layer="tools",
        outcome=Outcome.FAILED,
    )
    fields: Any = {"rule": "tools", "approval_id": next(iter(calls)), "calls": dict(calls)}
    for name, value in fields.items():
        setattr(error, name, value)
    return error
