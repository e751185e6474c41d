"""Links in texts: which host each leads to, in whatever way a reader of the text takes it.

Where a link ends is not said in a text, and readers disagree: `https://good.example'.evil.example/`
ends at the quote for some, and leads browsers below `evil.example`. So a link is read in its long
form wherever that may lead elsewhere, and is then refused as an odd one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_BEGINNING: Final = re.compile(
    r"(?P<scheme>https?):[/\\]+"
    r"|(?:\]\(\s*<?|\]:\s*<?|\b(?:src|href|action|poster)\s*=\s*[\"']?)(?P<relative>[/\\]{2,})(?=\S)",
    re.IGNORECASE,
)
"""A link of the web; or one without a scheme, where Markdown or HTML takes it for one."""

_AUTHORITY: Final = re.compile(r"[^\s/?#\\]*")
_PLAIN: Final = re.compile(r"\[[^\]\s]*\](?::[0-9]*)?|[^\s<>\"'`{}|^\[\]]*")
_LABEL: Final = re.compile(r"[\w-]+")
_CLOSING: Final = {
    '"': '"', "'": "'", "`": "`", "|": "|", "(": ")", "<": ">", "[": "]", "{": "}",
    "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb", "\u300c": "\u300d",
    "\u3010": "\u3011", "\uff08": "\uff09",
}  # fmt: skip
"""What ends a link that stands behind the other."""

_BEHIND: Final = (
    ".,;:!?)*_~\"'`<>{}|^[]"
    "\u2026\u3001\u3002\u300b\u300d\u300f\u3011\uff01\uff09\uff0c\uff1a\uff1b\uff1f\u201d\u2019\u00bb"
)


def links_in(text: str) -> Iterator[tuple[str, int]]:
    """The addresses of the hosts that a text links to, and where each link begins.

    Paths are left out: they decide nothing.
    """
    for found in _BEGINNING.finditer(text):
        scheme = found["scheme"]
        start = found.start("scheme" if scheme else "relative")
        slashes = text[start + len(scheme) + 1 : found.end()] if scheme else "//"
        host = _host(text, found.end(), text[start - 1 : start])
        if host or slashes != "//":
            odd = "\\" if slashes != "//" or text.startswith("\\", found.end() + len(host)) else ""
            yield f"{(scheme or 'https').lower()}://{host}{odd}", start


def _host(text: str, start: int, before: str) -> str:
    """Host and port of a link whose host begins at `start`, with what is odd about them."""
    authority = _AUTHORITY.match(text, start)
    long = "" if authority is None else authority[0]
    closing = _CLOSING.get(before)
    if closing is not None and closing in long and not long.startswith("["):
        return long[: long.index(closing)]
    if start + len(long) == len(text) or text[start + len(long)].isspace():
        long = _without_end(long)
    plain = _PLAIN.match(long)
    short = "" if plain is None else plain[0]
    return long if _leads_elsewhere(long, short) else _without_end(short)


def _without_end(host: str) -> str:
    """A host without what ends the sentence that it stands in."""
    trimmed = host.rstrip(_BEHIND)
    return f"{trimmed}]" if host.startswith("[") and "]" not in trimmed else trimmed


def _leads_elsewhere(long: str, short: str) -> bool:
    """Whether a host that goes on behind a quote or bracket could be one."""
    if len(short) >= len(long):
        return False
    if "@" in long:
        return True
    host = long.partition(":")[0].rstrip(".")
    return len(host) > len(short) and _LABEL.fullmatch(host.rpartition(".")[2]) is not None
