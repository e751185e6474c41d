"""Reading passwords of the system's keyring. It may block, or ask the user to unlock it."""

from __future__ import annotations

from importlib import import_module
from shlex import quote
from typing import Any, Final
from urllib.parse import unquote

from lamella import ConfigurationError, SecretError
from lamella._secret_values import GONE

SYNTAX: Final = "Write keyring:SERVICE/USER; a slash in the service is %2F."

_NO_KEYRING: Final = (
    "On a machine without a desktop, use env:, file: or another source; on Linux, a keyring needs "
    "Secret Service (GNOME Keyring, KWallet) in this session. `keyring diagnose` tells more."
)


def keyring_secret(reference: str, /) -> str:
    """The password of a user of a service.

    Args:
        reference: What stands behind `keyring:`, `SERVICE/USER`.

    Raises:
        SecretError: If it cannot be had. Neither it nor the keyring's own words are in it.
    """
    service, slash, user = reference.partition("/")
    service, user = unquote(service), unquote(user)
    if not slash or not service or not user:
        raise SecretError("What stands behind 'keyring:' names no password.", hint=SYNTAX)
    value, problem = _read(service, user)
    if problem is not None:
        raise problem
    return value


def _read(service: str, user: str) -> tuple[str, SecretError | None]:
    what = f"password of {user!r} for {service!r}"
    try:
        found: Any = import_module("keyring").get_password(service, user)
    except ImportError as error:
        msg = "Secrets of the system's keyring need the package keyring."
        hint = "Run `pip install lamella-keyring`."
        raise ConfigurationError(msg, hint=hint) from error
    except Exception as error:  # noqa: BLE001 - a backend may raise anything, with anything in it
        return "", _problem_of(error, what)
    if isinstance(found, str) and found:
        return found, None
    hint = f"Store it: `keyring set {quote(service)} {quote(user)}`."
    return "", SecretError(f"The keyring has no {what}.", hint=hint, code=GONE)


def _problem_of(error: Exception, what: str) -> SecretError:
    names = {kind.__name__ for kind in type(error).__mro__}
    if "NoKeyringError" in names:
        return SecretError(f"This system has no keyring, so no {what}.", hint=_NO_KEYRING)
    if "KeyringLocked" in names:
        msg = f"The keyring is locked, so the {what} could not be read."
        return SecretError(msg, hint="Unlock it, and allow this program in.", code="locked")
    if names & {"InitError", "KeyringError"}:
        msg = f"The keyring gave no {what} ({type(error).__name__})."
        return SecretError(msg, hint="Look whether it works: `keyring diagnose`.")
    msg = f"The keyring failed with {type(error).__name__} when asked for the {what}."
    return SecretError(msg, hint="Look whether it works: `keyring diagnose`.")
