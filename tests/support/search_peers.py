"""A Valkey with a search for vectors in front of it, which compares with every one of them.

It takes the commands of the servers that have one, as strictly as they do, and answers in the form
and the words of one of them; everything else is for the Valkey behind it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal, Self

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

Dialect = Literal["redis", "valkey"]


class Refused(Exception):
    """The server says no."""


class Resp:
    """What comes over a connection, value by value.

    Args:
        stream: The connection.
    """

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self.stream = stream
        self._buffered = BufferedByteReceiveStream(stream)

    async def value(self) -> tuple[Any, bytes]:
        """The next value, and the bytes that it came in."""
        line = await self._buffered.receive_until(b"\r\n", 1 << 20)
        raw = line + b"\r\n"
        kind, rest = line[:1], line[1:]
        if kind in b"+-:,#_(":
            return rest, raw
        if kind == b"$":
            if int(rest) < 0:
                return None, raw
            data = await self._buffered.receive_exactly(int(rest) + 2)
            return data[:-2], raw + data
        assert kind in b"*%~>", line
        items: list[Any] = []
        for _ in range(int(rest) * (2 if kind == b"%" else 1)):
            item, more = await self.value()
            items.append(item)
            raw += more
        return items, raw

    async def ask(self, *words: str | bytes) -> Any:
        """What the other side answers to a command."""
        given = [word.encode() if isinstance(word, str) else word for word in words]
        parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in given]
        await self.stream.send(b"*%d\r\n%b" % (len(given), b"".join(parts)))
        return (await self.value())[0]


class SearchServer:
    """The port in front.

    Args:
        to: The port of the Valkey behind it.
        dialect: As whom it answers: Redis (maps, and its words for errors), or Valkey with its
            module (lists).

    Attributes:
        port: Where it listens.
        commands: The search commands that it was given.
        indexes: Their prefixes and lengths, by name.
        gone: How many it finds before all others that have ended: Redis names them, without
            their fields, and Valkey leaves them out.
    """

    def __init__(self, to: int, dialect: Dialect = "redis") -> None:
        self._to = to
        self._dialect = dialect
        self._stack = AsyncExitStack()
        self.port = 0
        self.commands: list[list[bytes]] = []
        self.indexes: dict[bytes, tuple[bytes, int]] = {}
        self.gone = 0

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        await self._stack.enter_async_context(listener)
        group = await self._stack.enter_async_context(anyio.create_task_group())
        group.start_soon(listener.serve, self._serve)
        self._stack.callback(group.cancel_scope.cancel)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def _serve(self, near: anyio.abc.SocketStream) -> None:
        try:
            async with near, await anyio.connect_tcp("127.0.0.1", self._to) as far:
                client, server = Resp(near), Resp(far)
                while True:
                    words, raw = await client.value()
                    if words[0].upper().startswith(b"FT."):
                        self.commands.append(words)
                        await near.send(await self._answer(words))
                    else:
                        await far.send(raw)
                        await near.send((await server.value())[1])
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            return

    async def _answer(self, words: list[bytes]) -> bytes:
        try:
            if words[0] == b"FT.CREATE":
                return self._create(words[1:])
            assert words[0] == b"FT.SEARCH"
            return await self._search(words[1:])
        except Refused as error:
            return f"-{error}\r\n".encode()

    def _create(self, words: list[bytes]) -> bytes:
        index, *rest = words
        assert rest[:4] == [b"ON", b"HASH", b"PREFIX", b"1"]
        prefix, schema = rest[4], rest[5:]
        assert index.startswith(prefix[: prefix.index(b"}") + 1])  # one slot, as Valkey wants it
        assert schema[:6] == [b"SCHEMA", b"p", b"TAG", b"v", b"VECTOR", schema[5]]
        assert int(schema[6]) == len(schema[7:])
        options = dict(zip(schema[7::2], schema[8::2], strict=True))
        assert (options[b"TYPE"], options[b"DISTANCE_METRIC"]) == (b"FLOAT32", b"COSINE")
        assert schema[5] in (b"FLAT", b"HNSW")
        if index in self.indexes:
            named = index.decode()
            raise Refused(
                "Index already exists"
                if self._dialect == "redis"
                else f"Index {named} in database 0 already exists."
            )
        self.indexes[index] = (prefix, int(options[b"DIM"]))
        return b"+OK\r\n"

    async def _search(self, words: list[bytes]) -> bytes:
        index, query, *rest = words
        if index not in self.indexes:
            named = index.decode()
            raise Refused(
                f"No such index {named}"
                if self._dialect == "redis"
                else f"Index schema not found: {named}"
            )
        prefix, length = self.indexes[index]
        word, narrowed, nearest = query.partition(b"})=>[KNN ")
        assert narrowed
        assert word.startswith(b"(@p:{")
        word = word[len(b"(@p:{") :]
        assert word.isalnum()  # anything else would have to be escaped
        count, rest_of = nearest.split(b" ", 1)
        assert rest_of == b"@v $v AS d]"
        assert rest[:3] == [b"PARAMS", b"2", b"v"]
        vector = rest[3]
        expected = [b"RETURN", b"2", b"p", b"d", b"LIMIT", b"0", count, b"DIALECT", b"2"]
        assert rest[4:] == expected
        if len(vector) != 4 * length:
            raise Refused("Error parsing vector similarity query: query vector blob size")
        return self._reply(await self._nearest(prefix, word, vector, int(count)))

    async def _nearest(
        self, prefix: bytes, word: bytes, vector: bytes, count: int
    ) -> list[tuple[bytes, bytes, float]]:
        wanted = _floats(vector)
        found: list[tuple[bytes, bytes, float]] = []
        async with await anyio.connect_tcp("127.0.0.1", self._to) as far:
            server = Resp(far)
            for name in await server.ask("KEYS", _literal(prefix) + b"*"):
                of, data = await server.ask("HMGET", name, "p", "v")
                if of == word and len(data) == len(vector):
                    found.append((name, of, _distance(wanted, _floats(data))))
        found.sort(key=lambda each: each[2])
        return found[: max(0, count - self.gone)]

    def _reply(self, found: list[tuple[bytes, bytes, float]]) -> bytes:
        if self._dialect == "valkey":
            items = [b":%d\r\n" % len(found)]
            for name, word, far in found:
                fields = [b"p", word, b"d", b"%.12g" % far]
                items += [_bulk(name), b"*4\r\n" + b"".join(map(_bulk, fields))]
            return b"*%d\r\n" % len(items) + b"".join(items)
        results = [
            b"%3\r\n"
            + (_bulk(b"id") + _bulk(name))
            + (_bulk(b"extra_attributes") + b"%2\r\n")
            + b"".join(map(_bulk, [b"p", word, b"d", b"%.12g" % far]))
            + (_bulk(b"values") + b"*0\r\n")
            for name, word, far in found
        ]
        results += [b"%1\r\n" + _bulk(b"id") + _bulk(b"gone")] * self.gone
        return (
            b"%4\r\n"
            + (_bulk(b"attributes") + b"*0\r\n" + _bulk(b"warning") + b"*0\r\n")
            + (_bulk(b"total_results") + b":%d\r\n" % len(found))
            + (_bulk(b"results") + b"*%d\r\n" % len(results) + b"".join(results))
        )


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _floats(data: bytes) -> Sequence[float]:
    return struct.unpack(f"<{len(data) // 4}f", data)


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return 1.0 - math.fsum(a * b for a, b in zip(one, other, strict=True))


def _literal(prefix: bytes) -> bytes:
    return b"".join(
        [b"\\" + bytes([sign]) if sign in b"*?[]\\" else bytes([sign]) for sign in prefix]
    )
