"""Records of spend in PostgreSQL: the `SpendStore` port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella import (
    ConfigurationError,
    PartHealth,
    Secret,
    SecretError,
    SpendQuery,
    SpendRecord,
    SpendTotal,
    StoreUnavailableError,
    storable,
)
from lamella._nothing import NOTHING
from lamella._options import refused, seconds, whole
from lamella._options import span as is_span
from lamella._secret_values import hidden
from lamella._spend_pages import Place, SpendReading
from lamella_postgres._address import url_of
from lamella_postgres._lanes import Lanes
from lamella_postgres._table import checked_schema

if TYPE_CHECKING:
    from lamella_postgres._link import Link
    from lamella_postgres._session import Session

_NOW_SECONDS: Final = 2.0
_AT_ONCE: Final = 5000
"""Records that one statement appends."""


def _is_schema(store: object, field: attrs.Attribute[Any], value: Any) -> None:
    wrong = checked_schema(value)
    if wrong is not None:
        raise refused(store, field, value, wrong)


@attrs.define(eq=False)
class PostgresSpend:
    """`SpendStore` in PostgreSQL 12 or later: what all processes of a fleet share.

    The table `spend` is made on first use, in a schema of its own, by whichever process comes
    first; where the user may not make it, the error says how somebody else can. What was appended
    and has returned is as safe as the server keeps it.

    Any number of event loops and threads may use it, and a fork ends nothing. Up to `connections`
    threads have a connection each, which is opened when it is needed, replaced when it was lost,
    and closed after half a minute without use, or by `aclose`. Nothing is prepared or set beyond a
    transaction, so a pooler may stand before the server.

    Args:
        url: `"env:DATABASE_URL"`, `"file:PATH"`, a `Secret`, or a URL without a password:
            `postgresql://USER@HOST:PORT/DATABASE`. What a reference leads to may have one, and is
            asked for again when the server refuses it. `sslmode=verify-full` in it has the server's
            certificate and name verified. libpq's own files and variables (`PGPASSFILE`,
            `PGSSLROOTCERT` ...) count.
        schema: Where the table is. Stores of one schema in one database are the same store.
        connections: How many there may be; 1 or more.
        connect_timeout: Seconds, or a timedelta, for connecting to one address; 2 at least.
        timeout: Seconds, or a timedelta, that an append, a page, or a step of forgetting may take.
        totals_timeout: Seconds, or a timedelta, that adding up may take.

    Raises:
        ConfigurationError: If an option is wrong, or a URL has a password in it.
    """

    url: Secret | str = attrs.field(default="env:DATABASE_URL", converter=url_of)
    schema: str = attrs.field(default="lamella", kw_only=True, validator=_is_schema)
    connections: int = attrs.field(default=3, kw_only=True, validator=whole(1))
    connect_timeout: float = attrs.field(
        default=5.0, kw_only=True, converter=seconds, validator=is_span
    )
    timeout: float = attrs.field(default=5.0, kw_only=True, converter=seconds, validator=is_span)
    totals_timeout: float = attrs.field(
        default=60.0, kw_only=True, converter=seconds, validator=is_span
    )
    _session: Session = attrs.field(init=False, repr=False)
    _lanes: Lanes = attrs.field(init=False, repr=False)
    _last: Callable[[], str] | None = attrs.field(init=False, default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        """Load the client, for which no call should wait; nothing is opened."""
        from lamella_postgres._session import Session

        self._session = Session(self.schema, self.connect_timeout)
        self._lanes = Lanes(self.connections)

    async def append(self, records: Sequence[SpendRecord]) -> int:
        """Append records together; see `SpendStore.append`.

        A caller that is cancelled does not know whether they are there: what is appended again
        counts once.

        Raises:
            ConfigurationError: If what `url` refers to is not there (a `SecretError`), or no URL.
            StoreUnavailableError: If the server cannot be used. Its outcome is `UNKNOWN` if only
                the answer was lost.
            ValueError: If a record has what no store can keep.
        """
        work = self._appending(records)
        return 0 if work is None else int(await self._ask(work, self.timeout, writes=True))

    def append_now(self, records: Sequence[SpendRecord]) -> int:
        """Append records in this thread, without an event loop; see `SpendStore.append`.

        For a process that ends: no thread is started. It waits for the server for some two seconds,
        and for two more to connect.

        Raises:
            ConfigurationError: As there.
            StoreUnavailableError: If the server cannot be used.
            ValueError: If a record has what no store can keep.
        """
        from lamella_postgres._session import LoginRefusedError, Session

        work = self._appending(records)
        if work is None:
            return 0
        session = Session(self.schema, _NOW_SECONDS)
        limit = min(self.timeout, _NOW_SECONDS)
        try:
            return int(
                self._lanes.now(
                    partial(session.run, url=self._url_now(), work=work, seconds=limit, writes=True)
                )
            )
        except LoginRefusedError as refusal:
            failed = refusal.error
        raise failed

    async def totals(self, query: SpendQuery) -> Sequence[SpendTotal]:
        """What the records amount to, all at one moment; see `SpendStore.totals`."""
        from lamella_postgres._queries import Asked

        found: Sequence[SpendTotal] = await self._ask(
            lambda link: Asked(query, self.schema).totals(link), self.totals_timeout
        )
        return found

    def read(self, query: SpendQuery) -> AsyncIterator[SpendRecord]:
        """The records, 500 at a time; see `SpendStore.read`."""
        from lamella_postgres._queries import Asked

        async def next_page(after: Place | None) -> Sequence[SpendRecord]:
            found: Sequence[SpendRecord] = await self._ask(
                lambda link: Asked(query, self.schema).page(link, after), self.timeout
            )
            return found

        return SpendReading(next_page)

    async def forget(
        self, *, before: float | None = None, where: Mapping[str, str | None] = NOTHING
    ) -> int:
        """Remove the records that are old, somebody's, or both; see `SpendStore.forget`.

        They go in steps of up to 1,000. What is forgotten stays in the server's files until it
        vacuums the table, and in its backups.

        Raises:
            ConfigurationError: As there.
            StoreUnavailableError: If the server cannot be used.
            ValueError: As there.
        """
        query = SpendQuery.forgetting(before, where)
        count = 0
        place: Place | None = None
        while True:
            step = partial(_forget_some, query=query, schema=self.schema, after=place)
            found = await self._ask(step, self.timeout, writes=True)
            count, place = count + int(found[0]), found[1]
            if place is None:
                return count

    async def check(self) -> None:
        """See that the server is there and lets the user in; nothing is made there.

        Raises:
            ConfigurationError: If what `url` refers to is not there (a `SecretError`), or no URL.
            StoreUnavailableError: If the server cannot be reached, or refuses the user.
        """
        await self._reach(self._session.reach, max(2.0, self.connect_timeout) + 1)

    async def health(self) -> PartHealth:
        """Whether the server can be asked now."""
        try:
            await self._ask(lambda link: link.execute("SELECT 1").fetchone(), self.timeout)
        except (StoreUnavailableError, ConfigurationError) as error:  # of the URL's secret, too
            return PartHealth(well=False, detail={"error": error.message})
        return PartHealth(well=True)

    async def aclose(self) -> None:
        """Close the connections, once what waits is done. A later use opens others."""
        await self._lanes.aclose()

    # --- asking ----------------------------------------------------------------------------------

    def _appending(self, records: Sequence[SpendRecord]) -> Callable[[Link], int] | None:
        from lamella_postgres._rows import insertion, row_of

        # In order, so that two who append the same do not wait for each other in a circle.
        new = sorted(map(storable, records), key=lambda record: record.id)
        if not new:
            return None
        rows = [row_of(record) for record in new]
        statement = insertion(self.schema).encode()

        def append(link: Link) -> int:
            count = 0
            for place in range(0, len(rows), _AT_ONCE):
                some = f"[{','.join(rows[place : place + _AT_ONCE])}]"
                count += link.execute(statement, [some]).rowcount
            return count

        return append

    async def _ask(
        self, work: Callable[[Link], Any], seconds: float, *, writes: bool = False
    ) -> Any:
        # Waiting for a lane and for a connection, and twice what the server has for the work:
        # a stale connection is replaced.
        limit = max(2.0, self.connect_timeout) + 2 * seconds + 1
        run = partial(self._session.run, work=work, seconds=seconds, writes=writes)
        return await self._reach(run, limit)

    async def _reach(self, run: Callable[..., Any], limit: float) -> Any:
        """Have a session do something, with the password of now."""
        from lamella_postgres._session import LoginRefusedError

        url = await self._url()
        try:
            return await self._lanes.ask(partial(run, url=url), limit)
        except LoginRefusedError as refusal:
            failed = refusal.error
        if isinstance(self.url, Secret):  # somebody may have changed it
            self.url.invalidate(url())
            other = await self._url()
            if other() != url():
                try:
                    return await self._lanes.ask(partial(run, url=other), limit)
                except LoginRefusedError as refusal:
                    failed = refusal.error
        raise failed

    async def _url(self) -> Callable[[], str]:
        """What tells the URL."""
        if isinstance(self.url, str):
            return hidden(self.url)
        self._last = hidden(await self.url.fetch())
        return self._last

    def _url_now(self) -> Callable[[], str]:
        """The same without a loop; the last one, if its source can only be awaited."""
        if isinstance(self.url, str):
            return hidden(self.url)
        try:
            return hidden(self.url.reveal())
        except SecretError:
            if self._last is None:
                raise
            return self._last


def _forget_some(
    link: Link, *, query: SpendQuery, schema: str, after: Place | None
) -> tuple[int, Place | None]:
    from lamella_postgres._queries import Asked

    return Asked(query, schema).forget_some(link, after)


def postgres_spend(
    url: str | Secret = "env:DATABASE_URL",
    *,
    schema: str = "lamella",
    connections: int = 3,
    connect_timeout: float | timedelta = 5.0,
    timeout: float | timedelta = 5.0,
    totals_timeout: float | timedelta = 60.0,
) -> PostgresSpend:
    """Records of spend in PostgreSQL: the store `postgres` for `spend`.

    Args:
        url: As for `PostgresSpend`.
        schema: As for `PostgresSpend`.
        connections: As for `PostgresSpend`.
        connect_timeout: As for `PostgresSpend`.
        timeout: As for `PostgresSpend`.
        totals_timeout: As for `PostgresSpend`.

    Raises:
        ConfigurationError: If an option is wrong, or a URL has a password in it.
    """
    return PostgresSpend(
        url,
        schema=schema,
        connections=connections,
        connect_timeout=connect_timeout,
        timeout=timeout,
        totals_timeout=totals_timeout,
    )
