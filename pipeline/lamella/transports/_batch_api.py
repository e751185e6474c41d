"""A provider's Batch API, in the words of OpenAI's: files, batches, and the lines of answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import anyio
import attrs
import msgspec

from lamella._closing import CLEANUP_SECONDS
from lamella._errors import AuthenticationError, ProtocolError, ResponseTooLargeError
from lamella._ports import Ports
from lamella.transports._dialect import Headers
from lamella.transports._exchange import ERROR_BYTES, ERROR_SECONDS, Authorize
from lamella.transports._http import HTTPClient, HTTPReply, HTTPRequest
from lamella.transports._http_errors import status_error
from lamella.transports._stream_source import read_all, read_some

T = TypeVar("T")

TOKEN: Final = "lamella"  # noqa: S105 - a word
"""The key of a batch's metadata under which we know it again."""

ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
"""The states that a batch does not leave."""

_PAGE: Final = 100
_PIECE: Final = 256
"""Lines of answers that are handled together."""
_PIECE_BYTES: Final = 4 * 1024 * 1024


class Counts(msgspec.Struct):
    """How many requests of a batch have been handled."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Mistake(msgspec.Struct):
    """Why a batch, or one line of it, was not accepted; lines count from 1."""

    code: str | None = None
    message: str | None = None
    line: int | None = None
    param: str | None = None


class _Mistakes(msgspec.Struct):
    data: list[Mistake] | None = None


class BatchState(msgspec.Struct):
    """A batch as the provider describes it."""

    id: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Mistakes | None = None
    request_counts: Counts | None = None
    metadata: dict[str, Any] | None = None
    created_at: float | None = None

    @property
    def mistakes(self) -> Sequence[Mistake]:
        """Why it was not accepted."""
        return (self.errors and self.errors.data) or ()


class _File(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    data: list[BatchState]
    has_more: bool = False


@attrs.frozen(kw_only=True, eq=False)
class BatchAPI:
    """Where a provider's batches are.

    Attributes:
        client: The HTTP port.
        careful: The same for what must not be done twice: it keeps no connections, since a client
            sends a request again that met the end of a kept one.
        provider: Who is asked, for messages.
        root: The API's address, up to and including `/v1`.
        headers: What goes with each request.
        authorize: Adds what proves who sends it.
        max_line_bytes: The most bytes of one answer.
    """

    client: HTTPClient
    careful: HTTPClient
    provider: str
    root: str
    headers: Headers = attrs.field(repr=False)
    authorize: Authorize = attrs.field(repr=False)
    max_line_bytes: int

    async def upload(self, lines: Sequence[bytes], boundary: str, ports: Ports) -> str:
        """Upload the lines of a batch; the file's id.

        Raises:
            LamellaError: If it cannot be uploaded.
        """
        start = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
            'filename="lamella.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
        )
        body = b"".join((start.encode(), *lines, f"\r\n--{boundary}--\r\n".encode()))
        kind = f"multipart/form-data; boundary={boundary}"
        data = await self._asked("POST", "/files", ports, body=body, kind=kind)
        return self._read(data, _File).id

    async def create(self, file: str, api: str, token: str, ports: Ports) -> BatchState:
        """Make a batch of an uploaded file.

        Raises:
            LamellaError: If there can be none.
        """
        said = {
            "input_file_id": file,
            "endpoint": api,
            "completion_window": "24h",
            "metadata": {TOKEN: token},
        }
        body = msgspec.json.encode(said)
        data = await self._asked("POST", "/batches", ports, body=body, client=self.careful)
        return self._read(data, BatchState)

    async def find(self, token: str, since: float, ports: Ports) -> BatchState | None:
        """The batch with our token that was made since an instant; None if there is none.

        Raises:
            LamellaError: If nobody can say.
        """
        after = ""
        while True:
            path = f"/batches?limit={_PAGE}{after}"
            page = self._read(await self._asked("GET", path, ports), _Page)
            for state in page.data:
                if (state.metadata or {}).get(TOKEN) == token:
                    return state
            # They come newest first; an hour is for clocks that differ.
            last = page.data[-1] if page.data else None
            if last is None or not page.has_more or (last.created_at or since) < since - 3600:
                return None
            after = f"&after={last.id}"

    async def state(self, batch: str, ports: Ports) -> BatchState:
        """How far a batch is.

        Raises:
            LamellaError: If nobody can say.
        """
        return self._read(await self._asked("GET", f"/batches/{batch}", ports), BatchState)

    async def cancel(self, batch: str, ports: Ports) -> BatchState:
        """Have a batch end; what is done by then is billed.

        Raises:
            LamellaError: If it cannot be cancelled, as it is over.
        """
        data = await self._asked("POST", f"/batches/{batch}/cancel", ports)
        return self._read(data, BatchState)

    async def lines(
        self, file: str, take: Callable[[Sequence[bytes]], Awaitable[None]], ports: Ports
    ) -> None:
        """Read the lines of a file, some at a time.

        Raises:
            LamellaError: If the file cannot be read to its end.
        """
        draft = self._draft("GET", f"/files/{file}/content", ports)
        reply = await self._sent(draft, ports, self.client)
        try:
            found: list[bytes] = []
            rest: list[bytes] = []
            size = 0
            async for piece in _Pieces(reply):
                first, *others = piece.split(b"\n")
                rest.append(first)
                size += len(piece)
                if others:
                    found.append(b"".join(rest))
                    found += others[:-1]
                    rest = [others[-1]]
                if size > self.max_line_bytes and sum(map(len, rest)) > self.max_line_bytes:
                    raise self._too_long()
                if len(found) >= _PIECE or (found and size >= _PIECE_BYTES):
                    await take(found)
                    found, size = [], len(rest[0])
            await take([*found, b"".join(rest)])
        finally:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await reply.aclose()

    # --- requests --------------------------------------------------------------------------------

    async def _asked(
        self,
        method: str,
        path: str,
        ports: Ports,
        *,
        body: bytes = b"",
        kind: str = "application/json",
        client: HTTPClient | None = None,
    ) -> bytes:
        """The body of the answer to a request."""
        headers = ((b"Content-Type", kind.encode()),) if body else ()
        draft = self._draft(method, path, ports, headers, body)
        reply = await self._sent(draft, ports, client or self.client)
        try:
            return await read_all(reply)
        finally:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await reply.aclose()

    def _draft(
        self, method: str, path: str, ports: Ports, headers: Headers = (), body: bytes = b""
    ) -> HTTPRequest:
        others = [pair for pair in self.headers if pair[0].lower() != b"content-type"]
        return HTTPRequest(
            method=method,
            url=self.root + path,
            headers=(*others, *headers),
            body=body,
            provider=self.provider,
            ports=ports,
        )

    async def _sent(self, draft: HTTPRequest, ports: Ports, client: HTTPClient) -> HTTPReply:
        """An answer whose status is a success. A key that is refused is asked for again, once."""
        sent = await self.authorize(draft)
        try:
            return await self._answered(sent, ports, client)
        except AuthenticationError:
            renewed = getattr(self.authorize, "renewed", None)
            if renewed is None or not await renewed(sent):
                raise
        return await self._answered(await self.authorize(draft), ports, client)

    async def _answered(self, sent: HTTPRequest, ports: Ports, client: HTTPClient) -> HTTPReply:
        reply = await client.send(sent)
        if 200 <= reply.status < 300:
            return reply
        try:
            raise status_error(
                reply.status,
                await read_some(reply, ERROR_BYTES, ERROR_SECONDS),
                reply.headers,
                provider=self.provider,
                now=ports.wall(),
            )
        finally:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await reply.aclose()

    def _read(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (ValueError, RecursionError):
            msg = f"{self.provider} answered about batches what cannot be read."
            raise ProtocolError(msg, provider=self.provider) from None

    def _too_long(self) -> ResponseTooLargeError:
        msg = f"A line of {self.provider}'s answers has more than {self.max_line_bytes} bytes."
        hint = "If that is to be expected, raise HTTPOptions.max_body_bytes."
        return ResponseTooLargeError(msg, hint=hint, provider=self.provider)


class _Pieces:
    """The pieces of a body."""

    def __init__(self, reply: HTTPReply) -> None:
        self._reply = reply

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        return await self._reply.__anext__()


# --- one answer -----------------------------------------------------------------------------------


class _Said(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Answered(msgspec.Struct):
    status_code: int
    request_id: str | None = None
    body: msgspec.Raw = msgspec.Raw(b"null")


class AnswerLine(msgspec.Struct):
    """A line of a file of answers or errors."""

    custom_id: str
    response: _Answered | None = None
    error: _Said | None = None


_LINE: Final = msgspec.json.Decoder(AnswerLine)


def read_line(line: bytes) -> AnswerLine | None:
    """What a line says; None if it is none of an answer."""
    try:
        return _LINE.decode(line)
    except (ValueError, RecursionError):
        return None


def billed_as_batch(body: msgspec.Raw) -> bytes:
    """An answer's body that names the service which it is billed as."""
    said: Any = msgspec.json.decode(body)
    if not isinstance(said, dict) or not {"choices", "output"} & said.keys():
        return bytes(body)
    return msgspec.json.encode({**said, "service_tier": "batch"})


SERVICE_HEADER: Final = "x-lamella-service"
"""The header by which an answer out of a batch says what it is billed as."""
