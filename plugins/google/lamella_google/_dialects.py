"""Which dialect answers each operation, and how."""

from __future__ import annotations

from collections.abc import Mapping

from lamella.transports._dialect import Dialect, DialectOptions
from lamella_google._chat import GeminiChat
from lamella_google._embeddings import GeminiEmbeddings
from lamella_google._options import GoogleOptions
from lamella_google._token_count import GeminiTokenCount


def google_dialects(name: str, *, vertex: bool) -> Mapping[str, Dialect]:
    """Which dialect answers each operation."""
    made: list[Dialect] = [
        GeminiChat(name, vertex),
        GeminiEmbeddings(name, vertex),
        GeminiTokenCount(name, vertex),
    ]
    return {dialect.operation: dialect for dialect in made}


def google_dialect_options(given: GoogleOptions) -> DialectOptions:
    """The quirks that options say, unless they bring their own."""
    return given.dialect or DialectOptions(
        send_user=given.send_user,
        refuse_foreign=given.refuse_foreign,
        quirks={"thoughts": given.thoughts},
    )
