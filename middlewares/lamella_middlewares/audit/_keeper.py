"""What the layers of a process share about one log: its keys, its heads, and what it is owed."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from lamella import AuditError, ClosedError, PartHealth, Secret
from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.audit._debts import Debts, Owed
from lamella_middlewares.audit._envelope import Envelopes, KeyFiles, KeyStore
from lamella_middlewares.audit._heads import Heads, head_digest, log_id, make_head
from lamella_middlewares.audit._keys import DigestKey, Signer, succession
from lamella_middlewares.audit._log import AuditLog
from lamella_middlewares.audit._payload import Fields, micros
from lamella_middlewares.audit._queue import Entry
from lamella_middlewares.audit._sinks import export
from lamella_middlewares.audit._turn import Turn

if TYPE_CHECKING:
    from lamella import Background, Context, Ports

KEY_SECONDS: Final = 60.0
"""How long the digest key is used before its secret is read again."""

OUTCOME_SECONDS: Final = 0.8
"""How long the end of a call waits until its outcome is durable."""


class Keeper:
    """One log as a process has it.

    Args:
        log: Where records go.
        heads: How often there are heads, and who is given them.
        signers: The secrets of the keys that sign heads: the last one does, the others vouch.
        key: The secret of the digest key.
        seal: The secret that subjects' keys are wrapped with.
        subject_keys: Where those are kept.
    """

    def __init__(
        self,
        log: AuditLog,
        heads: Heads,
        signers: Sequence[Secret],
        *,
        key: Secret | None,
        seal: Secret | None,
        subject_keys: Path | KeyStore | None,
    ) -> None:
        self.log = log
        self.heads = heads
        self._seconds: float = cast("float", heads.seconds)  # converted
        self.log_id: str | None = None
        self.envelopes: Envelopes | None = None
        self.digests: DigestKey | None = None
        self._secrets = tuple(signers)
        self._signers: tuple[Signer, ...] | None = None
        self._key, self._key_until = key, 0.0
        self._seal, self._subject_keys = seal, subject_keys
        self._lock = fork_safe_lock()
        self._turn = Turn()
        self.debts = Debts(log, self._written_one)
        self.failed_sinks: dict[str, str] = {}
        self.head_problem: str | None = None
        self._begin()

    def _begin(self) -> None:
        """Nothing has happened yet; also for a forked child, whose segment is another one."""
        self._process = os.getpid()
        self._since = 0
        self._due: float | None = None
        self._asked = False
        self._last: tuple[str, str] | None = None
        self._pending: tuple[Entry, Mapping[str, Any]] | None = None
        self._unsent: Mapping[str, Any] | None = None
        self._vouched: str | None = None

    def _after_fork(self) -> None:
        if self._process != os.getpid():
            self._turn.forget()
            self.debts.forget()
            self._begin()

    # --- keys --------------------------------------------------------------------------------

    async def prepare(self, ports: Ports) -> None:
        """See that what is needed for a record is there: the log's id and the keys.

        Raises:
            SecretError: If a secret cannot be read, or is none.
            OSError: If the log's id can be neither read nor written.
        """
        self._after_fork()
        if self.log_id is None:
            await self._identify(ports)
        if self._key is not None and ports.monotonic() >= self._key_until:
            text = await self._key.fetch()
            self.digests = DigestKey.of(text)
            self._key_until = ports.monotonic() + KEY_SECONDS

    async def _identify(self, ports: Ports) -> None:
        if self._seal is not None and self._subject_keys is not None:
            place = self._subject_keys
            keys = KeyFiles(place) if isinstance(place, Path) else place
            self.envelopes = Envelopes(await self._seal.fetch(), keys)
        texts = [await secret.fetch() for secret in self._secrets]
        # In a thread: the first use of a key loads a large library.
        self._signers = await ports.thread(lambda: tuple([Signer.of(text) for text in texts]))
        self.log_id = await ports.thread(log_id, self.log.directory, ports.new_id)

    # --- records -----------------------------------------------------------------------------

    def enter(self, context: Context, kind: str, fields: Mapping[str, Any]) -> Entry:
        """Queue a record; once it is `durable`, there will be a head over it.

        Raises:
            AuditError: If too many wait.
            TypeError: If it has no canonical form.
            ValueError: Likewise, or if it is too large.
        """
        return self.log.enter(context.ports, kind, fields)

    async def durable(self, context: Context, entry: Entry) -> None:
        """Wait for a record, and see to it that there will be a head over it.

        Raises:
            AuditError: If it could not be written.
        """
        await entry.durable()
        self._count(context.ports, context.background)

    async def finish(
        self, context: Context, fields: Fields, more: Callable[[Fields], Awaitable[None]]
    ) -> bool:
        """Write the outcome of a request; whether it is durable now.

        It takes `OUTCOME_SECONDS` at most. What cannot be written now is owed; it never raises
        because of the log.

        Args:
            context: Of the request.
            fields: What is known of it at once.
            more: Adds to that what has to be waited for, one thing after another.
        """
        owed = Owed(fields)
        try:
            with anyio.move_on_after(OUTCOME_SECONDS):
                await more(fields)
                owed.entry = self.debts.enter(context.ports, owed.fields)
                await self.durable(context, owed.entry)
                return True
        except AuditError:
            owed.entry = None
            self.debts.owe(context, owed)
            return False
        except BaseException:  # asyncio's Task.cancel() goes through shields
            self.debts.owe(context, owed)
            raise
        self.debts.owe(context, owed)
        return False

    # --- heads -------------------------------------------------------------------------------

    def _written_one(self) -> None:
        self._since += 1

    def _count(self, ports: Ports, background: Background) -> None:
        """One more record that no head covers yet."""
        now, seconds = ports.monotonic(), self._seconds
        with self._lock:
            self._since += 1
            first = self._due is None
            # One that is long overdue was to be made on a loop that has ended.
            overdue = self._due is not None and now > self._due + 1.0
            at_once = overdue or (self._since >= self.heads.every and not self._asked)
            if first or overdue:
                self._due = now + seconds
            if at_once:
                self._asked = True
        if not (first or at_once):
            return
        with suppress(ClosedError):  # closing makes one
            wait = 0.0 if at_once else seconds
            background.spawn(self._head_after, ports, wait, name="audit head")

    async def _head_after(self, ports: Ports, wait: float) -> None:
        if wait:
            await ports.sleep(wait)
            if self._due is None or ports.monotonic() < self._due:
                return  # there has been one meanwhile
        await self.head(ports)

    async def head(self, ports: Ports) -> Mapping[str, Any] | None:
        """Make a head, write it down, and hand it to the sinks; None if that is not possible."""
        async with self._turn:
            covered = self._since
            try:
                head = await self._written(ports)
            except (AuditError, OSError) as error:
                self.head_problem = type(error).__name__
                return None
            finally:
                with self._lock:
                    self._asked, self._due = False, None
            with self._lock:
                self._since -= covered
            self.head_problem = None
            await self._send(ports)
        return head

    async def _send(self, ports: Ports) -> None:
        """Hand the newest head to the sinks, unless they all have it."""
        head = self._unsent
        if head is not None:
            self.failed_sinks = await export(ports, head, self.heads.sinks)
            if not self.failed_sinks:
                self._unsent = None

    async def _written(self, ports: Ports) -> Mapping[str, Any] | None:
        if self._pending is not None:  # who made it was cancelled; it is written all the same
            entry, head = self._pending
            try:
                await entry.durable()
            except AuditError:
                self._last = None
            else:
                self._unsent = head
            self._pending = None
        root = self.log.root()
        if root is None or self.log_id is None:
            return None
        signers = self._signers or ()
        if len(signers) > 1 and self._vouched != root.segment:
            await self._vouch(ports, signers)
            root = self.log.root() or root
            self._vouched = root.segment
        last = self._last
        if last is None or last[0] != root.segment:  # perhaps somebody has removed the directory
            await ports.thread(log_id, self.log.directory, ports.new_id, self.log_id)
        head = make_head(
            root,
            log=self.log_id,
            at=micros(ports.wall()),
            previous=last[1] if last is not None and last[0] == root.segment else None,
            signer=signers[-1] if signers else None,
        )
        entry = self.log.enter(ports, "head", {"head": head})
        self._pending = (entry, head)
        before, self._last = self._last, (root.segment, head_digest(head))
        try:
            position = await entry.durable()
        except AuditError:
            self._pending, self._last = None, before
            raise
        self._pending, self._unsent = None, head
        if position is not None and position.segment != root.segment:
            self._last = None  # the next one is the first of its segment
        return head

    async def _vouch(self, ports: Ports, signers: Sequence[Signer]) -> None:
        """Write down which key follows which."""
        for old, new in pairwise(signers):
            statement = succession(old, new, log=self.log_id or "", at=micros(ports.wall()))
            await self.log.append(ports, "key", {"succession": statement})

    # --- the end -----------------------------------------------------------------------------

    async def close(self, ports: Ports) -> None:
        """Write what is owed, make a last head, and end the segment.

        Raises:
            AuditError: If something could not be written.
        """
        self._after_fork()
        settled = await self.debts.settle(ports)
        if self.log.root() is None:
            if settled:
                return
        else:
            if self._since or self._pending is not None:
                await self.head(ports)
            async with self._turn:
                await self._send(ports)
            await self.log.aclose(ports)
            self._last = None
        if not settled:
            msg = (
                f"{len(self.debts)} outcomes could not be written to the audit log at its closing."
            )
            hint = "They have an intent there and no outcome. See why the directory takes no more."
            raise AuditError(msg, hint=hint, layer="audit")

    def health(self) -> PartHealth:
        """How the log is: unwell while something cannot be written or handed on."""
        problem = self.log.problem
        detail: dict[str, Any] = {
            "waiting": self.log.waiting,
            "owed": len(self.debts),
            "lost": sum(self.debts.lost.values()),
            "problem": problem,
            "head_problem": self.head_problem,
            "failed_sinks": dict(self.failed_sinks),
        }
        bad = problem or detail["owed"] or detail["lost"] or self.head_problem or self.failed_sinks
        return PartHealth(well=not bad, detail=detail)
