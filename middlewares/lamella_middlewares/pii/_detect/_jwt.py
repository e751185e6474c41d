"""JSON Web Tokens (RFC 7519): signed (RFC 7515, three parts) and encrypted (RFC 7516, five).

What tells one from a dotted name is its first part: base64url of a JSON object that names an
algorithm. It is decoded. The object begins with `{` and `"` or white space: in base64url that is
`eyJ`, `eyA`, `ewo`, `ew0` or `ewk`.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from binascii import Error
from typing import Any, Final

from lamella_middlewares.pii._detect._open import in_last_word
from lamella_middlewares.pii._detect._pattern import Pattern, PatternDetector
from lamella_middlewares.pii._detect._signs import JWT_SIGN

LONGEST: Final = 8_192
"""Characters; web servers refuse longer headers."""

_HEADER: Final = 1_024


def _decoded(part: str) -> Any:
    try:
        return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (Error, ValueError, RecursionError):
        return None


def _sure(token: str) -> float:
    header, _, _ = token.partition(".")
    if len(header) > _HEADER:
        return 0.0
    decoded = _decoded(header)
    return float(isinstance(decoded, dict) and ("alg" in decoded or "enc" in decoded))


JWT: Final = PatternDetector(
    "jwt",
    (
        Pattern(
            r"e[yw][A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*"
            r"(?:\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)?",
            before="A-Za-z0-9_-",
            after="A-Za-z0-9_-",
        ),
    ),
    reach=LONGEST,
    sign=JWT_SIGN,
    valid=_sure,
    opens=in_last_word(LONGEST),
)
"""Finds `jwt`."""
