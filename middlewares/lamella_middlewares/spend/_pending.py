"""The records that wait: in order, a bounded number of them, each once."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice

from lamella import SpendRecord
from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.spend._at_exit import Holder, hold, let_go


class Pending:
    """Thread-safe. As long as something waits, the end of the process knows of its holder.

    A record may come from a finaliser, which runs in the middle of anything: of what is done here
    under the lock, too. So `put` never waits for the lock; whoever has it next takes the record in.

    Args:
        holder: Whose records they are.
        most: How many may wait; then the oldest go.

    Attributes:
        dropped: How many went.
    """

    __slots__ = ("_holder", "_lock", "_most", "_new", "_records", "dropped")

    def __init__(self, holder: Holder, most: int) -> None:
        self._holder = holder
        self._most = most
        self._lock = fork_safe_lock()
        self._new: deque[SpendRecord] = deque()
        self._records: OrderedDict[str, SpendRecord] = OrderedDict()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._records) + len(self._new)

    def __contains__(self, id_: str | None) -> bool:
        with self._lock:
            self._take_in()
            return id_ in self._records

    def put(self, record: SpendRecord) -> None:
        """Append one."""
        self._new.append(record)
        hold(self._holder)
        if self._lock.acquire(blocking=False):
            try:
                self._take_in()
            finally:
                self._lock.release()

    def first(self, number: int) -> list[SpendRecord]:
        """The oldest ones, which stay."""
        with self._lock:
            self._take_in()
            return list(islice(self._records.values(), number))

    def last(self) -> str | None:
        """The id of the newest one; None if nothing waits."""
        with self._lock:
            self._take_in()
            return next(reversed(self._records), None)

    def remove(self, records: Iterable[SpendRecord]) -> int:
        """They wait no more; how many still did: others may have gone, or been written, before."""
        gone = 0
        with self._lock:
            self._take_in()
            for record in records:
                gone += self._records.pop(record.id, None) is not None
            if not self._records:
                let_go(self._holder)
                if self._new:  # one has come in between
                    hold(self._holder)
        return gone

    def _take_in(self) -> None:
        """Put what has come in its place; under the lock."""
        new, records = self._new, self._records
        while new:
            record = new.popleft()
            records[record.id] = record
            if len(records) > self._most:
                records.popitem(last=False)
                self.dropped += 1
