"""What was spent: one record for each attempt, and the port of the stores that keep them.

Records are appended and never changed. A record has the id of its attempt, so that one that is
written again, after a crash or a lost answer, counts once.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from lamella._errors import ConfigurationError
from lamella._money import Money
from lamella._nothing import NOTHING
from lamella._usage import Usage

FIELDS: Final = (
    "provider", "model", "operation", "category", "layer", "tenant", "user", "session", "outcome",
    "service", "currency",
)  # fmt: skip
"""The fields of a record by which spend can be told apart, besides tags and times."""

TIMES: Final = ("hour", "day", "week", "month")
"""The spans of the calendar by which it can be told apart. Weeks begin on Monday."""

TAG: Final = "tag:"
"""What comes before the name of a tag."""

MOST_NANO: Final = 2**63 - 1
"""What an integer of a database has room for."""

_UNKEEPABLE: Final = re.compile("[\0\ud800-\udfff]")  # half a character, or an end of the text


def _no_tags() -> Mapping[str, str]:
    return attrs.field(default=NOTHING, hash=False)


@attrs.frozen(kw_only=True)
class SpendRecord:
    """One attempt, and what it has cost.

    Of a text, that it is empty and that it is not there (None) mean the same: none.

    Attributes:
        id: The attempt's: the call's id and the attempt's index in it. Never given twice.
        at: When the attempt ended, in seconds since the epoch.
        call_id: The call that it belongs to.
        parent_id: The call that that one was detached from; None for most.
        branch: Its branch in the call, such as `/hedge2/try2`.
        layer: The layer that made the request, such as `"retry"`; empty for the caller's own.
        operation: `"chat"`, `"embeddings"` ...
        category: The program's own word for what it was for; empty for none.
        provider: Where it went.
        model: What was asked for: the transport's own model where the request names none, and None
            where nobody knows one.
        served_model: What answered, as far as the answer says.
        service: The provider's class of service that was billed; None for the ordinary one.
        tenant: On whose behalf.
        user: For which end user.
        session: In which conversation.
        tags: The call's labels.
        outcome: How it ended: `"complete"`, `"failed"` ...
        duration: Seconds it took.
        time_to_first_event: Seconds until its first semantic event; None if none came.
        usage: What it consumed; None if nobody knows.
        cost: What it costs; None if nobody knows: such spend is counted apart, never as nothing.
    """

    id: str
    at: float
    call_id: str
    parent_id: str | None = None
    branch: str = ""
    layer: str = ""
    operation: str = "chat"
    category: str = ""
    provider: str = ""
    model: str | None = None
    served_model: str | None = None
    service: str | None = None
    tenant: str | None = None
    user: str | None = None
    session: str | None = None
    tags: Mapping[str, str] = _no_tags()
    outcome: str = "complete"
    duration: float = 0.0
    time_to_first_event: float | None = None
    usage: Usage | None = None
    cost: Money | None = None


def keepable(text: str) -> str:
    """The text as every store can keep it.

    Lone surrogates, which no encoding has, and NULs, at which some databases end a text, become
    U+FFFD.
    """
    return _UNKEEPABLE.sub("\ufffd", text)


def _keepable_values(where: Mapping[str, str | None]) -> Mapping[str, str | None]:
    return {
        keepable(str(name)): keepable(value) if isinstance(value, str) else value
        for name, value in where.items()
    }


def _keepable_names(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):  # "model" is not "m", "o", ...
        names = (names,)
    return tuple(keepable(str(name)) for name in names)


@attrs.frozen(kw_only=True)
class SpendQuery:
    """Which records, and what they are to be told apart by.

    Attributes:
        since: The first instant, in seconds since the epoch; None for ever before.
        until: The first instant after; None for ever after.
        where: What a record has to have, by name: one of `FIELDS`, or `tag:NAME`. A value of None,
            or an empty text, asks for those that have none.
        by: What totals are told apart by: names as in `where`, and at most one of `TIMES`.
        timezone: In whose hours, days, weeks and months: a name of the IANA time zone database.
            The hour that comes twice when clocks go back is one hour.

    Raises:
        ConfigurationError: If a name is none of these, a value no text, an instant no number, or
            the time zone unknown.
    """

    since: float | None = None
    until: float | None = None
    where: Mapping[str, str | None] = attrs.field(
        default=NOTHING, hash=False, converter=_keepable_values
    )
    by: tuple[str, ...] = attrs.field(default=(), converter=_keepable_names)
    timezone: str = "UTC"

    def __attrs_post_init__(self) -> None:
        """Refuse what no store could answer."""
        where: Mapping[str, Any] = self.where
        for name, value in where.items():
            _must_be_known(name, FIELDS)
            if not isinstance(value, str | None):
                raise ConfigurationError(
                    f"Spend is recorded by {name} as text, and {type(value).__name__} is none."
                )
        for name, instant in (("since", self.since), ("until", self.until)):
            if instant is not None and not is_countable(instant):
                raise ConfigurationError(
                    f"SpendQuery: {name}={instant!r} is no instant.",
                    hint="Give seconds since the epoch, such as datetime.timestamp() has, or None.",
                )
        for name in self.by:
            _must_be_known(name, (*FIELDS, *TIMES))
        if sum(name in TIMES for name in self.by) > 1:
            raise ConfigurationError(
                f"Spend cannot be told apart by {self.by!r}: at most one of {', '.join(TIMES)}."
            )
        _must_be_zone(self.timezone)

    @classmethod
    def forgetting(
        cls, before: float | None, where: Mapping[str, str | None] | None = None
    ) -> SpendQuery:
        """Which records `SpendStore.forget` is to remove: for stores, before they do.

        Args:
            before: See there.
            where: See there.

        Raises:
            ConfigurationError: If a name is none that spend is recorded by, or a value no text.
            ValueError: If `before` is no number, or nothing says which records are meant.
        """
        if before is not None and not is_countable(before):
            msg = f"SpendStore.forget: before={before!r} is no instant; give seconds since 1970."
            raise ValueError(msg)
        query = cls(until=before, where=where or NOTHING)
        if before is None and not any(query.where.values()):
            # Of everybody that has no user, say, a program rather has an empty variable in mind.
            raise ValueError(
                "SpendStore.forget: nothing says which records are to go. Give before=, or in "
                'where= a value that is not empty, such as {"user": "u-1"}.'
            )
        return query


def is_countable(value: object) -> bool:
    """Whether it is a number that a float is near to."""
    return isinstance(value, int | float) and (abs(value) < MOST_NANO or abs(value) == math.inf)


def _must_be_known(name: str, known: Sequence[str]) -> None:
    if name not in known and not (name.startswith(TAG) and len(name) > len(TAG)):
        raise ConfigurationError(
            f"Spend is not recorded by {name!r}.",
            hint=f"There are {', '.join(known)}, and {TAG}NAME for a tag.",
        )


def _must_be_zone(name: str) -> None:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError, TypeError, AttributeError):
        raise ConfigurationError(
            f"There is no time zone {name!r} on this machine.",
            hint='Give a name such as "Europe/Berlin"; Windows has them from the package tzdata.',
        ) from None


@attrs.frozen(kw_only=True)
class SpendTotal:
    """What the records of one group amount to.

    Attributes:
        group: The values of `SpendQuery.by`, in its order; None where a record has none, or an
            empty text. A time is the beginning of its span, in the time zone of the query:
            `"2026-11-21"`, or `"2026-11-21T14:00"` of an hour.
        attempts: How many.
        unpriced: How many of them have no known cost.
        estimated: How many of them have a usage that nobody but us has counted.
        input_tokens: Tokens of requests, those from prompt caches included.
        cached_tokens: Those of them that a provider's prompt cache served.
        output_tokens: Tokens of answers, reasoning included.
        reasoning_tokens: Those of them that were reasoning.
        costs: The known costs, by currency.
    """

    group: tuple[str | None, ...] = ()
    attempts: int = 0
    unpriced: int = 0
    estimated: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    costs: Mapping[str, Money] = attrs.field(default=NOTHING, hash=False)

    @property
    def cost(self) -> Money | None:
        """The cost as one amount.

        None if that of an attempt is not known (`unpriced` says of how many), or if there are
        several currencies (`costs` has each): a part is never shown as the whole.
        """
        costs = [cost for cost in self.costs.values() if cost]
        if self.unpriced or len(costs) > 1:
            return None
        return costs[0] if costs else next(iter(self.costs.values()), Money(0))


class SpendStore(Protocol):
    """Records of spend, which are appended and never changed.

    A store that can be written without an event loop has a plain method `append_now(records)` as
    well, which blocks, for seconds at most: it is what a process that ends uses.

    A store writes what `storable(record)` makes of each record, so that all keep the same.
    `lamella.testing.check_spend_store` runs every rule of the port against a store.
    """

    async def append(self, records: Sequence[SpendRecord]) -> int:
        """Append records together or not at all; one whose id is there already is passed over.

        Returns:
            How many were new.

        Raises:
            StoreUnavailableError: If the store cannot be reached. They may be there nevertheless.
            ValueError: If a record has what no store can keep, as `storable` says. None is written.
        """
        ...

    async def totals(self, query: SpendQuery) -> Sequence[SpendTotal]:
        """What the records amount to, a total for each group that has any, in order of the groups.

        Texts are in the order of their code points, and None comes before them. Without `by` there
        is exactly one total, of nothing if there are no records.

        Raises:
            StoreUnavailableError: If the store cannot be reached.
        """
        ...

    def read(self, query: SpendQuery) -> AsyncIterator[SpendRecord]:
        """The records that the query asks for, in order of time and id, a page at a time; not `by`.

        What is appended meanwhile may be among them. Nothing is held open between pages: reading
        may be given up anywhere.

        Raises:
            StoreUnavailableError: If the store cannot be reached.
        """
        ...

    async def forget(
        self, *, before: float | None = None, where: Mapping[str, str | None] = NOTHING
    ) -> int:
        """Remove the records that are old, somebody's, or both; how many.

        For retention and erasure: nothing else removes a record. Cancelled, it has removed some.
        What is appended meanwhile may stay.

        Args:
            before: Those of attempts that ended before this instant, in seconds since the epoch;
                None for whenever they did.
            where: Those that have all of this, as in `SpendQuery.where`.

        Raises:
            ConfigurationError: If a name is none that spend is recorded by, or a value no text.
            StoreUnavailableError: If the store cannot be reached.
            ValueError: As `SpendQuery.forgetting`: if `before` is no number, or neither it nor a
                value that is not empty is given.
        """
        ...

    async def aclose(self) -> None:
        """Release what the store holds open."""
        ...
