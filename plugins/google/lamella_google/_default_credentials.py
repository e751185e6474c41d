"""Application Default Credentials, by google-auth.

All that google-auth does may block (files, a token server, the metadata server of a machine), so
that it runs in worker threads, one at a time. A token that is about to expire is renewed by the one
request that sees it first, while others still use it; once it has expired, all wait for the same
renewal and share its failure. No request waits long for a renewal that it could do without.
"""

from __future__ import annotations

import os
import threading  # noqa: TID251 - google-auth's objects are not to be used by two threads at once
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import attrs

from lamella._errors import AuthenticationError, ConfigurationError, LamellaError, NetworkError
from lamella._fork_locks import fork_safe_lock
from lamella._loops import Waiter
from lamella._outcomes import Outcome
from lamella.transports._headers import encoded_headers

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.transports._dialect import Headers
    from lamella.transports._exchange import Authorize
    from lamella.transports._http import HTTPRequest

_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)

STALE_SECONDS: Final = 1.0
"""How long a request waits for a new token while the old one still holds."""

RENEWAL_SECONDS: Final = 20.0
"""How long a token server may be silent. google-auth alone would wait for two minutes, and with it
every request that comes meanwhile."""


@attrs.define(eq=False)
class _Renewal:
    """One renewal, and those who wait for it."""

    waiters: list[Waiter] = attrs.field(factory=list[Waiter])
    begun: bool = False
    done: bool = False
    failure: LamellaError | None = None


class DefaultCredentials:
    """The credentials of one transport, found and renewed as needed.

    Args:
        provider: The transport's name, for messages.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._lock = fork_safe_lock()
        self._working = threading.Lock()  # held in worker threads only
        self._process = os.getpid()
        self._renewal: _Renewal | None = None
        self._credentials: Any = None
        self._project: str | None = None
        self._known: tuple[Any, Headers] = (None, ())

    def authorizer(self, thread: ThreadPort) -> Authorize:
        """Adds the token to requests.

        Args:
            thread: Runs what blocks.
        """

        async def authorize(request: HTTPRequest) -> HTTPRequest:
            state = self._state()
            if state != "FRESH":
                await self._renewed(thread, may_wait=state == "INVALID")
            return request.with_headers(self._headers())

        return authorize

    async def project(self, thread: ThreadPort) -> str | None:
        """The project that the credentials belong to; None if they name none.

        Raises:
            LamellaError: If there are no credentials, or they cannot be used.
        """
        if self._credentials is None:
            await self._renewed(thread, may_wait=True)
        return self._project

    # --- the token as it is ------------------------------------------------------------------

    def _state(self) -> str:
        credentials = self._credentials
        return "INVALID" if credentials is None else str(credentials.token_state.name)

    def _headers(self) -> Headers:
        credentials = self._credentials
        token = credentials.token
        if self._known[0] != token:
            made = {"Authorization": f"Bearer {token}"}
            if credentials.quota_project_id:
                made["x-goog-user-project"] = credentials.quota_project_id
            self._known = (token, encoded_headers(made))
        return self._known[1]

    # --- one renewal at a time ---------------------------------------------------------------

    async def _renewed(self, thread: ThreadPort, *, may_wait: bool) -> None:
        """Renew the token, or wait for who does; without waiting if the old one still holds."""
        waiter = Waiter() if may_wait else None
        with self._lock:
            if self._process != os.getpid():  # a fork has no threads of its parent's
                self._process, self._renewal = os.getpid(), None
                self._working = threading.Lock()
            renewal = self._renewal
            leads = renewal is None
            if renewal is None:
                renewal = self._renewal = _Renewal()
            elif waiter is not None:
                renewal.waiters.append(waiter)
        if leads:
            try:
                with anyio.move_on_after(None if may_wait else STALE_SECONDS):
                    await thread(self._work, renewal)
            except BaseException:
                if not renewal.begun:  # cancelled before the thread began: others must not wait
                    self._end(renewal)
                raise
        elif waiter is not None:
            while not renewal.done:
                await waiter.wait()
            if not renewal.begun:  # who led was cancelled
                await self._renewed(thread, may_wait=True)
        if renewal.failure is not None and may_wait:
            raise renewal.failure.copy()

    def _work(self, renewal: _Renewal) -> None:
        """In a worker thread, and to the end, whoever still waits for it."""
        renewal.begun = True
        try:
            with self._working:
                if self._state() != "FRESH":
                    self._renew()
        except LamellaError as error:
            renewal.failure = error
        except Exception as error:  # noqa: BLE001 - who waits must not go on without a token
            renewal.failure = self._unusable(error)
        finally:
            self._end(renewal)

    def _end(self, renewal: _Renewal) -> None:
        with self._lock:
            if self._renewal is renewal:
                self._renewal = None
            renewal.done = True
            waiters = list(renewal.waiters)
        for waiter in waiters:
            waiter.wake()

    def _renew(self) -> None:
        load, connect, unreachable = _google_auth()
        try:
            if self._credentials is None:
                self._credentials, self._project = load(scopes=list(_SCOPES))
            self._credentials.refresh(connect())
        except Exception as error:  # noqa: BLE001 - an odd answer makes google-auth raise anything
            # What the metadata server does not give is wrapped in an error of refusal.
            away = isinstance(error, unreachable) or isinstance(error.__cause__, unreachable)
            if away or getattr(error, "retryable", False):
                raise self._away(error) from None
            raise self._unusable(error) from None
        if self._credentials.token is None:
            raise self._unusable(ValueError())

    def _away(self, error: Exception) -> LamellaError:
        return NetworkError(
            f"{self._provider}: Google's token server cannot be reached, or gives no token now "
            f"({type(error).__name__}).",
            provider=self._provider,
            outcome=Outcome.NOT_SENT,
        )

    def _unusable(self, error: Exception) -> LamellaError:
        """The error of credentials that are not there, or not accepted.

        google-auth's own text may quote what a token server said, so that its kind must do.
        """
        if self._credentials is None:
            return ConfigurationError(
                f"The transport {self._provider!r} found no usable default credentials of Google "
                f"({type(error).__name__}).",
                hint="Run `gcloud auth application-default login`, set "
                "GOOGLE_APPLICATION_CREDENTIALS, or give token=.",
                provider=self._provider,
                code="no_key",
            )
        return AuthenticationError(
            f"{self._provider}: Google does not accept the default credentials "
            f"({type(error).__name__}).",
            provider=self._provider,
            outcome=Outcome.NOT_SENT,
            hint="Log in again, or check the service account and its key.",
        )


def _google_auth() -> tuple[Callable[..., Any], Callable[[], Any], type[Exception]]:
    """What of google-auth is needed; imported here, as it takes a tenth of a second.

    Raises:
        ConfigurationError: If it is not installed.
    """
    try:
        from google.auth import default  # pyright: ignore[reportUnknownVariableType]
        from google.auth.exceptions import TransportError
        from google.auth.transport.requests import Request
    except ImportError as error:
        msg = "Google's default credentials need the package google-auth."
        hint = "Run `pip install 'lamella-google[vertex]'`, or give token=."
        raise ConfigurationError(msg, hint=hint) from error

    class Bounded(Request):
        def __call__(
            self,
            url: str,
            method: str = "GET",
            body: Any = None,
            headers: Any = None,
            timeout: Any = RENEWAL_SECONDS,
            **more: Any,
        ) -> Any:
            send = cast("Callable[..., Any]", super().__call__)  # pyright: ignore[reportUnknownMemberType]
            return send(url, method, body, headers, timeout, **more)

    return cast("Callable[..., Any]", default), Bounded, TransportError
