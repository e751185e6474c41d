"""The last resort: what must not be in a log is taken out of every text that goes there.

Records hold no message of an error and no content in the first place. But a provider's word for
an error, a model's name, a tag or a note may still carry a key, an address with a token in it, or a
line break that would forge a record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

GONE: Final = "[removed]"

ALLOWED_QUERY: Final = frozenset({"api-version", "alt", "version", "v", "limit", "order"})
"""Parameters of an address whose values may be seen; all others are removed."""

_SECRET: Final = re.compile(
    r"""(?x)
      \b(?i:sk|pk|rk|gsk|xai|xox[abprs]|gh[opsu]|github_pat|glpat|hf|pplx|r8)
        [-_][A-Za-z0-9_.-]{16,}                        # keys by their well-known beginnings
    | \bAIza[A-Za-z0-9_-]{20,}
    | \bya29\.[A-Za-z0-9_-]{16,}
    | \bA(?:KIA|SIA)[A-Z0-9]{16}\b                     # AWS key ids
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)?   # JSON web tokens
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*KEY-----|\Z)
    """,
    re.DOTALL,
)
_STATED: Final = re.compile(
    r"""(?ix)
    ((?:authorization|cookie)["']?\s*[:=]\s*["']?)[^\r\n"']+        # of several words
    | ((?:api[-_ ]?key|(?:access|account|private|secret|subscription)[-_ ]?key|[?&;]key|secret
      |token|password|passwd|pwd|signature|(?<![a-z])sig)["']?\s*[:=]\s*["']?)
      [^\s"',;&}\]]+
    | \b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}
    """
)
_ADDRESS: Final = re.compile(
    r"""(?:(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,30}:)?//[^\s"'<>]+""", re.IGNORECASE
)
_CONTROL: Final = re.compile(
    # control characters, line separators, marks that turn the writing direction, lone surrogates
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Too short for any key above, and nothing in it that could state one: most words of a record.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{0,17}|[0-9a-f]{32}")
_SECRET_NAMES: Final = re.compile(
    r"(?i)(api[-_]?key|private[-_]?key|authorization|secret|password|passwd|cookie|credential"
    r"|signature|token$)"
)
_LONGEST: Final = 10_000
_DEEPEST: Final = 8


def scrubbed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record whose texts hold no keys, no values of addresses' queries, no control characters.

    The record's own names are ours; names further inside are scrubbed as well.
    """
    return {
        name: _text(value) if type(value) is str else _value(value, 0)
        for name, value in record.items()
    }


def _value(value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no word for the others
    if depth >= _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return {_text(str(key)): _named(str(key), item, depth + 1) for key, item in pairs}
    if isinstance(value, list | tuple | set | frozenset):
        return [_value(item, depth + 1) for item in cast("list[object]", value)]
    try:
        return _text(str(value))
    except Exception:  # noqa: BLE001 - somebody's object must not cost the record
        return f"<{type(value).__name__}>"


def _named(name: str, value: object, depth: int) -> Any:
    if not isinstance(value, int | float | None) and _SECRET_NAMES.search(name):
        return GONE
    return _value(value, depth)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text)} characters)"
    text = _ADDRESS.sub(_address, text)
    text = _SECRET.sub(GONE, text)
    text = _STATED.sub(lambda found: (found[1] or found[2] or f"{found[3]} ") + GONE, text)
    return _CONTROL.sub(_escaped, text)


def _address(found: re.Match[str]) -> str:
    """The address without who asks (user and password) and without what a query may hold."""
    try:
        parts = urlsplit(found[0])
        host = parts.netloc.rpartition("@")[2]
        shown = [
            (name, value if name.lower() in ALLOWED_QUERY else GONE)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
        ]
    except ValueError:
        return GONE
    query = urlencode(shown, safe="[]")
    return urlunsplit((parts.scheme, host, parts.path, query, GONE if parts.fragment else ""))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
