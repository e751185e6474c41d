"""The key under which a provider keeps requests with one beginning together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from lamella import ChatRequest, MisuseError, Tool
from lamella._canonical import encode

KeyOf: TypeAlias = Callable[[ChatRequest], str | None]

KINDS: Final = ("tenant", "session")
Kind: TypeAlias = Literal["tenant", "session"]

_LOOKED_AT: Final = 4_000
"""Characters of the instructions: providers look at fewer when they choose a machine."""
_SYSTEM: Final = frozenset({"system", "developer"})


def cache_key(request: ChatRequest, kind: Kind | KeyOf | None) -> str | None:
    """The key of a request, 32 hexadecimal digits; None for no key.

    It is a digest, so that neither a tenant's name nor a word of the prompt is in it, and the
    tenant is always part of it.

    Args:
        request: The request.
        kind: What it is made of, besides the tenant; see `PromptCache`.

    Raises:
        MisuseError: If a function gives neither text nor None.
    """
    context = request.context
    if kind is None:
        made: object = _beginning(request)
    elif kind == "tenant":
        made = None
    elif kind == "session":
        made = context.session if context.session is not None else _beginning(request)
    else:
        made = kind(request)
        if made is None:
            return None
        if not isinstance(made, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"PromptCache(key=...) gave a {type(made).__name__} for a request."
            raise MisuseError(msg, hint="Return text, or None for no key.", layer="prompt_cache")
    if isinstance(made, str):
        made = _bytes(made)
    tenant = None if context.tenant is None else _bytes(context.tenant)
    kept = encode([tenant, kind if isinstance(kind, str) else None, made])
    return hashlib.sha256(kept, usedforsecurity=False).hexdigest()[:32]


def _beginning(request: ChatRequest) -> list[object]:
    """What tells the beginning of a request from others: tools by name, and the instructions.

    Without either, it is the first message: all turns of a conversation begin with it.
    """
    names = [tool.name if isinstance(tool, Tool) else "" for tool in request.tools]
    texts: list[str] = []
    for message in request.messages:
        if message.role not in _SYSTEM:
            if not names and not texts:
                texts.append(message.text)
            break
        texts.append(message.text)
    return [
        [_bytes(name) for name in names],
        [_bytes(text[:_LOOKED_AT]) for text in texts],
    ]


def _bytes(text: str) -> bytes:
    """Any text, also what is no Unicode: the transport refuses that, without showing any of it."""
    return text.encode("utf-8", "surrogatepass")
