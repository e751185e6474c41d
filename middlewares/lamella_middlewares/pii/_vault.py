"""The values of one call, and what stands for them; and what may be asked of them."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NoReturn

from lamella import InspectionError
from lamella_middlewares.pii._placeholders import FORM, LITERAL, SHORTEST, Mint

if TYPE_CHECKING:
    import re

    from lamella_middlewares.pii._records import Vault
    from lamella_middlewares.pii._session import SessionVault

LAYER: Final = "pii"
FULL: Final = "vault"
"""The `inspector` of the error of a vault without room, which never lets anything pass."""

_STEP: Final = 2  # characters by which a token grows where a shorter one is taken


class CallVault:
    """The values of one call by their placeholders, and back.

    It is in nobody's reach but the layer's own, for as long as the call lasts: in no context, trace
    or request, it cannot be pickled, and its repr has numbers only.

    Args:
        mint: Makes the placeholders.
        bounds: How much it may hold.
        session: The values of the session's earlier calls; None where there are no sessions.

    Attributes:
        repeated: Live placeholders that stood in the request themselves.
    """

    __slots__ = ("_bounds", "_bytes", "_closed", "_placeholders", "_session", "_sorted",
                 "_values", "mint", "repeated")  # fmt: skip

    def __init__(self, mint: Mint, bounds: Vault, session: SessionVault | None = None) -> None:
        self.mint = mint
        self.repeated: set[str] = set()
        self._bounds = bounds
        self._session = session
        self._values: dict[str, str] = {}
        self._placeholders: dict[tuple[str, str], str] = {}
        self._sorted: list[str] | None = None
        self._bytes = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<CallVault with {len(self._values)} values>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A vault of personal data is not pickled, copied or sent anywhere.")

    def __len__(self) -> int:
        """How many placeholders are live: those of the call, and of the session."""
        count = len(self._values)
        return count if self._session is None else count + len(self._session)

    @property
    def values(self) -> dict[str, str]:
        """The values of this call by placeholder. Not to be written to."""
        return self._values

    def known(self, kind: str, value: str) -> str | None:
        """What stands for a value of the call; None if it is not one of them."""
        return self._placeholders.get((kind, value))

    def placeholder(self, kind: str, value: str) -> str:
        """What stands for a value, which is kept from now on.

        Raises:
            InspectionError: If there is no room for it.
        """
        found = self._placeholders.get((kind, value))
        if found is not None:
            return found
        digest = self.mint.digest(kind, value)
        length = SHORTEST
        made = self.mint.placeholder(kind, digest)
        while self._taken(made, value):  # by chance, once in a very long time
            length += _STEP
            made = self.mint.placeholder(kind, digest, length)
        self._make_room(value)
        self._values[made] = value
        self._placeholders[kind, value] = made
        self._sorted = None
        return made

    def live(self, placeholder: str) -> bool:
        """Whether it stands for a value, of this call or of the session's earlier ones."""
        if placeholder in self._values:
            return True
        return self._session is not None and placeholder in self._session

    def value(self, placeholder: str) -> str | None:
        """What a placeholder stands for; None if it is not live."""
        found = self._values.get(placeholder)
        if found is None and self._session is not None:
            found = self._session.open(placeholder)
        return found

    def begins(self, text: str) -> bool:
        """Whether a live placeholder begins with the text, which is not empty."""
        order = self._sorted
        if order is None:
            session = () if self._session is None else self._session
            order = self._sorted = sorted({*self._values, *session})
        place = bisect_left(order, text)
        return place < len(order) and order[place].startswith(text)

    def literal(self, text: str) -> str:
        """The text, where what only looks like a placeholder has one of its own."""

        def change(found: re.Match[str]) -> str:
            written = found[0]
            if self.live(written):
                self.repeated.add(written)
                return written
            return self.placeholder(LITERAL, written)

        return FORM.sub(change, text)

    def clear(self) -> None:
        """Forget everything, and take nothing more."""
        self._closed = True
        self._values.clear()
        self._placeholders.clear()
        self._sorted = None
        self._bytes = 0
        if self._session is not None:
            self._session.clear()

    def renewed(self) -> CallVault:
        """An empty one in its place; this one takes nothing more."""
        self._closed = True
        return CallVault(self.mint, self._bounds, self._session)

    def _taken(self, placeholder: str, value: str) -> bool:
        """Whether it stands for another value."""
        if placeholder in self._values:
            return True
        other = None if self._session is None else self._session.open(placeholder)
        return other is not None and other != value

    def _make_room(self, value: str) -> None:
        if self._closed:  # a thread that nobody waits for any longer
            raise InspectionError("PII was still looking into a call that is over.", layer=LAYER)
        bounds = self._bounds
        self._bytes += len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
        full = len(self._values) >= bounds.max_values
        if full or self._bytes > bounds.max_bytes:
            what = f"max_values={bounds.max_values}" if full else f"max_bytes={bounds.max_bytes}"
            error = InspectionError(
                f"PII found more in one request than its vault may hold ({what}).",
                hint="Raise the bound with PII(vault=Vault(...)), send less at once, or use the "
                'strategy "redact", which keeps nothing.',
                layer=LAYER,
            )
            error.inspector = FULL
            raise error
