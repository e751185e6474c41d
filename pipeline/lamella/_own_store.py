"""What layers that keep answers share: a store of their own, or the pipeline's, and its key."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from lamella._answer_shelves import check_key, refuse_unsigned
from lamella._layers import name_of
from lamella._ownership import release, use

if TYPE_CHECKING:
    from lamella._packing import Packing
    from lamella._stores import Stores


class OwnStore:
    """The base of a layer that keeps answers in a blob store: an attrs class with two fields.

    Attributes:
        store: The store that it was given; None is that of the pipeline.
        packing: How answers are packed, and signed where others can write to the store.
    """

    __slots__ = ()

    store: Any
    packing: Packing

    @property
    def own_stores(self) -> tuple[Any, ...]:
        """What it was given, and closes with the last layer that uses it."""
        return () if self.store is None else (self.store,)

    def __attrs_post_init__(self) -> None:
        """Count the layers that use a store of their own: it closes with the last of them."""
        if self.store is not None:
            refuse_unsigned(name_of(self), self.store, self.packing)
        for one in self.own_stores:
            use(one, self)

    def check_stores(self, stores: Stores) -> None:
        """Refuse the stores of a pipeline that is being built, if what is kept there is not signed.

        Raises:
            ConfigurationError: If others can write there, and there is no key.
        """
        if self.store is None:
            refuse_unsigned(name_of(self), stores.blobs, self.packing)

    async def check(self) -> None:
        """See that the key can be had and is one; `lamella test-config` asks this.

        Raises:
            ConfigurationError: If it is too short.
            SecretError: If it cannot be had.
        """
        await check_key(self.packing)

    async def aclose(self) -> None:
        """Close what is its own, once no other layer uses it."""
        async with AsyncExitStack() as stack:
            for one in self.own_stores:
                if release(one, self):
                    stack.push_async_callback(one.aclose)
