"""The layer: it has every attempt of a call written down, and answers what they add up to."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypeVar, cast

import anyio
import attrs

from lamella import (
    ConfigurationError,
    Handler,
    PartHealth,
    Request,
    Response,
    SpendQuery,
    SpendRecord,
    SpendStore,
    SpendTotal,
    middleware,
    observed,
)
from lamella._guarded_blobs import shown
from lamella._named_stores import layer_store
from lamella._options import is_async, number, refused, seconds, whole
from lamella._ownership import release, use
from lamella_middlewares.spend._observer import Observer
from lamella_middlewares.spend._spool import CLOSE_SECONDS, Pace, Spool
from lamella_middlewares.spend._spools import flush, spool_for, spools_of

R = TypeVar("R", bound=Response)

DEFAULT_PATH: Final = "spend.db"
DAY: Final = 86_400.0

Category: TypeAlias = str | Callable[[Request[Any]], str] | None
"""What requests were for: a word, a plain function of the request, or None."""


def _store(value: Any) -> Any:
    return None if value is None else layer_store("Spend", "spend", value)


def _is_path(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    try:
        usable = bool(cast("str", os.fspath(value)))
    except TypeError:
        usable = False
    if not usable:
        raise refused(layer, option, value, "the path of a file, such as 'spend.db'")


def _is_category(layer: object, option: attrs.Attribute[Any], value: object) -> None:
    if value is None or isinstance(value, str) or (callable(value) and not is_async(value)):
        return
    want = "a word, a plain function of the request, or None for the tag 'category' of each call"
    raise refused(layer, option, value, want)


def _days(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        number(1)(layer, option, value)


@middleware(phase="observe", rank=30)
@attrs.frozen(eq=False)
class Spend:
    """Writes down what every attempt has cost, for reports that outlive the process.

    Each attempt becomes one record when it has ended, whoever made it and however it ended: tries,
    losers of a race, children, and work that outlives its call. Records wait in memory and are
    written in batches; no request waits for them, and none fails because of them. What an attempt
    costs is found out by `Cost`, without which the records have no cost.

    Args:
        path: The SQLite file; its directory must be there.
        store: In its place a store of spend: itself, a registered name, or a table such as
            `{"use": "postgres", "url": "env:DATABASE_URL"}`.
        category: What requests are for: a word, or a plain function that is asked once for each
            request. None takes the tag `category` of each call.
        flush_interval: Seconds, or a timedelta, from the first record that waits until it is
            written, 0 or more: what a process that is killed loses at most.
        batch: How many records are written together, 1 or more; so many wait for nothing.
        max_pending: How many records may wait while the store is out, 1 or more. Beyond that the
            oldest are dropped, which the log and `health()` say.
        keep_days: Days after which records are removed, 1 or more, once a day by each process. None
            keeps them.

    Raises:
        ConfigurationError: If an option is wrong, or there can be no such file.
    """

    path: str | os.PathLike[str] = attrs.field(default=DEFAULT_PATH, validator=_is_path)
    store: Any = attrs.field(  # pyright: ignore[reportUnknownVariableType]
        default=None, converter=_store, kw_only=True, repr=shown
    )
    category: Category = attrs.field(default=None, kw_only=True, validator=_is_category)
    flush_interval: float | dt.timedelta = attrs.field(
        default=1.0, kw_only=True, converter=seconds, validator=number(0)
    )
    batch: int = attrs.field(default=500, kw_only=True, validator=whole(1))
    max_pending: int = attrs.field(default=100_000, kw_only=True, validator=whole(1))
    keep_days: float | None = attrs.field(default=None, kw_only=True, validator=_days)
    _spool: Spool = attrs.field(init=False, repr=False)
    _observer: Observer = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Find the store, and the spool that all layers with this store share."""
        store = self.store
        if store is not None and Path(self.path) != Path(DEFAULT_PATH):
            msg = f"Spend(path={str(self.path)!r}, store=...): records go to one place."
            raise ConfigurationError(msg, hint="Give a path or a store, not both.")
        if store is None:
            store = _sqlite(self.path)
        keep = None if self.keep_days is None else self.keep_days * DAY
        pace = Pace(seconds(self.flush_interval), self.batch, self.max_pending, keep)
        category = None if callable(self.category) else self.category
        spool = spool_for(store, pace)
        object.__setattr__(self, "_spool", spool)
        object.__setattr__(self, "_observer", Observer(spool, category))
        use(store, self)

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on, such that its attempts are written down."""
        store = self._spool.store
        for known in request.context.observers:
            if isinstance(known, Observer) and known.spool.store is store:
                return await call_next(request)  # a layer outside writes them down already
        observer = self._observer
        if callable(self.category):
            observer = Observer(self._spool, self._category_of(request))
        return await call_next(observed(request, observer))

    def _category_of(self, request: Request[Any]) -> str | None:
        ask = cast("Callable[[Request[Any]], object]", self.category)
        try:
            found = ask(request)
        except Exception as error:  # noqa: BLE001 - bookkeeping must never cost an answer
            request.context.note("spend", "spend.category_failed", error=type(error).__name__)
            return None
        if isinstance(found, str):
            return found
        request.context.note("spend", "spend.category_failed", error=f"got {type(found).__name__}")
        return None

    # --- what has been spent ---------------------------------------------------------------------

    async def total(
        self,
        *,
        since: dt.datetime | float | None = None,
        until: dt.datetime | float | None = None,
        tags: Mapping[str, str] | None = None,
        **where: str | None,
    ) -> SpendTotal:
        """What attempts have cost in all: `(await spend.total(session="s-1")).cost`.

        What this process has not written yet is written first, so that it is among them.

        Args:
            since: The first instant: a datetime with a time zone, or seconds since the epoch.
            until: The first instant after.
            tags: Tags that they have, by name: `{"team": "search"}`.
            **where: What else they have: `user="u-1"`, `session=`, `model=`, `category=` and all
                else that `SpendQuery` knows. None asks for those without.

        Raises:
            ConfigurationError: If a name is not recorded, tags are no table, or a datetime has no
                time zone.
            StoreUnavailableError: If the store does not answer.
        """
        query = SpendQuery(
            since=None if since is None else _instant(since),
            until=None if until is None else _instant(until),
            where=_where(where, tags),
        )
        (total,) = await self.totals(query)
        return total

    async def totals(self, query: SpendQuery) -> Sequence[SpendTotal]:
        """What attempts have cost, a total for each group that the query tells apart.

        Raises:
            StoreUnavailableError: If the store does not answer.
        """
        await self.flush()
        return await self._spool.store.totals(query)

    def records(self, query: SpendQuery | None = None) -> AsyncIterator[SpendRecord]:
        """The records themselves, in order of time; all of them without a query.

        Raises:
            StoreUnavailableError: While they are read, if the store does not answer.
        """
        return _Reading(self, query or SpendQuery())

    async def forget(
        self,
        *,
        before: dt.datetime | float | None = None,
        tags: Mapping[str, str] | None = None,
        **where: str | None,
    ) -> int:
        """Remove the records that are old, or somebody's: `await spend.forget(user="u-1")`.

        What this process has not written yet is among them. Another process writes what it has not
        written a moment later: then ask again.

        Args:
            before: Those of attempts that ended before this instant: a datetime with a time zone,
                or seconds since the epoch.
            tags: Those that have these tags.
            **where: Those that have this, as for `total`.

        Returns:
            How many that were.

        Raises:
            ConfigurationError: If a name is not recorded, or a datetime has no time zone.
            StoreUnavailableError: If the store does not answer.
            ValueError: If neither an instant nor any value is given that is not empty.
        """
        instant, asked = None if before is None else _instant(before), _where(where, tags)
        await self.flush()
        return await self._spool.store.forget(before=instant, where=asked)

    async def flush(self) -> None:
        """Wait until what this process has recorded for the store so far is there.

        Raises:
            StoreUnavailableError: If the store does not answer. Nothing is lost: it is tried again.
        """
        await flush(self._spool.store)

    async def check(self) -> None:
        """See that records can be kept; `lamella test-config` asks this.

        Nothing is made or written. A store that has no `check()` of its own is taken at its word.

        Raises:
            LamellaError: What the store finds wrong.
        """
        look: Any = getattr(self.kept_in, "check", None)
        if is_async(look):
            await look()

    def health(self) -> PartHealth:
        """Whether records can be written, and how many wait, were written, dropped, refused."""
        return self._spool.health()

    @property
    def kept_in(self) -> SpendStore:
        """The store that records are kept in."""
        return self._spool.store

    async def aclose(self) -> None:
        """Write what waits, for four seconds at most; close the store with the last of its layers.

        What could not be written is logged, and tried once more when the process ends.
        """
        store = self._spool.store
        last = release(store, self)
        spools = spools_of(store)
        try:
            with anyio.move_on_after(CLOSE_SECONDS):
                for spool in spools:
                    if last:
                        spool.stop()
                    await spool.settle()
            for spool in spools:
                spool.tell_left()
        finally:
            if last:
                await store.aclose()


class _Reading:
    """Records, once what waits has been written."""

    __slots__ = ("_found", "_query", "_spend")

    def __init__(self, spend: Spend, query: SpendQuery) -> None:
        self._spend = spend
        self._query = query
        self._found: AsyncIterator[SpendRecord] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SpendRecord:
        if self._found is None:
            await self._spend.flush()
            self._found = aiter(self._spend.kept_in.read(self._query))
        return await anext(self._found)


def _sqlite(path: str | os.PathLike[str]) -> SpendStore:
    try:
        store: SpendStore = layer_store(
            "Spend", "spend", {"use": "sqlite_spend", "path": str(path)}
        )
    except ConfigurationError as error:
        msg = str(error).replace("Spend(...): store: SQLiteSpend(", "Spend(")
        raise ConfigurationError(msg) from None
    return store


def _where(
    where: Mapping[str, str | None], tags: Mapping[str, str] | None
) -> Mapping[str, str | None]:
    if not isinstance(tags, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"Spend: tags={tags!r} does not say what they are to be.",
            hint='Give names and values, such as tags={"team": "search"}.',
        )
    return {**where, **{f"tag:{name}": value for name, value in (tags or {}).items()}}


def _instant(given: dt.datetime | float) -> float:
    if not isinstance(given, dt.datetime):
        return given
    if given.tzinfo is None:
        msg = f"{given!r} has no time zone, so that it is no instant."
        raise ConfigurationError(msg, hint="Add one, such as tzinfo=datetime.UTC.")
    return given.timestamp()
