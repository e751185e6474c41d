"""Secrets: references to where a key is kept, which show in messages, never the key itself.

`env:NAME` is an environment variable and `file:PATH` a file; other schemes come from plugins. The
place is read whenever the key is used, so that a rotated key is taken up without a restart.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias, TypeGuard, cast

from lamella._errors import LamellaError, SecretError
from lamella._options import is_number

SecretSource: TypeAlias = Callable[[str], str | Awaitable[str]]
"""What a plugin contributes for a scheme: it is given what stands behind the colon."""

DEFAULT_TTL: Final = 300.0
"""Seconds for which a value from a plugin's source is kept."""

_LARGEST: Final = 1 << 20
_LINE_ENDS: Final = "\r\n"
"""What editors, and tools that store keys, leave behind a value."""

_FORMS: Final = "'env:NAME' or 'file:PATH'"


class Secret:
    """A key, password or token by reference.

    Printing, formatting, logging and pickling it give the reference. `reveal` gives the value.

    Args:
        reference: `"env:NAME"`, `"file:PATH"` (relative to the working directory, `~` is the home
            folder), or `"SCHEME:..."` of a plugin.
        ttl: Seconds for which a value from a plugin's source is kept before it is asked again; 0
            asks each time. Variables and files are read each time, whatever it says.

    Raises:
        SecretError: If it is no reference. The message does not repeat it, as it may be the key.
    """

    __slots__ = ("_kept", "_problem", "_reference", "_ttl", "_until", "_value")

    def __init__(self, reference: str, *, ttl: float = DEFAULT_TTL) -> None:
        _check(reference)
        if not is_number(ttl) or ttl < 0:
            msg = f"Secret({reference!r}): ttl={ttl!r} is no finite number of seconds, 0 or more."
            raise SecretError(msg)
        self._reference: str | None = reference
        self._ttl = float(ttl)
        self._value: str | None = None
        self._kept: str | None = None
        self._until = 0.0
        self._problem: SecretError | None = None

    @classmethod
    def of(cls, secret: Secret | str) -> Secret:
        """The secret itself, or the one that a reference stands for."""
        return secret if isinstance(secret, Secret) else cls(secret)

    @classmethod
    def of_value(cls, value: str) -> Secret:
        """A secret from its value, for programs that have it from elsewhere. It cannot be pickled.

        Raises:
            SecretError: If the value is empty or no string.
        """
        if not _is_text(value):
            msg = "Secret.of_value was given no text."
            raise SecretError(msg, hint="Give the key itself, or a reference: Secret('env:NAME').")
        secret = cls("env:GIVEN")
        secret._reference = None
        secret._value = value
        return secret

    @property
    def reference(self) -> str | None:
        """Where the value is kept; None if it was given itself."""
        return self._reference

    @property
    def problem(self) -> SecretError | None:
        """Why a plugin's source could not be asked again, while an earlier value is still used."""
        return self._problem

    def reveal(self) -> str:
        """The value.

        Raises:
            SecretError: If there is none, or its source can only be awaited (use `fetch`).
        """
        value = self._near()
        if value is not None:
            return value
        try:
            found = self._source()(self._rest)
        except Exception as error:  # noqa: BLE001 - a stranger's source may raise anything
            raise self._failed(error) from None  # a traceback would show its message too
        if not inspect.isawaitable(found):
            return self._found(found)
        if inspect.iscoroutine(found):
            found.close()
        msg = f"The source of {self!r} is asynchronous."
        raise SecretError(msg, hint="Use `await secret.fetch()`.")

    async def fetch(self) -> str:
        """The value, from any kind of source.

        A plugin's value is kept for `ttl` seconds. If its source then fails, the earlier value is
        used and `problem` says why.

        Raises:
            SecretError: If there is no value.
        """
        value = self._near()
        if value is not None:
            return value
        from lamella._ports import default_ports

        now = default_ports().monotonic()
        if self._kept is not None and now < self._until:
            return self._kept
        try:
            found = self._source()(self._rest)
            value = self._found(await found if inspect.isawaitable(found) else found)
        except Exception as error:  # noqa: BLE001 - as in `reveal`
            problem = self._failed(error)
            if self._kept is None:
                raise problem from None
            self._problem = problem
            return self._kept
        self._kept, self._until, self._problem = value, now + self._ttl, None
        return value

    # --- reading -----------------------------------------------------------------------------

    @property
    def _rest(self) -> str:
        return (self._reference or "").partition(":")[2]

    def _near(self) -> str | None:
        """The value, if it is at hand; None if a plugin has to be asked."""
        if self._reference is None:
            return self._value
        scheme = _scheme(self._reference)
        if scheme == "env":
            return self._variable()
        return self._file() if scheme == "file" else None

    def _variable(self) -> str:
        found = os.environ.get(self._rest)
        value = (found or "").rstrip(_LINE_ENDS)
        if value:
            return value
        state = "is not set" if found is None else "is empty"
        msg = f"The environment variable {self._rest} of {self!r} {state}."
        raise SecretError(msg, hint=f"Set it: export {self._rest}=...")

    def _file(self) -> str:
        try:
            # Each time: a rotated key is often as long as the one before, within the same tick.
            with Path(self._rest).expanduser().open("rb") as file:
                data = file.read(_LARGEST + 1)
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: nobody's home folder
            reason = error.strerror if isinstance(error, OSError) else str(error)
            msg = f"The file of {self!r} cannot be read: {reason or type(error).__name__}."
            hint = f"Put the key into {self._rest}, readable here."
            raise SecretError(msg, hint=hint) from error
        return self._decoded(data)

    def _decoded(self, data: bytes) -> str:
        hint = "It holds the key alone, as UTF-8 text."
        if len(data) > _LARGEST:
            msg = f"The file of {self!r} is larger than {_LARGEST} bytes."
            raise SecretError(msg, hint=hint)
        # Not strictly, and then caught: that error would carry the bytes along.
        value = data.decode("utf-8-sig", errors="replace").rstrip(_LINE_ENDS)
        if not value or "\ufffd" in value:
            msg = f"The file of {self!r} is {'no text' if value else 'empty'}."
            raise SecretError(msg, hint=hint)
        return value

    def _source(self) -> SecretSource:
        from lamella._registry import registry

        scheme = _scheme(self._reference or "")
        return cast("SecretSource", registry().get("secret_sources", scheme))

    def _found(self, value: object) -> str:
        if _is_text(value):
            return value
        msg = f"The source of {self!r} gave no text."
        raise SecretError(msg, hint="Look whether the secret exists there and is not empty.")

    def _failed(self, error: Exception) -> SecretError:
        if isinstance(error, SecretError):
            return error
        # A stranger's message may hold what it was sent; ours do not.
        words = f": {error}" if isinstance(error, LamellaError) else ""
        msg = f"The source of {self!r} failed with {type(error).__name__}{words}."
        return SecretError(msg, hint="Look whether it can be reached and allows this program in.")

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
        return _restored, (self._reference, self._ttl)

    def _refuse_pickling(self) -> NoReturn:
        msg = "A secret that was given by value is not pickled, as that would write it out."
        raise SecretError(msg, hint=f"Give it by reference where it is needed: {_FORMS}.")


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value != ""


def _scheme(reference: str) -> str:
    """What stands before the colon, as names are compared: no plugin is asked for `ENV:`."""
    return reference.partition(":")[0].lower()


def _check(reference: object) -> None:
    """Refuse what is no reference, without repeating it: it may be the key."""
    text = reference if isinstance(reference, str) else ""
    scheme, rest = _scheme(text), text.partition(":")[2]
    if not rest:
        msg = "A secret is given by reference, and what was given is none."
        hint = f"Write {_FORMS}; in code, Secret.of_value(...) takes the value itself."
        raise SecretError(msg, hint=hint)
    if scheme == "env" and not rest.isidentifier():
        msg = "What stands behind 'env:' is no name of an environment variable."
        raise SecretError(msg, hint="Write the variable's name there, not its value.")
    if scheme in {"env", "file"}:
        return
    from lamella._registry import registry

    if not registry().has("secret_sources", scheme):
        schemes = ", ".join(["env", "file", *registry().names("secret_sources")])
        msg = "A secret's reference begins with a scheme, and that of the one given is not known."
        raise SecretError(msg, hint=f"Known are {schemes}; plugins bring others.")


def _restored(reference: str, ttl: float) -> Secret:
    return Secret(reference, ttl=ttl)
