"""OpenAI's Batch API, and that of compatible endpoints: half the price, within a day."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import attrs

from lamella._errors import ConflictError, InvalidRequestError
from lamella._options import seconds, span, whole
from lamella._ports import default_ports, run_in_thread
from lamella._sqlite_paths import absolute, usable
from lamella.transports._batch_api import BatchAPI, BatchState
from lamella.transports._batch_client import BatchClient
from lamella.transports._batch_journal import BatchJournal
from lamella.transports._http import MEBIBYTE
from lamella.transports._http_transport import new_client
from lamella.transports._openai import API, OpenAI, OpenAIOptions
from lamella.transports._openai_embeddings import OpenAIEmbeddings

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.transports._batch_desk import Office
    from lamella.transports._credentials import Key
    from lamella.transports._http import HTTPClient
    from lamella.transports._place import Place

MOST_LINES: Final = 50_000
MOST_BYTES: Final = 200_000_000
"""What OpenAI takes in one batch: requests (or inputs of embeddings), and bytes of its file."""

_FILE_BYTES: Final = 4096 * MEBIBYTE
"""The most bytes of a file of answers. It is read piece by piece, so that it takes no memory."""


@attrs.frozen(kw_only=True)
class OpenAIBatchOptions(OpenAIOptions):
    """What is rarely said of an `OpenAIBatch` transport, besides `OpenAIOptions`.

    `http.max_body_bytes` bounds each answer, not the files in which many of them come.

    Attributes:
        gather: Seconds, or a timedelta, without a further request after which those that are there
            become a batch; above 0. If they never cease to come, a batch is made after twelve times
            as long.
        poll: Seconds, or a timedelta, between two looks at a batch; above 0. While looks fail, the
            pause grows to ten times as long.
        max_lines: The most requests in a batch, and the most inputs of embeddings; 1 to 50,000.
        max_bytes: The most bytes in the file of a batch, which is put together in memory; at least
            1, at most 200,000,000. A single request that is larger is sent, and refused there.
    """

    gather: float = attrs.field(default=5.0, converter=seconds, validator=span)
    poll: float = attrs.field(default=60.0, converter=seconds, validator=span)
    max_lines: int = attrs.field(default=MOST_LINES, validator=whole(1, MOST_LINES))
    max_bytes: int = attrs.field(default=MOST_BYTES, validator=whole(1, MOST_BYTES))


@attrs.frozen(kw_only=True)
class BatchProgress:
    """How far a batch is, as the provider says.

    Attributes:
        id: The provider's id of it.
        status: In the provider's words: `validating`, `in_progress`, `finalizing`, `completed`,
            `failed`, `expired`, `cancelling`, `cancelled`.
        total: Requests in it; 0 while the provider has not counted them.
        completed: Requests that were answered.
        failed: Requests that have failed.
    """

    id: str
    status: str
    total: int
    completed: int
    failed: int


class _Embeddings(OpenAIEmbeddings):
    """Their answers name no class of service."""

    service_header: ClassVar[str] = "x-lamella-service"


@attrs.frozen
class _Place:
    """Where the journal is."""

    written_as: ClassVar[str] = "OpenAIBatch("

    journal: Path | None = attrs.field(
        converter=absolute,
        validator=attrs.validators.optional(usable("OpenAIBatch() without a journal")),
    )


class OpenAIBatch(OpenAI):
    """The transport to OpenAI by its Batch API: half the price, and answers within a day.

    Chat and embeddings go in batches; everything else (moderation, counts) is sent at once. Each
    request waits for its answer, so that all layers apply; a stream is answered whole. Limits in
    time on requests hold here too: an hour is short. A caller that is cancelled before its batch is
    made is not in it; afterwards the batch goes on.

    Args:
        api_key: As for `OpenAI`.
        journal: The path of the file that knows which request is in which batch. With it, the same
            request under the same idempotency key (`Pipeline.map` with a journal gives each row
            one) takes its answer from the batch that is under way or has ended, also after the
            death of this process. One transport at a time has it. None keeps one as long as this
            transport is open.
        base_url: As for `OpenAI`.
        model: As for `OpenAI`.
        api: As for `OpenAI`.
        endpoint: As for `OpenAI`: it must have OpenAI's Batch API.
        options: What is rarely said: `OpenAIBatchOptions`, or `OpenAIOptions`.

    Raises:
        ConfigurationError: If something given cannot be meant, or does not fit together.
    """

    answers_by_key: ClassVar[bool] = True
    """Whether what was asked under an idempotency key is answered once, whoever asks again."""

    def __init__(  # noqa: PLR0913 - as OpenAI's, and the journal
        self,
        api_key: Key | None = None,
        *,
        journal: str | Path | None = None,
        base_url: str | None = None,
        model: str | None = None,
        api: API | None = None,
        endpoint: str | None = None,
        options: OpenAIOptions | None = None,
    ) -> None:
        given = _batch_options(options)
        super().__init__(
            api_key,
            base_url=base_url,
            model=model,
            api=api,
            endpoint=endpoint,
            options=_for_files(given),
        )
        self._line_bytes = given.http.max_body_bytes
        self._journal = BatchJournal(_Place(journal).journal)
        self._batches: BatchClient | None = None
        self._careful: HTTPClient | None = None

    async def batches(self) -> list[BatchProgress]:
        """How far the batches are that the journal knows and that are not over.

        Raises:
            LamellaError: If the journal cannot be used, or the provider does not answer.
        """
        office = await self._office()
        ports = default_ports()
        known = await office.journal.under_way()
        return [
            _progress(await office.api.state(each.batch, ports)) for each in known if each.batch
        ]

    async def cancel(self) -> list[BatchProgress]:
        """Cancel the batches that the journal knows and that are not over; how far each is.

        What was answered by then is billed, and given to who waits. Requests that have gathered and
        are in no batch yet are not touched.

        Raises:
            LamellaError: If the journal cannot be used, or the provider does not answer.
        """
        office = await self._office()
        ports = default_ports()
        found: list[BatchProgress] = []
        for each in await office.journal.under_way():
            if each.batch is None:
                continue
            try:
                state = await office.api.cancel(each.batch, ports)
            except (ConflictError, InvalidRequestError):  # it has ended
                state = await office.api.state(each.batch, ports)
            found.append(_progress(state))
        return found

    async def aclose(self) -> None:
        """Close all connections; requests under way end with `ClosedError`, batches go on."""
        if self._batches is not None:
            self._closed = True
            await self._batches.aclose()
        if self._careful is not None:
            await self._careful.aclose()
        await super().aclose()

    async def _office(self) -> Office:
        place = self._opened or await self._open(run_in_thread)
        await place.check()
        assert self._batches is not None  # noqa: S101 - made with the place
        return await self._batches.office(default_ports())

    def _http(self, thread: ThreadPort) -> HTTPClient:
        inner = super()._http(thread)
        with self._making:
            if self._batches is None:
                given = self._given_options
                self._batches = BatchClient(inner, self._journal, given)
                if given.client is None:
                    self._careful = new_client(attrs.evolve(given.http, max_idle=0), thread)
        return self._batches

    @property
    def _given_options(self) -> OpenAIBatchOptions:
        options = self.options
        assert isinstance(options, OpenAIBatchOptions)  # noqa: S101 - as the constructor makes them
        return options

    async def _make_place(self, thread: ThreadPort) -> Place:
        place = await super()._make_place(thread)
        batches, client = self._batches, self._client
        assert batches is not None  # noqa: S101 - made by `_http`
        assert client is not None  # noqa: S101 - likewise
        batches.bind(
            BatchAPI(
                client=client,
                careful=self._careful or client,
                provider=self.name,
                root=place.locate("", ""),
                headers=place.headers,
                authorize=place.authorize,
                max_line_bytes=self._line_bytes,
            )
        )
        if "embeddings" not in place.dialects:
            return place
        dialects = {**place.dialects, "embeddings": _Embeddings(self.name)}
        return attrs.evolve(place, dialects=dialects)

    def __repr__(self) -> str:
        return f"<OpenAIBatch {self.name!r} api={self.api!r}>"


def _batch_options(given: OpenAIOptions | None) -> OpenAIBatchOptions:
    if given is None:
        return OpenAIBatchOptions()
    if isinstance(given, OpenAIBatchOptions):
        return given
    fields = attrs.fields(type(given))
    return OpenAIBatchOptions(**{field.name: getattr(given, field.name) for field in fields})


def _for_files(given: OpenAIBatchOptions) -> OpenAIBatchOptions:
    """The options for a client that also reads files of many answers."""
    most = max(_FILE_BYTES, given.http.max_body_bytes)
    return attrs.evolve(given, http=attrs.evolve(given.http, max_body_bytes=most))


def _progress(state: BatchState) -> BatchProgress:
    counts = state.request_counts
    return BatchProgress(
        id=state.id,
        status=state.status,
        total=counts.total if counts else 0,
        completed=counts.completed if counts else 0,
        failed=counts.failed if counts else 0,
    )
