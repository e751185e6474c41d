"""What goes with every request to a server, unless a request says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from lamella._nothing import NOTHING
from lamella._requests import Request
from lamella.transports._dialect import JSON
from lamella.transports._wire_json import mapping_of
from lamella.transports._wire_parts import merge_extra

ORIGIN: Final = "ollama-native"
"""How parts are marked that go back to this API only. The compatible endpoint's are others."""


@attrs.frozen(kw_only=True)
class Defaults:
    """The fields of requests that no request of ours has.

    Attributes:
        options: Options of the model: `num_ctx`, `top_k` ...
        fields: Fields beside them: `keep_alive`, `truncate`, `shift`.
        bounded: Whether the server keeps to the window that is asked for; a cloud need not.
    """

    options: Mapping[str, Any] = attrs.field(default=NOTHING, hash=False)
    fields: Mapping[str, Any] = attrs.field(default=NOTHING, hash=False)
    bounded: bool = True

    def window(self, request: Request[Any] | None) -> int | None:
        """The window that a server was asked for and keeps to, in tokens; None if none is known."""
        if not self.bounded:
            return None
        asked = NOTHING if request is None else mapping_of(request.extra, "options")
        found: Any = asked.get("num_ctx", self.options.get("num_ctx"))
        return found if isinstance(found, int) and not isinstance(found, bool) else None


NO_DEFAULTS = Defaults()


def merge_own(body: JSON, request: Request[Any], *, provider: str) -> None:
    """Add `request.extra` to a body, last; its `options` are joined with those that are there.

    Raises:
        UnsupportedError: If it holds what would pass by layers that look at the request.
    """
    before, given = body.get("options"), request.extra.get("options")
    merge_extra(body, request, provider=provider)
    if before and isinstance(given, Mapping):
        body["options"] = {**before, **given}
