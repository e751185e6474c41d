"""A batch that was made is looked at until it has ended, and its answers are given out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lamella._errors import (
    InvalidRequestError,
    LamellaError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from lamella._usage import Usage
from lamella.transports._batch_api import ENDED, BatchState, Mistake, billed_as_batch, read_line
from lamella.transports._batch_line import Found, Line, missing, not_run
from lamella.transports._batch_rows import Answer, Batch
from lamella.transports._http_errors import in_band_error

if TYPE_CHECKING:
    from lamella.transports._batch_desk import Desk

logger = logging.getLogger("lamella")

_FAILURES: Final = 3
"""Looks in a row that fail with what does not pass, after which nobody waits any more."""
_SLOWEST: Final = 10
"""While looks fail, the pause between them grows to so many times `poll`."""
_LONGEST_ROW: Final = 30


class Follower:
    """Follows one batch on behalf of those who wait for it.

    Args:
        desk: Whose requests they are.
        token: The batch's name in the journal.
        lines: The requests, by id; more may come.
    """

    def __init__(self, desk: Desk, token: str, lines: dict[str, Line]) -> None:
        self._desk = desk
        self._office = desk.office
        self._token = token
        self._lines = lines
        self._batch: str | None = None

    async def run(self) -> None:
        """Until it has ended, or nobody waits for it.

        Raises:
            LamellaError: If it can no longer be looked at.
        """
        poll, sleep = self._office.options.poll, self._desk.ports.sleep
        failures = 0
        while any(line.waiting for line in self._lines.values()):
            pause = poll
            try:
                if await self._look():
                    return
                failures = 0
            except LamellaError as error:
                failures += 1
                if failures >= _FAILURES and not error.retryable:
                    raise
                pause = min(poll * 2 ** min(failures, _LONGEST_ROW), poll * _SLOWEST)
                if error.retry_after is not None:
                    pause = max(poll, min(error.retry_after, pause))
                logger.warning("batch %s cannot be looked at: %s", self._batch, error)
            await sleep(pause)
        self._desk.leave(self._token, self._lines)

    async def _look(self) -> bool:
        """Look at it once; whether it is over."""
        if self._batch is None:
            known = await self._office.journal.batch(self._token)
            if known is None:
                raise self._lost()
            if known.batch is None and self._office.making(self._token):
                return False  # on another event loop
            self._batch = known.batch or await self._recovered(known)
            if self._batch is None:
                return True
        state = await self._office.api.state(self._batch, self._desk.ports)
        if state.status not in ENDED:
            return False
        if state.status == "failed":
            await self._refused(state)
        else:
            await self._read(state)
        return True

    def _lost(self) -> LamellaError:
        msg = "The journal does not know the batch any more in which this request was."
        provider = self._office.api.provider
        return ServerError(msg, code="batch_lost", provider=provider, retryable=True)

    # --- after the death of a process --------------------------------------------------------

    async def _recovered(self, known: Batch) -> str | None:
        """The batch that a process has begun to make; None if there is none, and none is to be."""
        api, journal, ports = self._office.api, self._office.journal, self._desk.ports
        if known.file is None:  # so that no batch can have been made
            await self._again()
            return None
        found = await api.find(self._token, known.began, ports)
        if found is None:
            try:
                found = await api.create(known.file, known.api, self._token, ports)
            except (InvalidRequestError, NotFoundError):  # the file is not there any more
                await self._again()
                return None
        await journal.created(self._token, found.id)
        return found.id

    async def _again(self) -> None:
        """Have all requests go with another batch."""
        await self._office.journal.finish(self._token)
        self._send_again(list(self._lines.values()))

    def _send_again(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._lines.pop(line.id, None)
            self._desk.gather(line)

    # --- the answers -------------------------------------------------------------------------

    async def _read(self, state: BatchState) -> None:
        """Give out what it has answered; then tell those to whom it has not."""
        api, ports = self._office.api, self._desk.ports
        for file in (state.output_file_id, state.error_file_id):
            if file:
                await api.lines(file, self._take, ports)
        await self._office.journal.finish(self._token)
        for line in list(self._lines.values()):
            if state.status == "completed":
                self._desk.settle(line, missing(api.provider))
            else:
                self._desk.settle(line, not_run(f"batch_{state.status}", api.provider))

    async def _take(self, given: Sequence[bytes]) -> None:
        """Take some lines of a file. Answers are on disk before anybody has them."""
        answers: list[Answer] = []
        failed: list[str] = []
        outcomes: list[tuple[str, Found | Exception]] = []
        for raw in given:
            if not raw.strip():
                continue
            said = read_line(raw)
            if said is None:
                logger.warning("batch %s: a line of its answers cannot be read", self._batch)
                continue
            response, id_ = said.response, said.custom_id
            if response is not None and 200 <= response.status_code < 300:
                body = billed_as_batch(response.body)
                answers.append(Answer(id_, response.request_id, body))
                outcomes.append((id_, Found(response.status_code, response.request_id, body)))
                continue
            failed.append(id_)
            if response is not None and response.status_code:
                body = bytes(response.body)
                outcomes.append((id_, Found(response.status_code, response.request_id, body)))
            else:
                code = (said.error and said.error.code) or "batch_error"
                outcomes.append((id_, not_run(code, self._office.api.provider)))
        await self._office.journal.keep(self._token, answers, failed)
        for id_, outcome in outcomes:
            line = self._lines.pop(id_, None)  # of two lines for a request the first one holds
            if line is not None:
                self._desk.settle(line, outcome)

    # --- a file that was not accepted --------------------------------------------------------

    async def _refused(self, state: BatchState) -> None:
        """Lines that were not accepted are told so; the others go with another batch."""
        journal = self._office.journal
        ids = await journal.ids(self._token)
        blamed: dict[str, Mistake] = {}
        for mistake in state.mistakes:
            if mistake.line is not None and 0 < mistake.line <= len(ids):
                blamed.setdefault(ids[mistake.line - 1], mistake)
        await journal.finish(self._token)
        if not blamed:
            self._desk.settle_all(self._lines.values(), self._not_accepted(state))
            return
        for id_, mistake in blamed.items():
            line = self._lines.pop(id_, None)
            if line is not None:
                self._desk.settle(line, self._mistaken(mistake))
        self._send_again(list(self._lines.values()))

    def _mistaken(self, mistake: Mistake) -> LamellaError:
        said = {"message": mistake.message, "code": mistake.code, "type": "invalid_request_error"}
        found = in_band_error(said, provider=self._office.api.provider)
        return found.copy(usage=Usage(), status=400, retryable=False)

    def _not_accepted(self, state: BatchState) -> LamellaError:
        mistake = state.mistakes[0] if state.mistakes else Mistake()
        if mistake.code != "token_limit_exceeded":
            return self._mistaken(mistake)
        provider = self._office.api.provider
        msg = f"{provider} has as many tokens of batches under way as it allows for this model."
        hint = "Have fewer rows under way at once, or ask again when batches have ended."
        return RateLimitError(
            msg,
            hint=hint,
            provider=provider,
            code=mistake.code,
            status=429,
            retryable=True,
            retry_after=self._office.options.poll,
            usage=Usage(),
        )
