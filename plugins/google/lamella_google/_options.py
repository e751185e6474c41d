"""What both transports share before their first request: options, and the API's version."""

from __future__ import annotations

import os
import re
from typing import Final

import attrs

from lamella._errors import ConfigurationError
from lamella.transports._http_transport import TransportOptions

_VERSION: Final = re.compile(r"v\d+[a-z0-9]*")
_VERSION_VARIABLE: Final = "GOOGLE_GENAI_API_VERSION"


def _can_be_version(_: object, __: object, value: str | None) -> None:
    if value is not None and not _VERSION.fullmatch(value):
        msg = f"api_version={value!r} is no version of an API."
        raise ConfigurationError(msg, hint="Give one such as 'v1' or 'v1beta'.")


@attrs.frozen(kw_only=True)
class GoogleOptions(TransportOptions):
    """What is rarely said of a transport to Google, besides `TransportOptions`.

    Attributes:
        api_version: The API's version: `"v1"`, `"v1beta"`. None takes the one at the end of
            `base_url`, then `GOOGLE_GENAI_API_VERSION`, then the default of Google's own SDK.
        thoughts: Whether summaries of the model's thoughts are asked for; the thoughts are billed
            either way. None asks for them where a request has a `reasoning_effort`.
    """

    api_version: str | None = attrs.field(default=None, validator=_can_be_version)
    thoughts: bool | None = None


def versioned(base_url: str, given: GoogleOptions, default: str, beta: str) -> str:
    """The address up to and including the API's version.

    Args:
        base_url: With or without a version.
        given: What may name one.
        default: The version where nobody names one.
        beta: What the variable's `beta` stands for.

    Raises:
        ConfigurationError: If the variable holds no version.
    """
    root, _, last = base_url.rpartition("/")
    stated = last if _VERSION.fullmatch(last) else None
    root = base_url if stated is None else root
    variable = os.environ.get(_VERSION_VARIABLE) or default
    version = given.api_version or stated or (beta if variable == "beta" else variable)
    if not _VERSION.fullmatch(version):
        msg = f"{_VERSION_VARIABLE} holds {version!r}, which is no version of an API."
        raise ConfigurationError(msg, hint="Set it to one such as 'v1' or 'v1beta', or unset it.")
    return f"{root}/{version}"
