"""The values of a session, kept sealed in a store between its calls.

Each value is an entry of its own, under its placeholder, so that calls of one session at the same
time, in whatever processes, lose nothing of each other's. Entries are opened when somebody is to
get the value back, and not before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from lamella import InspectionError, LamellaError, StoreUnavailableError
from lamella_middlewares.pii._placeholders import packed

if TYPE_CHECKING:
    from lamella import Blob, BlobStore, Context
    from lamella_middlewares.pii._keys import Keys
    from lamella_middlewares.pii._records import Vault

T = TypeVar("T")

_HOME: Final = "shared/pii"
_REFRESHED: Final = 0.25
"""The part of its time after which an entry that is used again is written again."""


class SessionVault:
    """The values of one session, as one call sees them.

    Args:
        keys: What values are sealed with.
        tenant: Whose session it is.
        session: Which session.
        bounds: How much it may hold, and for how long.
    """

    __slots__ = ("_associated", "_bounds", "_entries", "_keys", "_place", "tag", "unreadable")

    def __init__(self, keys: Keys, tenant: str | None, session: str, bounds: Vault) -> None:
        self._keys = keys
        self._bounds = bounds
        self._associated = packed("1", tenant, session)
        self.tag = tag_of(keys, tenant, session)
        self._place = f"{_HOME}/{_digest(keys, 'tenant', tenant)}/{self.tag}/"
        self._entries: dict[str, Blob] = {}
        self.unreadable = 0  # entries that are not what this key has sealed for this session

    def __repr__(self) -> str:
        return f"<SessionVault with {len(self._entries)} values>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, placeholder: str) -> bool:
        return placeholder in self._entries

    def open(self, placeholder: str) -> str | None:
        """The value behind a placeholder; None if there is none, or somebody has written to it."""
        entry = self._entries.get(placeholder)
        if entry is None:
            return None
        from cryptography.exceptions import InvalidTag

        try:
            data: bytes = self._keys.seal.decrypt(entry.data, self._context(placeholder))
        except (InvalidTag, ValueError):
            del self._entries[placeholder]
            self.unreadable += 1
            return None
        return data.decode("utf-8", "surrogatepass")

    async def load(self, context: Context) -> None:
        """Read what the session's earlier calls have kept.

        Raises:
            StoreUnavailableError: If the store does not answer in time.
        """
        blobs = context.ports.stores.blobs
        found: Mapping[str, Blob] = await self._bounded(
            context, lambda: blobs.tagged(self.tag), "read"
        )
        here = len(self._place)
        self._entries = {
            key[here:]: blob for key, blob in found.items() if key.startswith(self._place)
        }

    async def keep(
        self, context: Context, values: Mapping[str, str], repeated: Iterable[str] = ()
    ) -> None:
        """Write down a call's values: new ones, and those that would soon be forgotten.

        Args:
            context: The call's.
            values: The values that were masked in it, by placeholder.
            repeated: Placeholders that stood in it themselves.

        Raises:
            StoreUnavailableError: If the store does not answer in time.
            InspectionError: If the session has more values than it may.
        """
        again = [one for one in repeated if one in self._entries and one not in values]
        due = [one for one in (*values, *again) if self._is_due(one)]
        if not due:
            return
        new = sum(one not in self._entries for one in due)
        if len(self._entries) + new > self._bounds.max_values:
            error = InspectionError(
                "PII found more in one session than its vault may hold "
                f"(max_values={self._bounds.max_values}).",
                hint="Raise it with PII(vault=Vault(...)), or begin a new session.",
                layer="pii",
            )
            error.inspector = "vault"
            raise error
        blobs = context.ports.stores.blobs
        await self._bounded(context, lambda: self._write(blobs, due, values), "written")

    def _is_due(self, placeholder: str) -> bool:
        entry = self._entries.get(placeholder)
        return entry is None or entry.age > float(self._seconds) * _REFRESHED

    async def _write(self, blobs: BlobStore, due: list[str], values: Mapping[str, str]) -> None:
        """Keep all of them at once: it costs one question to the store, not one for each value."""
        entries = {self._place + each: self._sealed(each, values) for each in due}
        await blobs.put_many(entries, ttl=self._seconds, tags=frozenset({self.tag}))

    def _sealed(self, placeholder: str, values: Mapping[str, str]) -> bytes:
        kept = self._entries.get(placeholder)
        if kept is not None:
            return kept.data
        data = values[placeholder].encode("utf-8", "surrogatepass")
        sealed: bytes = self._keys.seal.encrypt(data, self._context(placeholder))
        return sealed

    async def _bounded(self, context: Context, work: Callable[[], Awaitable[T]], what: str) -> T:
        """Ask the store, for as long as that may take."""
        timeout = float(self._bounds.timeout)  # type: ignore[arg-type]
        failure = f"did not answer within {timeout:g} s"
        retry_after: float | None = None

        async def in_time() -> tuple[T] | None:
            with anyio.move_on_after(timeout):
                return (await work(),)
            return None

        try:
            found = await context.wait(in_time, what="PII asked for its session's vault")
            if found is not None:
                return found[0]
        except StoreUnavailableError as error:
            failure, retry_after = "does not answer", error.retry_after
        except LamellaError:
            raise
        except Exception as error:  # noqa: BLE001 - a store may raise anything
            failure = f"failed with {type(error).__name__}"
        # Not inside the handler: what the store says may quote what it was given.
        raise StoreUnavailableError(
            f"The session's vault could not be {what}: the store {failure}.",
            hint='Mend the store; or PII(on_failure="pass"), which goes on without the values of '
            "earlier calls.",
            layer="pii",
            retry_after=retry_after,
        )

    @property
    def _seconds(self) -> float:
        return float(self._bounds.ttl)  # type: ignore[arg-type]

    def _context(self, placeholder: str) -> list[bytes]:
        return [self._associated, placeholder.encode()]

    def clear(self) -> None:
        """Forget what has been read."""
        self._entries.clear()


def tag_of(keys: Keys, tenant: str | None, session: str) -> str:
    """The tag of all that is kept of a session; it says neither whose it is nor which."""
    return _digest(keys, "session", packed(tenant, session).hex())


def _digest(keys: Keys, what: str, text: str | None) -> str:
    import hmac

    return hmac.digest(keys.tokens, packed("vault", what, text), "sha256")[:16].hex()


async def forget(blobs: Any, keys: Keys, tenant: str | None, session: str) -> int:
    """Erase all that is kept of a session; how many values that were."""
    erased: int = await blobs.purge(tag=tag_of(keys, tenant, session))
    return erased
