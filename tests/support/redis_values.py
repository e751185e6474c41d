"""Stores of values on a Valkey, each of its own, and what they have there."""

from __future__ import annotations

import itertools
from typing import Any

from redis_peers import Valkey

from lamella_redis import RedisBlobs
from lamella_redis._scripts import Keeping, Script, keeping

NUMBERS = itertools.count()
START = 1_700_000_000
TAG = frozenset({"tag"})


class Timed(RedisBlobs):
    """The store on a clock that the test moves, which the server keeps as well."""

    def _script(self, operation: Keeping) -> Script:
        text = keeping(operation).source.decode()
        assert text.count("redis.call('TIME')") == 1
        clock = f"redis.call('HMGET', '{self._prefix}clock', 's', 'us')"
        return Script.of(text.replace("redis.call('TIME')", clock))

    async def set_clock(self, microseconds: int) -> None:
        seconds, rest = divmod(microseconds, 1_000_000)
        words = ("HSET", f"{self._prefix}clock", "s", str(seconds), "us", str(rest))
        await command(self, *words)


async def command(store: RedisBlobs, name: str | bytes, *words: str | bytes) -> Any:
    """What the server answers to a command."""
    name = name if isinstance(name, bytes) else name.encode()
    link = store._links.get()
    return await link._tried(lambda to: link._ask(to, name, *words))


def fresh(valkey: Valkey, kind: type[RedisBlobs] = RedisBlobs, **options: Any) -> Any:
    """A store of its own."""
    return kind(valkey.url, namespace=f"blobs{next(NUMBERS)}*[x]", **options)


async def keys_of(store: RedisBlobs) -> set[str]:
    """What it has on the server."""
    found = await command(store, "KEYS", "*")
    mine = [key.decode("utf-8", "replace") for key in found]
    return {key[len(store._prefix) :] for key in mine if key.startswith(store._prefix)}
