"""One event loop's connection to the server: opened when needed, replaced when it fails.

Commands of many tasks share it: they are sent as they come and answered in that order, so that one
is enough, and a task that gives up waiting takes nothing from the others: its answer is read and
dropped. The connection lives in a task of its own, which no caller's cancellation reaches.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
from coredis import exceptions as theirs
from coredis.typing import RedisError

from lamella import LamellaError, Outcome, StoreUnavailableError
from lamella._loops import current_loop
from lamella_redis._address import Address
from lamella_redis._scripts import Script
from lamella_redis._texts import encoded

if TYPE_CHECKING:
    from coredis.connection import BaseConnection
    from coredis.connection._request import Request

T = TypeVar("T")

SUSPECT: Final = 0.25
"""Seconds without an answer after which a connection that was waited for in vain is replaced."""

_TRIES: Final = 4
_UNDONE: Final = (
    theirs.ReadOnlyError,
    theirs.ClusterDownError,
    theirs.BusyLoadingError,
    theirs.AuthenticationError,
    theirs.AuthorizationError,
)
"""What the server answers instead of doing anything."""


class _Attempt:
    """One connection, from before its first packet to its end."""

    def __init__(self) -> None:
        self.settled = anyio.Event()
        self.ended = anyio.Event()
        self.scope = anyio.CancelScope()
        self.connection: BaseConnection | None = None
        self.error: Exception | None = None

    def started(self, value: object = None) -> None:
        """The connection says that it can be used."""
        self.settled.set()

    def end(self) -> None:
        """Close it."""
        stream = self.connection.stream if self.connection is not None else None
        if self.settled.is_set() or stream is None:
            self.scope.cancel()
        else:
            # The client takes a closed stream for a lost connection. To be cancelled in the middle
            # of the greeting it would report as a failure of its own.
            current_loop().spawn(stream.aclose, "lamella redis connection")

    @property
    def usable(self) -> bool:
        """Whether commands can be sent."""
        return self.connection is not None and self.connection.usable


class Link:
    """A loop's connection.

    Args:
        address: Where to.
        timeout: Seconds for an answer.
        connect_timeout: Seconds for connecting, and as many for the greeting.
    """

    def __init__(self, address: Address, timeout: float, connect_timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._attempt: _Attempt | None = None
        self._moved: tuple[str, int] | None = None
        self._unanswered: tuple[float, Request] | None = None

    async def run(self, script: Script, keys: Sequence[str], words: Sequence[str | bytes]) -> Any:
        """What a script returns.

        It may run twice if its answer is lost: the scripts are idempotent.

        Raises:
            StoreUnavailableError: If the server cannot be reached, does not answer or refuses. Its
                outcome says whether the script may have run.
        """
        arguments = [b"%d" % len(keys), *map(_word, keys), *map(_word, words)]

        async def evaluate(connection: BaseConnection) -> Any:
            try:
                return await self._ask(connection, b"EVALSHA", script.digest, *arguments)
            except theirs.NoScriptError:  # a fresh server, or SCRIPT FLUSH
                return await self._ask(connection, b"EVAL", script.source, *arguments)

        return await self._tried(evaluate)

    async def field(self, key: str, name: str) -> bytes | None:
        """A field of a hash; None without it. See `run` for the errors."""

        async def get(connection: BaseConnection) -> bytes | None:
            found: bytes | None = await self._ask(connection, b"HGET", encoded(key), name)
            return found

        return await self._tried(get)

    async def scan(self, command: bytes, *words: str | bytes) -> tuple[bytes, list[bytes]]:
        """One step of a SCAN, or of one of its kind: the next cursor, and what was found.

        Args:
            command: Which one.
            *words: The key, if it has one, the cursor and the options.

        Raises:
            StoreUnavailableError: As `run` does.
        """

        async def step(connection: BaseConnection) -> tuple[bytes, list[bytes]]:
            cursor, found = await self._ask(connection, command, *map(_word, words))
            return cursor, list(found)

        return await self._tried(step)

    async def command(self, name: bytes, *words: str | bytes) -> Any:
        """What the server answers to a command that it may be told twice.

        Raises:
            StoreUnavailableError: As `run` does; what the server has said instead of an answer is
                its cause.
        """

        async def ask(connection: BaseConnection) -> Any:
            return await self._ask(connection, name, *map(_word, words))

        return await self._tried(ask)

    async def ping(self) -> None:
        """Ask for a sign of life; see `run` for the errors."""

        async def ping(connection: BaseConnection) -> None:
            await self._ask(connection, b"PING")

        await self._tried(ping)

    def cancel(self) -> None:
        """Close the connection."""
        if self._attempt is not None:
            self._attempt.end()

    async def aclose(self) -> None:
        """Close the connection and wait until it is."""
        attempt = self._attempt
        if attempt is not None:
            attempt.end()
            await attempt.ended.wait()

    # --- commands ----------------------------------------------------------------------------

    async def _tried(self, send: Callable[[BaseConnection], Awaitable[T]]) -> T:
        """Send on the connection to the right node; again on a new one if this one is lost."""
        error: Exception | None = None
        for _ in range(_TRIES):
            connection = await self._connected()
            try:
                return await send(connection)
            except theirs.AskError as elsewhere:
                if not isinstance(elsewhere, theirs.MovedError):
                    raise self._refused(elsewhere, connection) from elsewhere
                error = elsewhere
                self._moved = (elsewhere.host, elsewhere.port)
                self._drop(connection)
            except theirs.BusyLoadingError as busy:  # a ConnectionError, too
                raise self._refused(busy, connection) from busy
            except TimeoutError as late:
                self._drop(connection)
                raise _unavailable(f"no answer in {self._timeout:g} s", late) from late
            except Exception as lost:  # whatever broke the connection reaches all who waited
                if isinstance(lost, RedisError) and not isinstance(lost, theirs.ConnectionError):
                    raise self._refused(lost, connection) from lost
                self._drop(connection)
                if error is not None and not isinstance(error, theirs.AskError):
                    raise _unavailable(str(lost) or type(lost).__name__, lost) from lost
                error = lost
        raise _unavailable("the keys move from node to node", error) from error

    async def _ask(self, connection: BaseConnection, command: bytes, *words: Any) -> Any:
        request = connection.create_request(command, *words, decode=False, timeout=self._timeout)
        sent = anyio.current_time()
        try:
            return await request
        except RedisError:
            raise
        except BaseException:  # given up; whether that was the server's fault will be seen
            if self._unanswered is None or self._unanswered[1].complete:
                self._unanswered = sent, request
            raise

    def _refused(self, error: Exception, connection: BaseConnection) -> StoreUnavailableError:
        """What the server has said instead of an answer, as an error of ours."""
        if isinstance(error, theirs.ReadOnlyError):  # what was the primary is none any more
            self._moved = None
            self._drop(connection)
        outcome = Outcome.NOT_SENT if isinstance(error, _UNDONE) else Outcome.UNKNOWN
        return _unavailable(str(error) or type(error).__name__, error, outcome)

    # --- the connection ----------------------------------------------------------------------

    async def _connected(self) -> BaseConnection:
        """A connection that can be used."""
        attempt = self._attempt
        if attempt is not None and self._is_over(attempt):
            self._drop(attempt.connection)
            attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = _Attempt()
            self._unanswered = None
            current_loop().spawn(self._keeper(attempt), "lamella redis connection")
        if not attempt.settled.is_set():
            await attempt.settled.wait()
        if attempt.connection is None or not attempt.usable:
            raise _not_connected(attempt.error)
        return attempt.connection

    def _is_over(self, attempt: _Attempt) -> bool:
        if not attempt.settled.is_set():
            return False
        if self._unanswered is None:
            return not attempt.usable
        since, request = self._unanswered
        late = anyio.current_time() - since > SUSPECT and not request.complete
        return late or not attempt.usable

    def _drop(self, connection: BaseConnection | None) -> None:
        """Have nothing to do with this connection any more."""
        attempt = self._attempt
        if attempt is not None and attempt.connection is connection:
            self._attempt = self._unanswered = None
            attempt.end()

    def _keeper(self, attempt: _Attempt) -> Callable[[], Awaitable[None]]:
        moved = self._moved

        async def keep() -> None:
            try:
                with attempt.scope:
                    await self._keep(attempt, moved)
            except Exception as error:  # noqa: BLE001 - told to those who wait for it
                attempt.error = error
            finally:
                if moved is not None and self._moved == moved and not attempt.settled.is_set():
                    self._moved = None  # that node is gone: ask another one where the keys are
                attempt.settled.set()
                attempt.ended.set()

        return keep

    async def _keep(self, attempt: _Attempt, moved: tuple[str, int] | None) -> None:
        """Open the connection and stay until it ends."""
        limit = self._connect_timeout
        with anyio.move_on_after(limit):
            attempt.connection = await self._address.connection(moved)
        connection = attempt.connection
        if connection is None:
            raise TimeoutError(f"no connection in {limit:g} s")
        loop = current_loop()

        def give_up() -> None:
            if not attempt.settled.is_set():
                attempt.end()

        take_back = loop.call_at(loop.now() + limit, give_up)
        try:
            await connection.run(task_status=attempt)
        finally:
            take_back()


def _word(word: str | bytes) -> bytes:
    """A word as bytes: the client's own encoding of some text fails, and takes all others along."""
    return word if isinstance(word, bytes) else encoded(word)


def _not_connected(error: Exception | None) -> LamellaError:
    if isinstance(error, LamellaError):  # its secret is not there: the program has to be mended
        return error.copy()
    words = "the connection was closed" if error is None else str(error) or type(error).__name__
    cause = None if error is None else error.__cause__
    if cause is not None:
        why = str(cause) or type(cause).__name__
        if why not in words:  # as where it was said why nobody can be reached
            words = f"{words.rstrip('.')} ({why})"
    found = _unavailable(words, error, Outcome.NOT_SENT)
    found.__cause__ = error
    return found


def _unavailable(
    what: str, error: Exception | None, outcome: Outcome = Outcome.UNKNOWN
) -> StoreUnavailableError:
    code = None if error is None else type(error).__name__
    return StoreUnavailableError(f"Redis: {what.rstrip('.')}.", outcome=outcome, code=code)
