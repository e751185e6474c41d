"""Where a layer keeps answers: by tenant and key, in a store that may be out, damaged or foreign.

Nothing here fails a call. What cannot be read is a miss, what cannot be written is not kept, and
both are counted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import attrs

from lamella._answer_codec import KeptAnswer
from lamella._ending import Ending
from lamella._packing import Packer, Packing
from lamella._ports import Ports
from lamella._requests import Request
from lamella._responses import Response
from lamella._stores import BlobInfo, BlobStore


@attrs.frozen
class Found:
    """What a look into the store gave.

    Attributes:
        answer: The answer, fresh or stale; None for a miss.
        why: Of a miss: `"absent"`, `"corrupt"`, `"foreign"`, `"outdated"` or `"unavailable"` (the
            store did not answer: do not ask it again for this call).
    """

    answer: KeptAnswer | None = None
    why: str = ""


class KeptAnswers:
    """The answers that a layer keeps in one store and namespace.

    Args:
        layer: The layer's name, the first word of every key.
        namespace: The second one: another one sees nothing of these.
        store: Where they are kept.
        packer: How they are packed.
    """

    def __init__(self, layer: str, namespace: str, store: BlobStore, packer: Packer) -> None:
        raise NotImplementedError

    def address(self, tenant: str, key: str) -> str:
        """The store's key of an answer: `LAYER:NAMESPACE:DIGEST OF THE TENANT:KEY`."""
        raise NotImplementedError

    async def get(self, address: str) -> Found:
        """What is kept there. Never raises; what cannot be read is deleted."""
        raise NotImplementedError

    async def get_many(self, addresses: Sequence[str]) -> Mapping[str, Found]:
        """Likewise of several, in one question; every address has something found."""
        raise NotImplementedError

    async def put(self, address: str, answer: KeptAnswer, *, ttl: float | None) -> str:
        """Keep an answer. Empty, or why it was not kept: `"too large"`, `"unavailable"`, ...

        Args:
            address: Where.
            answer: What; its tags and tenant are made tags of the store's entry.
            ttl: Seconds until the store may forget it; None for as long as there is room.
        """
        raise NotImplementedError

    async def put_many(
        self, answers: Mapping[str, KeptAnswer], *, ttl: float | None
    ) -> Mapping[str, str]:
        """Likewise of several with the same time to live: why not, for those that were not."""
        raise NotImplementedError

    async def delete(self, address: str) -> bool:
        """Forget one; False also if the store does not answer."""
        raise NotImplementedError

    async def purge(self, *, tenant: str | None = None, tag: str | None = None) -> int:
        """Forget all of a tenant, of a tag, of a tenant that have the tag, or simply all.

        Raises:
            StoreUnavailableError: If the store does not answer; nothing may be gone.
        """
        raise NotImplementedError

    def listed(
        self, *, tenant: str | None = None, tag: str | None = None
    ) -> AsyncIterator[tuple[BlobInfo, KeptAnswer | None]]:
        """What is kept, with what it is (None where it cannot be read).

        Raises:
            StoreUnavailableError: If the store does not answer.
        """
        raise NotImplementedError

    @property
    def tally(self) -> Tally:
        """What has been counted, by this process."""
        raise NotImplementedError


class Tally:
    """What a layer's memory has been good for: counts, tokens and money. Thread-safe.

    One for each (layer, namespace, store) of a process, kept in `ports.stores.local`. `KeptAnswers`
    counts misses, what it stores and what fails; a layer counts hits, for it knows whether it used
    what was found.
    """

    def hit(self, answer: KeptAnswer, *, stale: bool = False) -> None:
        """An answer has been used instead of a call."""
        raise NotImplementedError

    def miss(self, why: str) -> None:
        """There was none that could be used."""
        raise NotImplementedError


async def kept_answers(
    layer: str, namespace: str, store: BlobStore | None, packing: Packing, ports: Ports
) -> KeptAnswers:
    """The answers of a layer in the store (None: the pipeline's own), made once and kept.

    Raises:
        ConfigurationError: If the store is shared and the packing has no key.
        SecretError: If the key cannot be had.
    """
    raise NotImplementedError


def why_not_kept(
    request: Request[object], ending: Ending, *, truncated: bool = False, substitutes: bool = False
) -> str:
    """Why an answer may not be kept; empty if it may.

    Kept are answers that ended well, with `stop` or `tool_calls` in every choice (`length` too,
    with `truncated`), without a refusal, and that this very call's model turn has attempted: not
    what it shares with another call, and not what was replayed. One from a target that only stood
    in for another one is kept with `substitutes`.
    """
    raise NotImplementedError


def replayed(request: Request[object], answer: KeptAnswer, *, piece: int) -> Response:
    """A kept answer as the response to a request: complete, with `head.cached`.

    For a request that wants a stream, texts come in pieces of at most `piece` characters.
    """
    raise NotImplementedError
