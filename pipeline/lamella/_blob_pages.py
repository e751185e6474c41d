"""What a blob store lists, page by page: who stops in the middle closes what he reads from."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from lamella._stores import Blob, BlobInfo, BlobStore

PAGE: Final = 100
"""Values that are read at a time."""


async def infos(store: BlobStore, prefix: str, tag: str | None) -> AsyncGenerator[BlobInfo]:
    """What is kept with the prefix and the tag; something may come more than once.

    Raises:
        StoreUnavailableError: If the store does not answer.
    """
    cursor = ""
    while True:
        page = await store.entries(prefix=prefix, tag=tag, cursor=cursor)
        for info in page.entries:
            yield info
        cursor = page.cursor
        if not cursor:
            return


async def blobs(
    store: BlobStore, prefix: str, tag: str | None
) -> AsyncGenerator[tuple[BlobInfo, Blob]]:
    """Likewise with what it is, and each once; without what has gone meanwhile.

    Raises:
        StoreUnavailableError: If the store does not answer.
    """
    seen: set[str] = set()
    some: dict[str, BlobInfo] = {}
    async with aclosing(infos(store, prefix, tag)) as listing:
        async for info in listing:
            if info.key not in seen:
                seen.add(info.key)
                some[info.key] = info
            if len(some) >= PAGE:
                for key, blob in (await store.get_many(list(some))).items():
                    yield some[key], blob
                some = {}
    if some:
        for key, blob in (await store.get_many(list(some))).items():
            yield some[key], blob
