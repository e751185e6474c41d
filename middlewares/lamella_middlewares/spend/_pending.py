"""The records that wait: in order, a bounded number of them, each once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

from lamella import SpendRecord
from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.spend._at_exit import Holder, hold, let_go


class Pending:
    """Thread-safe. As long as something waits, the end of the process knows of its holder.

    Args:
        holder: Whose records they are.
        most: How many may wait; then the oldest go.

    Attributes:
        dropped: How many went.
    """

    __slots__ = ("_holder", "_lock", "_most", "_records", "dropped")

    def __init__(self, holder: Holder, most: int) -> None:
        self._holder = holder
        self._most = most
        self._lock = fork_safe_lock()
        self._records: OrderedDict[str, SpendRecord] = OrderedDict()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, id_: str | None) -> bool:
        return id_ in self._records

    def put(self, record: SpendRecord) -> None:
        """Append one."""
        records = self._records
        with self._lock:
            if not records:
                hold(self._holder)
            elif len(records) >= self._most:
                records.popitem(last=False)
                self.dropped += 1
            records[record.id] = record

    def first(self, number: int) -> list[SpendRecord]:
        """The oldest ones, which stay."""
        with self._lock:
            return list(islice(self._records.values(), number))

    def last(self) -> str | None:
        """The id of the newest one; None if nothing waits."""
        with self._lock:
            return next(reversed(self._records), None)

    def remove(self, records: Iterable[SpendRecord]) -> int:
        """They wait no more; how many still did: others may have gone, or been written, before."""
        gone = 0
        with self._lock:
            for record in records:
                gone += self._records.pop(record.id, None) is not None
            if not self._records:
                let_go(self._holder)
        return gone
