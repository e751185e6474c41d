"""Who asks: keys that were given, a function that gives them, or what botocore's chain finds.

The chain reads files and may ask a metadata service, so that it runs in a worker thread; it is
asked again when botocore says that what it found runs out, by one caller at a time. As long as the
old credentials hold, nobody else waits for that.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from lamella._errors import ConfigurationError, LamellaError, SecretError
from lamella._fork_locks import fork_safe_lock
from lamella._loops import Waiter
from lamella._ports import default_ports
from lamella._secret_values import hidden
from lamella.transports._credentials import missing_key

if TYPE_CHECKING:
    from lamella._ports import Ports, ThreadPort
    from lamella.transports._credentials import Credential

VARIABLES: Final = ("AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_PROFILE")

MANDATORY_SECONDS: Final = 600.0
"""So long before they run out, botocore holds credentials for too old to be used on."""

CALM_SECONDS: Final = 5.0
"""For how long the chain is left alone after it was asked because AWS refused what it had found."""

STUCK_SECONDS: Final = 60.0
"""After so long an asking counts as stuck, and the next caller begins another."""


@attrs.frozen
class AWSCredentials:
    """A key of AWS.

    Attributes:
        access_key: Its id, which requests show.
        secret_key: The secret, which signs and is never sent.
        session_token: The token of temporary credentials; None for lasting ones.
    """

    access_key: str
    secret_key: str = attrs.field(repr=False)
    session_token: str | None = attrs.field(default=None, repr=False)

    @property
    def token(self) -> str | None:
        """The session token, as botocore calls it."""
        return self.session_token


CredentialsSource: TypeAlias = Callable[[], AWSCredentials | Awaitable[AWSCredentials]]
"""A function, plain or async, that gives the credentials of one request."""


class Credentials(Protocol):
    """Where the credentials of each request come from."""

    async def fetch(self, ports: Ports | None = None) -> AWSCredentials:
        """The credentials now.

        Args:
            ports: Clock and threads for secrets; None are the system's.

        Raises:
            LamellaError: If there are none.
        """
        ...

    async def renewed(self, used: str, ports: Ports | None = None) -> bool:
        """Ask again, as AWS has refused a request; whether there are others now.

        Args:
            used: The id of the access key that signed it.
            ports: As for `fetch`.

        Raises:
            LamellaError: As for `fetch`.
        """
        ...


@attrs.frozen
class GivenKeys:
    """Keys by themselves or by reference, read for each request so that rotated ones count."""

    access_key: Credential
    secret_key: Credential
    session_token: Credential | None = None

    async def fetch(self, ports: Ports | None = None) -> AWSCredentials:
        """The credentials now; see `Credentials`."""
        given = self.session_token
        token = None if given is None else await given.fetch(ports=ports)
        access = await self.access_key.fetch(ports=ports)
        secret = await self.secret_key.fetch(ports=ports)
        return AWSCredentials(access or "", secret or "", token)

    async def renewed(self, used: str, ports: Ports | None = None) -> bool:
        """Ask again; see `Credentials`."""
        before = await self.fetch(ports)
        found = before.access_key != used
        parts = (self.access_key, self.secret_key, self.session_token)
        values = (before.access_key, before.secret_key, before.session_token)
        for part, value in zip(parts, values, strict=True):
            # All of them: one may have been read before, one after they were exchanged.
            if not found and part is not None and value is not None:
                await part.renewed(hidden(value), ports=ports)
        return found or await self.fetch(ports) != before


@attrs.frozen
class CalledFor:
    """What a function gives for each request."""

    source: CredentialsSource

    async def fetch(self, ports: Ports | None = None) -> AWSCredentials:
        """The credentials now; see `Credentials`."""
        del ports
        given: object = self.source()
        found: object = await given if inspect.isawaitable(given) else given
        if not isinstance(found, AWSCredentials):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"BedrockOptions(credentials=...) gave a {type(found).__name__}."
            raise SecretError(msg, hint="It must give AWSCredentials(access_key, secret_key).")
        if not found.access_key or not found.secret_key:
            msg = "BedrockOptions(credentials=...) gave credentials without a key."
            raise SecretError(msg, hint="It must give AWSCredentials(access_key, secret_key).")
        return found

    async def renewed(self, used: str, ports: Ports | None = None) -> bool:
        """Ask again; see `Credentials`."""
        return (await self.fetch(ports)).access_key != used


class _Round:
    """One asking of the chain, and who waits for what comes of it."""

    __slots__ = ("begun", "error", "process", "started", "waiting")

    def __init__(self, begun: float) -> None:
        self.process = os.getpid()
        self.begun = begun
        self.started = False
        self.waiting: list[Waiter] = []
        self.error: LamellaError | None = None


class Chain:
    """What botocore's chain finds: variables, files, profiles, SSO, containers, instances.

    Args:
        profile: The profile of the shared files; None leaves it to the chain.
        thread: Runs what blocks.
        provider: The transport's name, for messages.
        load: Finds credentials; None is botocore's own way.
    """

    __slots__ = ("_calm_until", "_doubted", "_found", "_frozen", "_load", "_lock", "_now",
                 "_provider", "_round", "_thread")  # fmt: skip

    def __init__(
        self,
        profile: str | None,
        thread: ThreadPort,
        provider: str,
        load: Callable[[], Any] | None = None,
    ) -> None:
        self._thread = thread
        self._provider = provider
        self._load = load or (lambda: botocore_session(profile).get_credentials())
        self._lock = fork_safe_lock()
        self._now = default_ports().monotonic
        self._round: _Round | None = None
        self._found: Any = None
        self._frozen: AWSCredentials | None = None
        self._doubted = False
        self._calm_until = -math.inf

    async def renewed(self, used: str, ports: Ports | None = None) -> bool:
        """Ask again; see `Credentials`. Those that were refused stay, if there are no others."""
        del ports
        before = self._frozen
        if before is None or before.access_key != used:
            return before is not None
        with self._lock:
            now = self._now()
            begins = now >= self._calm_until
            if begins:
                self._doubted, self._calm_until = True, now + CALM_SECONDS
        if begins or self._round is not None:
            going, waiter = self._join(wait=True)
            if waiter is not None:
                await waiter.wait()
            elif going is not None:
                await self._ask(going)
        return self._frozen != before

    async def fetch(self, ports: Ports | None = None) -> AWSCredentials:
        """The credentials now; see `Credentials`."""
        del ports
        while True:
            before = self._frozen
            if before is not None and not _runs_out(self._found):
                return before
            going, waiter = self._join()
            if going is None and before is not None:
                return before
            if going is not None and waiter is None:
                await self._ask(going)
                if self._frozen is not None:
                    return self._frozen
            elif going is not None and waiter is not None:
                await waiter.wait()
                if going.error is not None:
                    raise going.error.copy()
                if self._frozen is not None and self._frozen is not before:
                    return self._frozen

    def _join(self, *, wait: bool = False) -> tuple[_Round | None, Waiter | None]:
        """A round of one's own, or one to wait for; neither if the old credentials still do.

        Args:
            wait: Whether they do not, as they were refused.
        """
        with self._lock:
            going = self._round
            now = self._now()
            if going is None or going.process != os.getpid() or now - going.begun > STUCK_SECONDS:
                self._round = _Round(now)
                return self._round, None
            old = self._frozen is not None and not _runs_out(self._found, MANDATORY_SECONDS)
            if old and not wait:
                return None, None
            waiter = Waiter()
            going.waiting.append(waiter)
            return going, waiter

    async def _ask(self, mine: _Round) -> None:
        """Have the work done. Who asks may give up; the others then wait for the same thread."""
        try:
            await self._thread(self._work, mine)
        finally:
            if not mine.started:
                self._end(mine)

    def _work(self, mine: _Round) -> None:
        """Do the work of a round. In a worker thread."""
        mine.started = True
        try:
            self._find()
        except LamellaError as error:
            mine.error = error
            raise
        finally:
            self._end(mine)

    def _end(self, mine: _Round) -> None:
        with self._lock:
            if self._round is mine:
                self._round = None
            waiting, mine.waiting = mine.waiting, []
        for waiter in waiting:
            waiter.wake()

    def _find(self) -> None:
        """Find credentials, or have them renewed."""
        found = self._found
        doubted, self._doubted = self._doubted, False
        try:
            if found is None or doubted:
                found = self._load()
            frozen = None if found is None else found.get_frozen_credentials()
        except Exception as error:  # noqa: BLE001 - botocore raises whatever its sources do
            # Its text may hold what a helper program wrote, secrets included.
            msg = f"AWS credentials for {self._provider!r} could not be had: botocore raised "
            msg += f"{type(error).__name__}."
            hint = "See what `aws sts get-caller-identity` says with the same environment."
            raise SecretError(msg, hint=hint, provider=self._provider) from None
        if frozen is None or not frozen.access_key:
            option = "options=BedrockOptions(access_key=..., secret_key=...) or profile"
            raise missing_key(self._provider, option, VARIABLES)
        self._found = found
        self._frozen = AWSCredentials(frozen.access_key, frozen.secret_key, frozen.token)


def _runs_out(found: Any, seconds: float | None = None) -> bool:
    """Whether botocore would renew the credentials now; lasting ones never run out."""
    needed = getattr(found, "refresh_needed", None)
    if needed is None:
        return False
    return bool(needed() if seconds is None else needed(seconds))


def botocore_session(profile: str | None) -> Any:
    """A session of botocore. It reads files: call it in a thread.

    Raises:
        ConfigurationError: If there is no such profile.
    """
    return import_module("botocore.session").Session(profile=profile)


def configured_region(profile: str | None) -> str | None:
    """The region of a profile; None if it states none. It reads files: call it in a thread.

    Raises:
        ConfigurationError: If the files cannot be used.
    """
    try:
        found = botocore_session(profile).get_config_variable("region")
    except Exception as error:  # noqa: BLE001 - botocore raises whatever its sources do
        msg = f"The region of the AWS profile could not be read: {type(error).__name__}."
        hint = "Check the profile's name and ~/.aws/config, or give region=."
        raise ConfigurationError(msg, hint=hint) from None
    return found if isinstance(found, str) and found else None
