"""Records of a log as JSON lines, chosen by whom and when they are about, with their proofs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella import AuditError
from lamella_middlewares.audit._heads import known_log_id
from lamella_middlewares.audit._keys import DigestKey
from lamella_middlewares.audit._prove import covering, find, paths_of, proof_of
from lamella_middlewares.audit._record import Record
from lamella_middlewares.audit._scan import Problem, table
from lamella_middlewares.audit._visit import bound_to

if TYPE_CHECKING:
    from lamella import Ports
    from lamella_middlewares.audit._envelope import Envelopes

_SEALED: Final = {"request_sealed": "request", "answer_sealed": "answer"}


@attrs.frozen
class Choice:
    """Which records are asked for; None takes any.

    Attributes:
        tenant: Of this tenant.
        user: Of this user.
        session: Of this session.
        call: Of this call.
        kinds: Of these kinds; empty takes all.
        since: Written at this instant or later, in microseconds since the epoch.
        until: Written before it.
        key: The digest key, where names are in the log as digests.
    """

    tenant: str | None = None
    user: str | None = None
    session: str | None = None
    call: str | None = None
    kinds: frozenset[str] = frozenset()
    since: int | None = None
    until: int | None = None
    key: DigestKey | None = attrs.field(default=None, repr=False)

    def __call__(self, segment: str, record: Record) -> bool:
        """Whether a record is asked for."""
        at = record["at"]
        return (
            (not self.kinds or record["kind"] in self.kinds)
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (self.call is None or record.get("call") == self.call)
            and all(self._is(record, what) for what in ("tenant", "user", "session"))
        )

    def _is(self, record: Record, what: str) -> bool:
        wanted: str | None = getattr(self, what)
        if wanted is None:
            return True
        found = record.get(what)
        if found == wanted:
            return True
        return self.key is not None and found == self.key.identity(what, self.tenant, wanted)


@attrs.frozen
class Exported:
    """What an export has come upon besides records.

    Attributes:
        problems: The first bad record of each segment; what comes after it is not exported.
        records: How many records were given.
    """

    problems: list[Problem] = attrs.field(factory=list[Problem])
    records: list[int] = attrs.field(factory=lambda: [0])


async def export(
    directory: str | Path,
    choice: Choice,
    ports: Ports,
    *,
    proofs: bool = False,
    envelopes: Envelopes | None = None,
    told: Exported | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """The records that are asked for, in the order of the log.

    Args:
        directory: The log's.
        choice: Which.
        ports: The doors to the world.
        proofs: Whether each has its `proof`, to the earliest head that covers it.
        envelopes: Opens what is sealed; None leaves it sealed. Content whose key was erased is
            `"erased"`.
        told: Is told of what was come upon.

    Raises:
        ConfigurationError: If there is no log.
        AuditError: If sealed content is not what was sealed, or was sealed with another secret.
    """
    place = Path(directory)
    log = await ports.thread(known_log_id, place)
    for path in await ports.thread(paths_of, place):
        seen, records = await ports.thread(find, path, log, choice)
        if told is not None and seen.problem is not None:
            told.problems.append(seen.problem)
        heads = [covering([head.head for head in seen.heads], seen)]
        for one in records:
            found: dict[str, Any] = {"segment": one.segment, **one.record}
            if envelopes is not None:
                await _open(found, envelopes, ports, log)
            if proofs:
                found["proof"] = proof_of(seen, one, heads)
            if told is not None:
                told.records[0] += 1
            yield found


async def _open(found: dict[str, Any], envelopes: Envelopes, ports: Ports, log: str | None) -> None:
    """Put content in the place of what is sealed."""
    for name, what in _SEALED.items():
        sealed = table(found.get(name))
        if not sealed:
            continue
        bound = bound_to(log, what, str(found.get("call")), str(found.get("branch")))
        content = await envelopes.open(ports, sealed, bound)
        if content is None:
            found[what] = "erased"
            continue
        try:
            found[what] = json.loads(content.decode("utf-8", "surrogatepass"))
        except ValueError:
            raise AuditError("Sealed content of an audit record is no JSON.") from None
        del found[name]
