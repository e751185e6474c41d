"""Finding a price: what the program states comes first, then sources, in order.

The first source that knows a model by one of its names wins. Sources answer from memory; one that
has to read something first does so in a thread, where `PriceList.get` asks it.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import attrs

from lamella._errors import ClosedError, ConfigurationError, DeadlineExceeded
from lamella._layers import name_of
from lamella._own_prices import Rows
from lamella._prices import Price, price_on
from lamella._warm import Warm

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella._context import Context
    from lamella._price_sources import PriceSource

logger = logging.getLogger("lamella")

DAY_SECONDS: Final = 86_400

REST_SECONDS: Final = 60.0
"""For how long a source is left alone whose reading has failed."""

Names: TypeAlias = Sequence[tuple[str, str]]
"""The names of one model, the best one first: whose it is, and what it is called there."""


@attrs.frozen
class Lasting:
    """An answer that can be kept.

    Attributes:
        price: The price; None if there is none.
        edition: Of the list: it holds for the day as long as the list has that one. None if it
            holds for the day whatever happens.
    """

    price: Price | None
    edition: int | None = None


def _edition_of(source: PriceSource) -> Callable[[], int] | None:
    """What gives its edition; None if it has none. A number may be another one the next time."""
    edition = getattr(source, "edition", None)
    if edition is None or callable(edition):
        return cast("Callable[[], int] | None", edition)
    return partial(getattr, source, "edition")


class _Kept:
    """A source in a list, with its reading.

    One whose reading fails is left alone for a while: it would be tried anew for every call.
    """

    __slots__ = ("_failure", "_load", "_rested", "edition", "logged", "name", "price", "reading")

    def __init__(self, source: PriceSource) -> None:
        self.name = name_of(source)
        self.price: Callable[[str, str, dt.date], object] = source.price
        self.edition = _edition_of(source)
        self._load: Callable[[], object] | None = getattr(source, "load", None)
        self._failure: Exception | None = None
        self._rested = 0.0
        reading = getattr(source, "reading", None)
        self.reading: Warm | None = reading if isinstance(reading, Warm) else None
        if self.reading is None and self._load is not None:
            self.reading = Warm(self._load)
        self.logged = False

    def unread(self, wall: float) -> Warm | None:
        """What has to be read before it can answer; None if nothing, or if that has failed."""
        reading = self.reading
        if reading is None or reading.done or self.failure(wall) is not None:
            return None
        return reading

    def failure(self, wall: float) -> Exception | None:
        """Why it cannot answer for now."""
        return self._failure if wall < self._rested else None

    def rest(self, error: Exception, wall: float) -> None:
        """Its reading has failed."""
        self._failure, self._rested = error, wall + REST_SECONDS

    def asked(self, provider: str, model: str, day: dt.date, wall: float) -> object:
        """What it says: a price, None, or the error that it raised."""
        try:
            if self._load is not None and self.unread(wall) is not None:
                self._read_now(self._load, wall)
            failure = self.failure(wall)
            said = self.price(provider, model, day) if failure is None else failure
        except ConfigurationError:
            raise  # the user's own file: nothing is sent on prices that are not what they say
        except Exception as error:  # noqa: BLE001 - code of others; it is noted and logged
            return error
        if said is None or isinstance(said, Price | Exception):
            return said
        return TypeError(f"price() gave {type(said).__name__}, not a Price or None")

    def _read_now(self, load: Callable[[], object], wall: float) -> None:
        """Nobody has waited for it to be read in a thread."""
        assert self.reading is not None  # noqa: S101 - it has a `load`
        try:
            load()
        except Exception as error:
            self.rest(error, wall)
            raise
        self.reading.done = True


class PriceList:
    """Finds the price of a model, among a program's own prices and in sources. Thread-safe.

    Args:
        own: The program's own prices. They win, under any name of a model.
        sources: What else is asked, in order, under each name.

    """

    def __init__(self, own: Rows, sources: Iterable[PriceSource]) -> None:
        self._own = own
        self._sources = tuple([_Kept(source) for source in sources])
        editions = [one.edition for one in self._sources]
        self._editions = tuple([edition for edition in editions if edition is not None])
        self._read = False

    def find(self, names: Names, wall: float, context: Context | None = None) -> Price | None:
        """The price on the day of `wall`; None if there is none.

        Args:
            names: The names of the model. What the program states for any of them wins over the
                sources: a provider answers `gpt-4o-mini` as a dated version of it.
            wall: Seconds since the epoch.
            context: The call, for a note about a source that fails.

        Raises:
            ConfigurationError: If a card file of the user's cannot be read.
        """
        found = self.found(names, wall, context)
        return None if found is None else found[0]

    def found(
        self, names: Names, wall: float, context: Context | None = None
    ) -> tuple[Price, str] | None:
        """As `find`, with the name of the source; the program's own prices are `"own"`."""
        found = self._first(names, wall, context, read=True)
        return None if isinstance(found, _Kept) else found

    async def get(self, names: Names, context: Context) -> Price | None:
        """As `find`, on today's day, with what has to be read first read off the event loop.

        Raises:
            ClosedError: If the pipeline closes meanwhile.
            ConfigurationError: If a card file of the user's cannot be read.
            DeadlineExceeded: If the deadline leaves no time to read.
        """
        wall = context.ports.wall()
        while True:
            found = self._first(names, wall, context, read=False)
            if not isinstance(found, _Kept):
                return None if found is None else found[0]
            work = found.unread(wall)
            if work is None:
                continue
            try:
                await work.ready(context)
            except (ConfigurationError, ClosedError):
                raise
            except Exception as error:  # noqa: BLE001 - code of others; the next round says whose
                found.rest(error, wall)
            else:
                if not work.done:  # reading it here and now would hold up the event loop
                    raise DeadlineExceeded(
                        f"The deadline passed while the prices of {found.name!r} were read.",
                        phase="local",
                    )

    @property
    def read(self) -> bool:
        """Whether every source has read what it needs."""
        if not self._read:
            for one in self._sources:
                if one.reading is not None and not one.reading.done:
                    return False
            self._read = True  # and stays so
        return self._read

    def edition(self) -> int | None:
        """A number that rises when what its sources know has changed, of those that say so.

        None if one of them has failed to say it: then nothing that it knows can be kept.
        """
        total = 0
        try:
            for edition in self._editions:
                total += edition()
        except Exception:  # noqa: BLE001 - code of others; it is asked for each call instead
            return None
        return total

    def lasting(self, names: Names, wall: float) -> Lasting | None:
        """As `find`, where the answer can be kept; None where it has to be asked for each time.

        A source's can be if it has an `edition`, see `PriceSource`, and if nothing is in the way of
        asking it.
        """
        day = day_of(wall)
        price = self._own_price(names, day)
        if price is not None:
            return Lasting(price)
        edition = self.edition()
        if edition is None:
            return None
        for provider, model in names:
            for one in self._sources:
                if one.edition is None or one.unread(wall) or one.failure(wall):
                    return None
                answer = one.asked(provider, model, day, wall)
                if isinstance(answer, Price):
                    return Lasting(answer, edition)
                if answer is not None:
                    return None  # it has failed; whoever asks now notes it
        return Lasting(None, edition)

    def _own_price(self, names: Names, day: dt.date) -> Price | None:
        own = self._own
        for provider, model in names if own else ():
            rows = own.get(f"{provider}/{model}") or own.get(model)
            price = None if rows is None else price_on(rows, day)
            if price is not None:
                return price
        return None

    def _first(
        self, names: Names, wall: float, context: Context | None, *, read: bool
    ) -> tuple[Price, str] | _Kept | None:
        """The first price that is known; with `read=False`, the source that has to read first."""
        day = day_of(wall)
        price = self._own_price(names, day)
        if price is not None:
            return price, "own"
        for provider, model in names:
            for source in self._sources:
                if not read and source.unread(wall) is not None:
                    return source
                answer = source.asked(provider, model, day, wall)
                if isinstance(answer, Price):
                    return answer, source.name
                if answer is not None:
                    self._failed(source, answer, context)
        return None

    def _failed(self, source: _Kept, error: object, context: Context | None) -> None:
        what = type(error).__name__
        if context is not None:
            context.note("cost", "cost.source_failed", source=source.name, error=what)
        if not source.logged:
            source.logged = True
            logger.warning(
                "The price source %r failed (%s: %s); the next one is asked. Said once.",
                source.name,
                what,
                error,
            )


_today: tuple[int, dt.date] = (0, dt.date(1970, 1, 1))


def day_of(wall: float) -> dt.date:
    """The day (UTC) of an instant, in seconds since the epoch."""
    global _today  # noqa: PLW0603 - one day is asked for again and again; the pair is set at once
    number = int(wall // DAY_SECONDS)
    known, day = _today
    if number != known:
        day = dt.date(1970, 1, 1) + dt.timedelta(days=number)
        _today = number, day
    return day
