"""What was found in texts seen before, so that a conversation is not scanned again at each turn."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from lamella import Finding
from lamella._fork_locks import fork_safe_lock

Findings = tuple[Finding, ...]

_PLACES: Final = 8
"""A long list of findings takes the room of several entries: one for each so many."""


class KeptFindings:
    """Findings by the keyed digest of their text: spans and kinds, never a text. Thread-safe.

    Keep one for a process, `stores.local.get((...), lambda: KeptFindings(key))`: whoever reads its
    memory without the key cannot test whether a text was there.

    Args:
        key: Random bytes of this process, 16 to 64.
        max_entries: How many texts are remembered; the least recently used goes first. One with
            many findings counts as several.
    """

    def __init__(self, key: bytes, *, max_entries: int = 10_000) -> None:
        if not 16 <= len(key) <= 64:
            raise ValueError(f"KeptFindings: a key of {len(key)} bytes; give 16 to 64 random ones.")
        if max_entries < 1:
            raise ValueError(f"KeptFindings: max_entries {max_entries!r} must be at least 1.")
        self._key = key
        self._max_entries = max_entries
        self._lock = fork_safe_lock()
        self._found: OrderedDict[bytes, Findings] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._found)

    def digest(self, mark: bytes, text: str) -> bytes:
        """What a text is kept under, for the scanner with this mark."""
        content = text.encode("utf-8", "surrogatepass")
        return blake2b(content, digest_size=16, key=self._key, person=mark).digest()

    def get(self, digest: bytes) -> Findings | None:
        """What was found; None if it is not known."""
        with self._lock:
            found = self._found.get(digest)
            if found is not None:
                self._found.move_to_end(digest)
            return found

    def put(self, digest: bytes, findings: Findings) -> None:
        """Remember what was found, unless it alone would take more than an eighth of the room."""
        size = _size(findings)
        if size * 8 > max(self._max_entries, 8):
            return
        with self._lock:
            old = self._found.pop(digest, None)
            self._size += size - (0 if old is None else _size(old))
            self._found[digest] = findings
            while self._size > self._max_entries:
                self._size -= _size(self._found.popitem(last=False)[1])


def _size(findings: Findings) -> int:
    return 1 + len(findings) // _PLACES
