"""What is said to a server's vector search and what it answers: Redis, and Valkey with its module.

Both understand the commands here. They word errors differently, and answer in another form where
they speak the newer protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, cast

from lamella import ConfigurationError, LamellaError

Algorithm: TypeAlias = Literal["flat", "hnsw"]

_GRAPH: Final = (b"M", b"16", b"EF_CONSTRUCTION", b"200", b"EF_RUNTIME", b"64")
_MISSING: Final = ("no such index", "unknown index", "index_not_found", "not found")


def creation(index: bytes, place: bytes, length: int, algorithm: Algorithm) -> list[bytes]:
    """The words of `FT.CREATE`: an index of the hashes whose names begin with the place."""
    kind = [b"TYPE", b"FLOAT32", b"DIM", b"%d" % length, b"DISTANCE_METRIC", b"COSINE"]
    if algorithm == "hnsw":
        kind += _GRAPH
    return [
        *(index, b"ON", b"HASH", b"PREFIX", b"1", place),
        *(b"SCHEMA", b"p", b"TAG"),
        *(b"v", b"VECTOR", algorithm.upper().encode(), b"%d" % len(kind), *kind),
    ]


def question(index: bytes, word: bytes, vector: bytes, count: int) -> list[bytes]:
    """The words of `FT.SEARCH`: the nearest of those with the word of a partition.

    Only digits and letters make the word, so it needs no escapes in the query.
    """
    return [
        *(index, b"(@p:{%b})=>[KNN %d @v $v AS d]" % (word, count)),
        *(b"PARAMS", b"2", b"v", vector, b"RETURN", b"2", b"p", b"d"),
        *(b"LIMIT", b"0", b"%d" % count, b"DIALECT", b"2"),
    ]


def found(answer: Any, word: bytes) -> tuple[list[tuple[bytes, float]], int]:
    """The names of what a search has found, with its distances, and how many have just ended."""
    pairs: list[tuple[Any, Any]]
    if isinstance(answer, dict):
        results: list[dict[bytes, Any]] = _fields(answer)[b"results"]
        pairs = [(each[b"id"], each.get(b"extra_attributes")) for each in results]
    else:
        pairs = list(zip(answer[1::2], answer[2::2], strict=True))
    near: list[tuple[bytes, float]] = []
    for name, said in pairs:
        fields = _fields(said)
        if fields.get(b"p") == word and b"d" in fields:
            near.append((name, float(fields[b"d"])))
    return near, len(pairs) - len(near)


def _fields(said: Any) -> dict[bytes, Any]:
    if said is None:
        return {}
    if isinstance(said, dict):
        return cast("dict[bytes, Any]", said)
    fields: Sequence[Any] = said
    return dict(zip(fields[::2], fields[1::2], strict=True))


def is_missing(error: LamellaError) -> bool:
    """Whether the server says that there is no such index."""
    said = _said(error)
    return "index" in said and any(words in said for words in _MISSING)


def is_there(error: LamellaError) -> bool:
    """Whether the server says that there is such an index already."""
    return "already exists" in _said(error)


def cannot_search(error: LamellaError) -> ConfigurationError | None:
    """What is to be done if this is not a server, or not a place on it, that searches vectors."""
    from coredis.exceptions import UnknownCommandError

    if isinstance(error.__cause__, UnknownCommandError):
        return ConfigurationError(
            "RedisVectors: the server has no vector search (it does not know FT.CREATE).",
            hint="Use Redis 8, Redis 7.2 or later with the search module (Redis Stack), or Valkey "
            "with valkey-search (the image valkey/valkey-bundle has it). Or keep the vectors in "
            "each process: index='memory'.",
        )
    if "db != 0" in _said(error):
        return ConfigurationError(
            "RedisVectors: this server searches in its database 0 only.",
            hint="Leave the number at the end of the URL out; a namespace keeps stores apart.",
        )
    return None


def _said(error: LamellaError) -> str:
    """What the server has answered instead, in small letters; empty if it has not answered."""
    from coredis.exceptions import ResponseError

    said = error.__cause__
    return str(said).lower() if isinstance(said, ResponseError) else ""
