"""The key of a transport: given, referred to, fetched, or found in the environment.

A key is read whenever it is used, so that a rotated one is taken up, and shows in no message.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import attrs

from lamella._errors import ConfigurationError, LamellaError, SecretError
from lamella._revealed import remember
from lamella._secrets import Secret, mistake_in

if TYPE_CHECKING:
    from lamella._ports import Ports

Key: TypeAlias = str | Secret | Callable[[], str | Awaitable[str]]
"""A key itself, a reference such as `env:NAME`, or a function, plain or async, that gives one."""


@attrs.frozen
class Credential:
    """Where a key comes from.

    Attributes:
        source: What gives it; None if there is none, and none is needed.
        origin: What it is called in messages: an option or a variable.
    """

    source: Secret | Callable[[], str | Awaitable[str]] | None = attrs.field(repr=False)
    origin: str

    async def fetch(self, *, ports: Ports | None = None) -> str | None:
        """The key now; None if there is none.

        Args:
            ports: Clock and threads; None are the system's.

        Raises:
            SecretError: If it cannot be had, or is no key.
        """
        source = self.source
        if source is None:
            return None
        if isinstance(source, Secret):
            value: object = await source.fetch(ports=ports)
        else:
            value = await self._given_by(source)
        key, problem = _checked(value, self.origin)
        if problem is not None:
            del value, key  # what shows tracebacks with their variables would show it
            raise problem
        if key is not value or not isinstance(source, Secret):
            remember(key)
        return key

    @property
    def fixed(self) -> bool:
        """Whether the key was given itself: then it stays the same, with nothing to wait for."""
        return isinstance(self.source, Secret) and self.source.reference is None

    async def renewed(self, refused: Callable[[], str], *, ports: Ports | None = None) -> bool:
        """Ask again, as a provider has refused a key; whether there is another one now.

        Args:
            refused: Tells the key that was refused.
            ports: As for `fetch`.

        Raises:
            SecretError: As for `fetch`.
        """
        source = self.source
        if source is None:
            return False
        if isinstance(source, Secret):
            source.invalidate(refused(), ports=ports)
        return await self.fetch(ports=ports) != refused()

    async def _given_by(self, source: Callable[[], str | Awaitable[str]]) -> object:
        try:
            found = source()
            return await found if inspect.isawaitable(found) else found
        except LamellaError:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's function may raise anything
            kind = type(error).__name__
        # Raised out here, without a context: what it said may hold what it was sent.
        raise SecretError(
            f"The function given as {self.origin} failed with {kind}.",
            hint="Look whether what it asks can be reached and allows this program in.",
            elsewhere=True,
        )


_SCHEME = re.compile("(?=.{2,24}$)[a-z]+(?:[-_][a-z]+)*")
"""What a source of secrets is called. A reference must never be sent as if it were the key."""

NO_CREDENTIAL = Credential(None, "no key")


def credential(given: Key | None, option: str) -> Credential | None:
    """Where a key comes from that was given as an option; None if none was."""
    if given is None:
        return None
    if isinstance(given, Secret):
        return Credential(given, f"{option} ({given!r})")
    if isinstance(given, str):
        if _is_reference(given):
            problem = mistake_in(given)
            if problem is None:
                return Credential(Secret(given), f"{option} ({given})")
        else:
            problem = _unknown_scheme(given)
            key, wrong = _checked(given, option)
            if problem is None and wrong is None:
                return Credential(Secret.of_value(key), option)
            problem = problem or wrong
            del key
        del given  # as in `Credential.fetch`
        assert problem is not None  # noqa: S101 - what has none has been returned
        raise problem
    if not callable(given):  # pyright: ignore[reportUnnecessaryComparison]
        msg = f"{option} is a {type(given).__name__}."
        hint = "Give a key, a reference such as 'env:NAME', or a function that returns a key."
        raise ConfigurationError(msg, hint=hint)
    return Credential(given, option)


def from_environment(names: tuple[str, ...]) -> Credential | None:
    """The first of some variables that is set; None if none is."""
    for name in names:
        if os.environ.get(name):
            return Credential(Secret(f"env:{name}"), f"the environment variable {name}")
    return None


def missing_key(provider: str, option: str, names: tuple[str, ...]) -> ConfigurationError:
    """The error of a transport that needs a key and has none."""
    variables = " or ".join(names)
    hint = f"Set {variables}, or give {option}=." if names else f"Give {option}=."
    return ConfigurationError(
        f"The transport {provider!r} has no key.", hint=hint, provider=provider, code="no_key"
    )


def _is_reference(text: str) -> bool:
    scheme, colon, _ = text.partition(":")
    if not colon:
        return False
    if scheme.lower() in {"env", "file"}:
        return True
    from lamella._registry import registry

    return registry().has("secret_sources", scheme)


def _unknown_scheme(text: str) -> SecretError | None:
    """The error of what looks like a reference, and is none that is read, without its rest."""
    scheme, colon, _ = text.partition(":")
    if not colon or not _SCHEME.fullmatch(scheme):
        return None
    return SecretError(
        f"What was given as a key looks like a reference to {scheme!r}, and nothing that is "
        "installed reads such references.",
        hint="Install the distribution that does; a key itself is Secret.of_value(key).",
    )


def _checked(value: object, origin: str) -> tuple[str, SecretError | None]:
    """A key as it is sent, or what is wrong with it: no frame that holds it raises anything."""
    key = value.strip() if isinstance(value, str) else ""
    if not key:
        return "", SecretError(f"The key from {origin} is empty or no text.")
    if not (key.isascii() and key.isprintable()) or " " in key:
        msg = f"The key from {origin} holds characters that no header can hold."
        hint = "A key is one line of ASCII without spaces: copy it again."
        return "", SecretError(msg, hint=hint)
    return key, None
