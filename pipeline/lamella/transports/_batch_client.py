"""The HTTP port by way of a provider's Batch API: requests gather, and wait for their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from lamella._loops import PerLoop, current_loop
from lamella._ports import Ports, default_ports
from lamella.transports._batch_desk import Desk, Office
from lamella.transports._batch_line import line_of
from lamella.transports._http_failures import client_closed

if TYPE_CHECKING:
    from lamella.transports._batch_api import BatchAPI
    from lamella.transports._batch_journal import BatchJournal
    from lamella.transports._http import HTTPClient, HTTPReply, HTTPRequest
    from lamella.transports._openai_batch import OpenAIBatchOptions

_APIS: Final = ("/chat/completions", "/responses", "/embeddings")


class BatchClient:
    """Sends what batches take by batch, and everything else at once; see `HTTPClient`.

    Args:
        client: Sends what is sent at once, files and batches among it.
        journal: Which request is in which batch.
        options: How batches are cut, and looked at.
    """

    def __init__(
        self, client: HTTPClient, journal: BatchJournal, options: OpenAIBatchOptions
    ) -> None:
        self._client = client
        self._journal = journal
        self._options = options
        self._apis: Mapping[str, str] = {}
        self._office: Office | None = None
        self._ports: Ports | None = None
        self._desks: PerLoop[Desk] = PerLoop(self._new_desk)
        self._closed = False

    def bind(self, api: BatchAPI) -> None:
        """Say where batches are."""
        if self._office is None:
            self._office = Office(api, self._journal, self._options)
            self._apis = {api.root + path: f"/v1{path}" for path in _APIS}

    async def office(self, ports: Ports) -> Office:
        """What has the batches, with its journal open.

        Raises:
            LamellaError: If the journal cannot be used.
        """
        assert self._office is not None  # noqa: S101 - a place was made
        await self._journal.open(ports)
        return self._office

    async def send(self, request: HTTPRequest) -> HTTPReply:
        api = self._apis.get(request.url)
        if api is None or request.method != "POST":
            return await self._client.send(request)
        if self._closed:
            raise client_closed(request.provider)
        if self._ports is None:
            self._ports = request.ports or default_ports()
        line = line_of(api, request, self._ports.new_id)
        if line is None:
            return await self._client.send(request)
        return await self._desks.get().answer(line)

    def _new_desk(self) -> Desk:
        assert self._office is not None  # noqa: S101 - `send` has found an API of it
        return Desk(self._office, self._ports or default_ports())

    async def aclose(self) -> None:
        """Let go of all that wait; batches go on at the provider, and the journal knows them."""
        if self._closed:
            return
        self._closed = True
        here = current_loop()
        if self._office is not None:
            await self._office.background.aclose()
        for loop, desk in self._desks.items():
            if loop is here:
                desk.close()
            else:
                loop.call_soon(desk.close)
        self._desks.clear()
        await self._journal.aclose()
        await self._client.aclose()
