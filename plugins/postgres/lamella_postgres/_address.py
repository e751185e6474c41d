"""Where the server is and how to get in; nothing here shows a password."""

from __future__ import annotations

import math
from typing import Any, Final
from urllib.parse import quote

from lamella import ConfigurationError, Secret
from lamella._revealed import remember

SCHEMES: Final = ("postgresql", "postgres")
_FORMS: Final = "'env:DATABASE_URL', 'file:PATH', or a URL without a password"
_SECRET: Final = ("password", "sslpassword", "oauth_client_secret")


def url_of(given: object) -> Secret | str:
    """A URL as an option: a secret, or a URL that has none in it.

    Raises:
        ConfigurationError: If it is neither. The message does not repeat it.
    """
    if isinstance(given, Secret):
        return given
    if not isinstance(given, str) or not given:
        msg = f"PostgresSpend(url=...) was given {type(given).__name__}, expected {_FORMS}."
        raise ConfigurationError(msg)
    if "://" not in given:
        return Secret(given)
    scheme = given.partition("://")[0].lower()
    if scheme not in SCHEMES:
        msg = f"PostgresSpend(url=...): a URL begins with {' or '.join(SCHEMES)}, not {scheme!r}."
        raise ConfigurationError(msg)
    settings = _parsed(given)
    if settings is None:
        raise no_url()
    if any(name in settings for name in _SECRET):
        msg = "PostgresSpend(url=...) was given a URL with a password in it."
        hint = "Keep it elsewhere: url='env:DATABASE_URL', or Secret.of_value(...) in code."
        raise ConfigurationError(msg, hint=hint)
    return given


def settings_of(url: str, connect_timeout: float) -> dict[str, Any] | None:
    """What libpq is told; None if the URL is none.

    It does not raise, for its frame has the password in it, which some show with a traceback.

    Args:
        url: The URL, or libpq's `name=value ...`, as it was revealed.
        connect_timeout: Seconds, which libpq counts in whole ones, two at least.
    """
    found = _parsed(url.strip())
    if found is None:
        return None
    for name in _SECRET:
        if name in found:
            remember(str(found[name]))
    return {
        "application_name": "lamella",
        # Connections that go silent are found out: by the system, if a firewall forgets them.
        "keepalives_idle": 30,
        **found,
        "client_encoding": "utf8",
        "connect_timeout": max(2, math.ceil(connect_timeout)),
    }


def without_secrets(text: str, settings: dict[str, Any]) -> str:
    """A message without what must not be in it, however it is written there."""
    for name in _SECRET:
        value = str(settings.get(name) or "")
        for form in {value, quote(value, safe=""), quote(value)} - {""}:
            text = text.replace(form, "***")
    return text


def _parsed(url: str) -> dict[str, Any] | None:
    """What libpq reads in it; None if it is no such thing. Its error would quote it."""
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    try:
        found = conninfo_to_dict(url)
    except (Error, ValueError, UnicodeError):
        return None
    return None if not url or _misread(url, found) else found


def _misread(url: str, found: dict[str, Any]) -> bool:
    """Whether libpq takes a part of a password for something else, which it would then show.

    It does where an `@` or a `/` in the password is not percent-encoded.
    """
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return False
    before, _, after = url.partition("://")[2].partition("?")[0].partition("/")
    if before.count("@") > 1 or "@" in after or "@" in str(found.get("host", "")).lstrip("@"):
        return True
    return any(port and not port.isdecimal() for port in str(found.get("port", "")).split(","))


def no_url() -> ConfigurationError:
    """The error of what is no URL."""
    return ConfigurationError(
        "PostgresSpend: what url leads to is no URL of a server.",
        hint=(
            "It reads postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full. In a user "
            "or a password @ is written %40, / is %2F, : is %3A, and % is %25."
        ),
    )
