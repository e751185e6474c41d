"""One transaction, on a connection that may have gone stale, and what its failures mean."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import attrs
import psycopg

from lamella import LamellaError, Outcome, StoreUnavailableError
from lamella_postgres._address import no_url, settings_of, without_secrets
from lamella_postgres._lanes import Job, Lane
from lamella_postgres._link import GivenUp, Late, Link
from lamella_postgres._table import see_to_table

_WRITES: Final = "READ COMMITTED, READ WRITE"
_READS: Final = "REPEATABLE READ, READ ONLY"  # what it says is of one moment
_GRACE: Final = 0.5
"""Seconds after its own limit in which the server may still say that it was reached."""

_LONGEST: Final = 2**31 - 1
"""Milliseconds that the server can be given as a limit: 24 days."""

_AGAIN: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_GONE: Final = frozenset({"42P01", "3F000"})  # the table, the schema
_QUOTING: Final = ("22", "23", "P0")
"""Classes of errors whose texts have values in them, those of people's own triggers too."""

_CONNECTING: Final = (
    "See whether host, port, user, password and database in the URL are right, and whether the "
    "server is up and lets the user in."
)
_REPLICA: Final = "It is a replica, or set to be read only: give the address of the primary."
_CHANGED: Final = "The table is not as it was made: see who has changed it."
_HINTS: Final = {
    "0A000": _REPLICA,
    "25006": _REPLICA,
    "42703": _CHANGED,
    "42P10": _CHANGED,
    "53": "The server is out of room or of connections: look at it.",
    "57014": "It took too long: see what the server is doing, or raise the timeout.",
}


class LoginRefusedError(Exception):
    """The server wants a password, and does not let us in with what we have.

    Attributes:
        error: As who waits is told.
    """

    def __init__(self, error: StoreUnavailableError) -> None:
        super().__init__(str(error))
        self.error = error


@attrs.frozen
class Session:
    """How work is done on a server.

    Attributes:
        schema: Where the table is.
        connect_timeout: Seconds for connecting.
    """

    schema: str
    connect_timeout: float

    def run(
        self,
        lane: Lane,
        job: Job | None,
        *,
        url: Callable[[], str],
        work: Callable[[Link], Any],
        seconds: float,
        writes: bool = False,
    ) -> Any:
        """What the work gives, in a transaction of its own. Blocks.

        A connection that was lost before anything could be in the database is replaced, once. The
        URL is told by a function, so that no frame that raises has it.

        Raises:
            StoreUnavailableError: If it cannot be done. Its outcome says whether it may have been.
            LoginRefusedError: If the server wants another password, as far as can be told.
        """
        job_given_up = (lambda: False) if job is None else (lambda: job.given_up)
        for last in (False, True):
            fresh = lane.link is None
            link = lane.link = lane.link or self._connected(url)
            link.expect(seconds + _GRACE, job_given_up)
            step = _Step(writes)
            try:
                return self._transaction(link, work, seconds, step)
            except psycopg.Error as error:
                found: psycopg.Error | Late = error
            except Late as late:
                found = late
            except GivenUp:
                lane.drop()
                raise _unavailable("nobody waits for it any more", None) from None
            except BaseException:  # of our own, or the end of the process
                lane.drop()
                raise
            silent = isinstance(found, Late)
            lost = silent or link.broken or link.closed or _fatal(found)
            state = found.sqlstate if isinstance(found, psycopg.Error) else None
            self._tidy(lane, link, found)
            if lost and step.committing:
                raise self._told(found, Outcome.UNKNOWN)
            again = not fresh if lost else state in _AGAIN or state in _GONE
            if last or silent or not again:
                raise self._told(found, Outcome.NOT_SENT)
        raise AssertionError  # the second time returns or raises

    def reach(self, lane: Lane, _: Job | None, *, url: Callable[[], str]) -> None:
        """Connect anew, and do nothing there. Blocks.

        Raises:
            StoreUnavailableError: If there is no server, or it does not let us in.
            LoginRefusedError: As for `run`.
        """
        lane.drop()
        lane.link = self._connected(url)

    def _transaction(
        self, link: Link, work: Callable[[Link], Any], seconds: float, step: _Step
    ) -> Any:
        if self.schema not in link.ready:
            self._begin(link, _WRITES, seconds)
            see_to_table(link, self.schema)
            link.execute("COMMIT")
            link.ready.add(self.schema)
        self._begin(link, _WRITES if step.writes else _READS, seconds)
        result = work(link)
        step.committing = step.writes
        link.execute("COMMIT")
        return result

    def _begin(self, link: Link, mode: str, seconds: float) -> None:
        """Begin; what is set holds for the transaction, as a pooler may give another connection."""
        limit = min(max(1, int(seconds * 1000)), _LONGEST)
        link.execute(
            f"BEGIN ISOLATION LEVEL {mode}; SET LOCAL statement_timeout = {limit}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {limit}; "
            "SET LOCAL extra_float_digits = 1".encode()
        )

    def _tidy(self, lane: Lane, link: Link, error: psycopg.Error | Late) -> None:
        """Leave no transaction open."""
        if isinstance(error, psycopg.Error) and not link.broken and not link.closed:
            with suppress(psycopg.Error, Late, GivenUp):
                link.execute("ROLLBACK")
                if error.sqlstate in _GONE:
                    link.ready.clear()
                return
        lane.drop()

    def _connected(self, url: Callable[[], str]) -> Link:
        found = _connection(url, self.connect_timeout)
        if isinstance(found, Link):
            return found
        if found is None:
            raise no_url()
        said, asked_who = found
        failed = _unavailable(said, None, hint=_CONNECTING)
        if asked_who:
            raise LoginRefusedError(failed)
        raise failed

    def _told(self, error: psycopg.Error | Late, outcome: Outcome) -> LamellaError:
        if isinstance(error, Late):
            return _unavailable("no answer in time", "57014", outcome)
        state = error.sqlstate
        if state is None:  # the client says so, not the server
            lost = isinstance(error, psycopg.OperationalError)
            said = "the connection was lost" if lost else type(error).__name__
            return _unavailable(said, None, outcome)
        if state == "42501":
            return self._not_allowed(error)
        said = error.diag.message_primary or type(error).__name__
        if state.startswith(_QUOTING):
            said = type(error).__name__
        return _unavailable(said, state, outcome)

    def _not_allowed(self, error: psycopg.Error) -> StoreUnavailableError:
        said = error.diag.message_primary or "permission denied"
        command = f"python -m lamella_postgres --schema {self.schema!r} --role USER"
        hint = (
            f"Somebody who may has to run the SQL that `{command}` prints: it makes the table and "
            "lets USER read, append and forget."
        )
        return _unavailable(said, "42501", hint=hint)


@attrs.define
class _Step:
    """How far a transaction has come.

    Attributes:
        writes: Whether it changes anything.
        committing: Whether its end has been sent: from then on it may be in the database.
    """

    writes: bool
    committing: bool = False


def _connection(url: Callable[[], str], connect_timeout: float) -> Link | tuple[str, bool] | None:
    """A connection, or what was said instead, and whether a password was asked for.

    None if the URL is none. It does not raise: see `settings_of`.
    """
    settings = settings_of(url(), connect_timeout)
    if settings is None:
        return None
    try:
        return Link.to(settings)
    except (psycopg.Error, OSError, UnicodeError) as error:
        # What the server says of the password is in its own language, and has no SQLSTATE.
        link = error.pgconn if isinstance(error, psycopg.Error) else None
        asked_who = link is not None and (link.used_password or link.needs_password)
        return without_secrets(str(error).strip(), settings), bool(asked_who)


def _fatal(error: psycopg.Error | Late) -> bool:
    """Whether the server has ended the session with it."""
    how = error.diag.severity_nonlocalized if isinstance(error, psycopg.Error) else None
    return how in ("FATAL", "PANIC")


def _unavailable(
    said: str,
    state: str | None,
    outcome: Outcome = Outcome.NOT_SENT,
    *,
    hint: str = "",
) -> StoreUnavailableError:
    known = state or ""
    hint = hint or _HINTS.get(known) or _HINTS.get(known[:2]) or "See whether the server is well."
    code = f" (SQLSTATE {state})" if state else ""
    words = " ".join(said.split()).rstrip(".")
    return StoreUnavailableError(
        f"PostgresSpend: {words}{code}.", hint=hint, outcome=outcome, code=state
    )
