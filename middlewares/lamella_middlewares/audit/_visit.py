"""One request on its way: an intent before it goes on, an outcome when it has ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lamella import (
    AuditError,
    ConfigurationError,
    Ending,
    Handler,
    LamellaError,
    Request,
    Response,
)
from lamella_middlewares.audit._keeper import Keeper
from lamella_middlewares.audit._payload import (
    Fields,
    Start,
    answer_content,
    content_fields,
    identity_of,
    intent_of,
    length_of,
    outcome_of,
    plain,
    tool_names,
)
from lamella_middlewares.audit._queue import Entry
from lamella_middlewares.audit._record import canonical

if TYPE_CHECKING:
    from lamella_middlewares.audit._middleware import Audit

R = TypeVar("R", bound=Response)

IN_THREAD: Final = 256 * 1024
"""Characters and bytes of content above which its digest is made in a thread."""

_UNWRITTEN: Final = (AuditError, ConfigurationError, OSError, TypeError, ValueError)
"""What keeps a record from being written: the disk, a secret, or content without a form."""


class Visit:
    """One request on its way. As a handler it writes the intent, and remembers the answer."""

    __slots__ = (
        "__name__", "_audit", "_call_next", "_entry", "_keeper", "_passed", "_request",
        "_response", "_start", "_who",
    )  # fmt: skip

    def __init__(
        self, audit: Audit, keeper: Keeper, request: Request[Any], call_next: Handler
    ) -> None:
        self.__name__ = getattr(call_next, "__name__", "transport")
        self._audit = audit
        self._keeper = keeper
        self._request = request
        self._call_next = call_next
        self._entry: Entry | None = None
        self._passed = False
        self._response: Response | None = None
        self._start = Start.of(request.context.trace)
        self._who: Fields = {}

    async def __call__(self, request: Request[R], /) -> R:
        context = request.context
        try:
            await context.wait(self._intend, what="waiting for the audit log")
        except _UNWRITTEN as error:
            self._entry = None
            if self._audit.on_failure == "refuse":
                raise _refusal(error) from error
            self._passed = True
            self._who = self._who or self._whoever()
            self._keeper.debts.missed(context)
            context.note("audit", "audit.intent_lost", error=type(error).__name__)
        response = await self._call_next(request)
        self._response = response
        return response

    async def ended(self, end: Ending) -> None:
        """Write the outcome of what has an intent, or was let pass without."""
        if self._entry is None and not self._passed:
            return
        context, keeper = self._request.context, self._keeper
        fields = outcome_of(self._request, self._response, end, self._start, self._who)
        if not await keeper.finish(context, fields, partial(self._completed, end)):
            context.note("audit", "audit.outcome_late")

    def _whoever(self) -> Fields:
        """Who asks, where the digest key is not at hand: names are not written without it."""
        if self._audit.identities == "plain":
            return identity_of(self._request.context, None)
        return dict.fromkeys(("tenant", "user", "session"))

    # --- what is written ---------------------------------------------------------------------

    async def _intend(self) -> None:
        audit, keeper, request = self._audit, self._keeper, self._request
        context = request.context
        await keeper.prepare(context.ports)
        self._who = identity_of(context, keeper.digests if audit.identities == "digest" else None)
        fields = intent_of(request, self._call_next, self._who)
        if audit.content != "none":
            try:
                fields.update(await self._content("request", list(content_fields(request))))
            except _UNWRITTEN as error:
                if audit.on_failure == "refuse":
                    raise
                context.note("audit", "audit.content_lost", error=type(error).__name__)
        self._entry = keeper.enter(context, "intent", fields)
        await keeper.durable(context, self._entry)

    async def _completed(self, end: Ending, fields: Fields) -> None:
        """Add to an outcome what is known of its intent and its answer."""
        if self._entry is not None:
            position = await self._entry.durable()
            if position is not None:
                fields["intent"] = {"segment": position.segment, "seq": position.seq}
        answer = self._answer(end)
        if answer is None:
            return
        names = tool_names(answer)
        if names:
            fields["tools"] = names
        if self._audit.content != "none":
            try:
                fields.update(await self._content("answer", answer_content(answer)))
            except _UNWRITTEN as error:
                context = self._request.context
                context.note("audit", "audit.content_lost", error=type(error).__name__)

    def _answer(self, end: Ending) -> Any:
        """What there is of an answer, however it ended."""
        response = self._response
        if response is not None:
            return response.answer if response.complete else response.partial
        return end.error.partial if isinstance(end.error, LamellaError) else None

    async def _content(self, what: str, content: Sequence[tuple[str, Any]]) -> Fields:
        """What is written of content: sealed, if that was asked for and can be, or its digests."""
        if self._audit.content == "sealed":
            sealed, why = await self._sealed(what, content)
            if sealed is not None:
                return {f"{what}_sealed": sealed}
            found: Fields = {"unsealed": why}
        else:
            found = {}
        keeper, ports = self._keeper, self._request.context.ports
        digests = keeper.digests
        if digests is None or not content:
            return found
        made: dict[str, str] = {}
        for field, value in content:
            args = (self._request.context.tenant, field, value)
            long = length_of(value) > IN_THREAD
            make = digests.content
            made[field] = await ports.thread(make, *args) if long else make(*args)
        return {**found, f"{what}_digests": made, "digest_key": digests.id}

    async def _sealed(
        self, what: str, content: Sequence[tuple[str, Any]]
    ) -> tuple[dict[str, str] | None, str]:
        """Content sealed for its subject, or why it is not."""
        envelopes, context = self._keeper.envelopes, self._request.context
        subject = self._subject()
        if envelopes is None or subject is None:
            return None, "nobody can be named whom it is about"
        data = json.dumps(plain(dict(content)), ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(data) > self._audit.max_content:
            return None, f"it has {len(data)} bytes"
        tag = envelopes.tag(context.tenant, subject)
        bound = bound_to(self._keeper.log_id, what, context.call_id, context.branch)
        return await envelopes.seal(context.ports, tag, data, bound), ""

    def _subject(self) -> str | None:
        try:
            return self._audit.subjects(self._request)
        except Exception as error:
            msg = f"Audit(subjects=...) failed with {type(error).__name__}."
            raise AuditError(
                msg, hint="It names whom a request is about, or gives None."
            ) from error


def bound_to(log: str | None, what: str, call: str, branch: str) -> bytes:
    """What sealed content is bound to: moved to another record, it cannot be opened."""
    return canonical(["lamella-audit-sealed-1", log, what, call, branch])


def _refusal(error: Exception) -> AuditError:
    why, hint = f"{type(error).__name__}: {error}", None
    if isinstance(error, LamellaError):
        why, hint = error.message, error.hint
    return AuditError(
        f"Audit refuses the request, because its intent cannot be written down: {why}",
        hint=hint or "See why, or accept gaps with Audit(on_failure='pass').",
        layer="audit",
        code="audit",
    )
