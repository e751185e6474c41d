"""Secrets: references to where a key is kept, which show in messages, never the key itself.

`env:NAME` is an environment variable and `file:PATH` a file, read whenever the key is used; other
schemes come from plugins, whose values are kept for a while and renewed before they end. So a
rotated key is taken up without a restart.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from lamella._errors import LamellaError, SecretError
from lamella._options import is_number
from lamella._ports import default_ports
from lamella._revealed import remember, revealed_values
from lamella._secret_values import (
    LARGEST,
    LINE_ENDS,
    SecretSource,
    SourcedValue,
    Terms,
    failed,
    hidden,
    is_text,
    sourced_value,
)

if TYPE_CHECKING:
    from lamella._ports import Ports

__all__ = ["DEFAULT_STALE_FOR", "DEFAULT_TTL", "Secret", "SecretSource", "revealed_values"]

DEFAULT_TTL: Final = 300.0
"""Seconds for which a value from a plugin's source is kept."""

DEFAULT_STALE_FOR: Final = 86_400.0
"""Seconds for which a value is used on while its source fails: a day."""

_PIECE: Final = 65_536
# Not on every system: not to wait for who writes to a pipe, and bytes as they are.
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_NEAR: Final = frozenset({"env", "file"})
_FORMS: Final = "'env:NAME' or 'file:PATH'"


class Secret:
    """A key, password or token by reference.

    Printing, formatting, logging, copying and pickling it give the reference. `reveal` and `fetch`
    give the value.

    Args:
        reference: `"env:NAME"`, `"file:PATH"` (relative to the working directory, `~` is the home
            folder), or `"SCHEME:..."` of a plugin.
        ttl: Seconds for which a value from a plugin's source is kept before it is asked again; 0
            asks each time. It is renewed in the background before that. Variables and files are
            read each time, whatever it says.
        stale_for: Seconds after those for which an earlier value is used on while the source
            fails; 0 is not at all.

    Raises:
        SecretError: If it is no reference. The message does not repeat it, as it may be the key.
    """

    __slots__ = ("_given", "_reference", "_shared", "_terms")

    def __init__(
        self, reference: str, *, ttl: float = DEFAULT_TTL, stale_for: float = DEFAULT_STALE_FOR
    ) -> None:
        self._reference: str | None = None  # already now: a traceback may show this object
        mistake = mistake_in(reference) or _mistaken_span("ttl", ttl, reference)
        mistake = mistake or _mistaken_span("stale_for", stale_for, reference)
        if mistake is not None:
            del reference  # what shows tracebacks with their variables would show the key
            raise mistake
        self._reference = reference
        self._terms = Terms(float(ttl), float(stale_for))
        self._given: Callable[[], str] | None = None
        self._shared: SourcedValue | None = None

    @classmethod
    def of(cls, secret: Secret | str) -> Secret:
        """The secret itself, or the one that a reference stands for."""
        if isinstance(secret, Secret):
            return secret
        mistake = mistake_in(secret)
        if mistake is not None:
            del secret
            raise mistake
        return cls(secret)

    @classmethod
    def of_value(cls, value: str) -> Secret:
        """A secret from its value, for programs that have it from elsewhere. It cannot be pickled.

        Raises:
            SecretError: If the value is empty or no string.
        """
        if not is_text(value):
            msg = "Secret.of_value was given no text."
            raise SecretError(msg, hint="Give the key itself, or a reference: Secret('env:NAME').")
        secret = cls("env:GIVEN")
        secret._reference = None
        secret._given = hidden(value)
        return secret

    @property
    def reference(self) -> str | None:
        """Where the value is kept; None if it was given itself."""
        return self._reference

    @property
    def problem(self) -> SecretError | None:
        """Why a plugin's source could not be asked again, while an earlier value is still used."""
        return None if self._shared is None else self._shared.problem

    def reveal(self) -> str:
        """The value.

        A plugin's source that is a plain function is asked in place, and may block.

        Raises:
            SecretError: If there is none, or its source can only be awaited (use `fetch`).
        """
        value = self._near()
        if value is None:
            ports = default_ports()
            value = self._current(ports).reveal(self._terms, ports)
        remember(value)
        return value

    async def fetch(self, *, ports: Ports | None = None) -> str:
        """The value, from any kind of source.

        A plugin's value is kept for `ttl` seconds, by all secrets of this process with the same
        reference, and clock, together; one request goes to its source, however many callers,
        threads and event loops wait. If the source fails, or takes long, the earlier value is used
        for `stale_for` seconds more and `problem` says why.

        Args:
            ports: Clock and threads; None are the system's.

        Raises:
            SecretError: If there is no value.
        """
        value = self._near()
        if value is None:
            ports = ports or default_ports()
            shared = self._shared
            if shared is not None and shared.clock is ports.monotonic:
                value = shared.settled(shared.clock(), self._terms)
            if value is None:
                value = await self._current(ports).fetch(self._terms, ports)
        remember(value)
        return value

    def invalidate(self, value: str | None = None, *, ports: Ports | None = None) -> None:
        """Have a plugin's source asked again by the next who wants the value.

        Transports do so when a provider refuses a key. Until the source has given another, the
        earlier value is used only if the source fails. Variables and files are read each time
        anyway.

        Args:
            value: The value that was refused: nothing happens if there is another by now, or if
                the source has just confirmed it. None is whatever value there is.
            ports: As for `fetch`.

        Raises:
            SecretError: If there is no source for it any more.
        """
        if self._given is None and _scheme(self._reference or "") not in _NEAR:
            ports = ports or default_ports()
            self._current(ports).invalidate(value, ports.monotonic())

    # --- reading -----------------------------------------------------------------------------

    @property
    def _rest(self) -> str:
        return (self._reference or "").partition(":")[2]

    def _near(self) -> str | None:
        """The value, if it is at hand; None if a plugin has to be asked."""
        if self._given is not None:
            return self._given()
        scheme = _scheme(self._reference or "")
        if scheme == "env":
            return self._variable()
        return self._file() if scheme == "file" else None

    def _variable(self) -> str:
        found = os.environ.get(self._rest)
        value = (found or "").rstrip(LINE_ENDS)
        if value:
            return value
        state = "is not set" if found is None else "is empty"
        msg = f"The environment variable {self._rest} of {self!r} {state}."
        raise SecretError(msg, hint=f"Set it: export {self._rest}=...")

    def _file(self) -> str:
        try:
            # Each time: a rotated key is often as long as the one before, within the same tick.
            value, state = _decoded(_content(self._rest))
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: nobody's home folder
            said = error.strerror if isinstance(error, OSError) else str(error)
            value, state, reason = "", "", said or type(error).__name__
        else:
            reason = ""
        if reason:
            # Raised out here: the frame that read the file may hold what came before it failed.
            msg = f"The file of {self!r} cannot be read: {reason}."
            raise SecretError(msg, hint=f"Put the key into {self._rest!r}, readable here.")
        if state:
            msg = f"The file of {self!r} is {state}."
            raise SecretError(msg, hint="It holds the key alone, as UTF-8 text.")
        return value

    def _current(self, ports: Ports) -> SourcedValue:
        """What holds the value, for the source that the registry knows now, and by this clock."""
        from lamella._registry import registry

        reference = self._reference or ""
        try:
            found = registry().get("secret_sources", _scheme(reference))
        except LamellaError as error:
            # Its own words: what is missing, and what to install.
            if self._shared is None or self._shared.clock is not ports.monotonic:
                raise failed(error, reference) from None
        else:
            self._shared = sourced_value(cast("SecretSource", found), reference, ports.monotonic)
        return self._shared

    # --- showing -----------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"Secret({self._reference!r})" if self._reference else "Secret(<hidden>)"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return self is other or (
            self._reference is not None and self._reference == other._reference
        )

    def __hash__(self) -> int:
        return id(self) if self._reference is None else hash(self._reference)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reference is None:
            self._refuse_pickling()
        return _restored, (self._reference, self._terms.ttl, self._terms.stale_for)

    def __getstate__(self) -> dict[str, str | None]:
        return {"reference": self._reference}  # and not every slot, which is the default

    def _refuse_pickling(self) -> NoReturn:
        msg = "A secret that was given by value is not pickled, as that would write it out."
        raise SecretError(msg, hint=f"Give it by reference where it is needed: {_FORMS}.")


def _content(path: str) -> bytes:
    """What a file holds, up to more than a key may have. A pipe is not waited for.

    By the system's own calls: it is on the way of each request.
    """
    file = os.open(str(Path(path).expanduser()) if path.startswith("~") else path, _FLAGS)
    try:
        found = os.read(file, _PIECE)
        while len(found) <= LARGEST and (more := os.read(file, _PIECE)):
            found += more
        return found
    finally:
        os.close(file)


def _decoded(data: bytes) -> tuple[str, str]:
    """The text of a file, or what is wrong with it: no frame that holds it raises anything."""
    if len(data) > LARGEST:
        return "", f"larger than {LARGEST} bytes"
    value = data.decode("utf-8-sig", errors="replace").rstrip(LINE_ENDS)
    if not value:
        return "", "empty"
    return ("", "no text") if "\ufffd" in value else (value, "")


def _scheme(reference: str) -> str:
    """What stands before the colon, as names are compared: no plugin is asked for `ENV:`."""
    return reference.partition(":")[0].lower()


def mistake_in(reference: object) -> SecretError | None:
    """What is wrong with a reference, without repeating it: it may be the key."""
    text = reference if isinstance(reference, str) else ""
    scheme, rest = _scheme(text), text.partition(":")[2]
    if not rest:
        msg = "A secret is given by reference, and what was given is none."
        hint = f"Write {_FORMS}; in code, Secret.of_value(...) takes the value itself."
        return SecretError(msg, hint=hint)
    if scheme == "env" and not rest.isidentifier():
        msg = "What stands behind 'env:' is no name of an environment variable."
        return SecretError(msg, hint="Write the variable's name there, not its value.")
    if scheme in _NEAR:
        return None
    from lamella._own_plugins import how_to_get
    from lamella._registry import registry

    if not registry().has("secret_sources", scheme):
        schemes = ", ".join(["env", "file", *registry().names("secret_sources")])
        here = {plugin.distribution for plugin in registry().plugins()}
        install = how_to_get("secret_sources", scheme.replace("-", "_"), here)
        if install:
            return SecretError(f"Nothing here reads secrets by {scheme + ':'!r}.", hint=install)
        msg = "A secret's reference begins with a scheme, and that of the one given is not known."
        return SecretError(msg, hint=f"Known are {schemes}; plugins bring others.")
    return None


def _mistaken_span(option: str, value: object, reference: str) -> SecretError | None:
    if is_number(value) and cast("float", value) >= 0:
        return None
    msg = f"Secret({reference!r}): {option}={value!r} is no finite number of seconds, 0 or more."
    return SecretError(msg)


def _restored(reference: str, ttl: float, stale_for: float = DEFAULT_STALE_FOR) -> Secret:
    return Secret(reference, ttl=ttl, stale_for=stale_for)
