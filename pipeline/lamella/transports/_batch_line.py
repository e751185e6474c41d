"""One request that waits for its answer out of a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

import anyio
import attrs
import msgspec

from lamella._errors import LamellaError, ServerError
from lamella._outcomes import Outcome
from lamella._usage import Usage
from lamella.transports._batch_api import SERVICE_HEADER
from lamella.transports._http import HTTPRequest


class Found(NamedTuple):
    """What a batch has answered to a request."""

    status: int
    request: str | None
    body: bytes


@attrs.define(eq=False)
class Line:
    """A request on its way through a batch.

    Attributes:
        id: Its custom_id.
        group: The API and the model: a batch has one of each.
        written: As a line of a batch's file.
        inputs: How many texts it has, where it is for embeddings; else 1.
        stable: Whether a later process gives it the same id.
        on_sent: Told that it is about to leave this process.
        waiting: How many wait for it.
        over: Set when `found` or `error` is there.
    """

    id: str
    group: tuple[str, str]
    written: bytes = attrs.field(repr=False)
    inputs: int
    stable: bool
    on_sent: Callable[[], None] | None = attrs.field(default=None, repr=False)
    waiting: int = 0
    over: anyio.Event = attrs.field(factory=anyio.Event, repr=False)
    found: Found | None = attrs.field(default=None, repr=False)
    error: Exception | None = None


_BODY: Final = msgspec.json.Decoder(dict[str, Any])


def line_of(api: str, request: HTTPRequest, new_id: Callable[[], str]) -> Line | None:
    """A request as a line; None for one that no batch takes.

    With an idempotency key it has the same id whenever the same is asked under the same key.
    A batch has no streams: what is asked for as one is answered whole.

    Args:
        api: The path of the API as batches name it, `/v1/...`.
        request: The request.
        new_id: Makes an id for a request that has no key.
    """
    body = request.body
    try:
        said = _BODY.decode(body)
    except (ValueError, RecursionError):
        return None
    if said.pop("stream", None) is not None:
        said.pop("stream_options", None)
        body = msgspec.json.encode(said)
    elif b"\n" in body:
        body = msgspec.json.encode(said)
    key = _key_of(request)
    if key is None:
        id_ = f"lamella-{new_id()}"
    else:
        seen = hashlib.blake2b(digest_size=20, usedforsecurity=False)
        for part in (request.url.encode(), key, body):
            seen.update(b"%d:%b" % (len(part), part))
        id_ = f"lamella-{seen.hexdigest()}"
    given: object = said.get("input") if api.endswith("/embeddings") else None
    written = b'{"custom_id":"%b","method":"POST","url":"%b","body":%b}\n'
    return Line(
        id=id_,
        group=(api, str(said.get("model", ""))),
        written=written % (id_.encode(), api.encode(), body),
        inputs=len(cast("list[object]", given)) if isinstance(given, list) else 1,
        stable=key is not None,
        on_sent=request.on_sent,
    )


def _key_of(request: HTTPRequest) -> bytes | None:
    for name, value in request.headers:
        if name.lower() == b"idempotency-key":
            return value
    return None


class BatchReply:
    """An answer out of a batch, as the HTTP port gives answers.

    Args:
        found: What was answered.
    """

    __slots__ = ("_body", "headers", "status")

    def __init__(self, found: Found) -> None:
        self.status: int = found.status
        self._body = found.body
        headers = {"content-type": "application/json", SERVICE_HEADER: "batch"}
        if found.request is not None:
            headers["x-request-id"] = found.request
        self.headers: Mapping[str, str] = headers

    async def __anext__(self) -> bytes:
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body

    async def aclose(self) -> None:
        self._body = b""


# --- why there is no answer -----------------------------------------------------------------------

_NOTHING: Final = Usage()


def not_run(code: str, provider: str) -> LamellaError:
    """The error of a request that its batch did not come to; nothing of it is billed."""
    msg = f"The batch at {provider} ended before this request was answered ({code})."
    return ServerError(
        msg,
        hint="Ask it again: a run with retry_failed does.",
        code=code,
        provider=provider,
        retryable=True,
        should_retry=False if code == "batch_cancelled" else None,  # it was somebody's wish
        usage=_NOTHING,
    )


def missing(provider: str) -> LamellaError:
    """The error of a request about which neither file of its batch says anything."""
    msg = f"{provider} says that the batch is complete, and has no answer to this request."
    return ServerError(
        msg,
        hint="Ask it again; it may be billed twice.",
        code="batch_line_missing",
        provider=provider,
        retryable=True,
        outcome=Outcome.UNKNOWN,
    )
