"""Secrets in addresses: `scheme://user:password@host`, and well-known query parameters.

What is found is the secret alone, so that the rest of the address still says something. Parameters:
RFC 6750 and RFC 6749 (OAuth), AWS Signature Version 4, Azure shared access signatures, Google Cloud
Storage signed URLs, and names that say what they are (`api_key`, `password`, `token`).
"""

from __future__ import annotations

from typing import Final

from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._open import last_run
from lamella_middlewares.pii._detect._pattern import Pattern, PatternDetector

_REACH: Final = 824
_SCHEME: Final = "[A-Za-z][A-Za-z0-9+.-]{1,31}"
_NO_HOST: Final = "\\x00-\\x20/?#\"'<>`\\\\"
"""What ends the part before the path; a password may have an `@` in it that should be `%40`."""

_NO_VALUE: Final = "\\x00-\\x20&\"'<>#;`\\\\)\\]}|"
"""What ends a parameter, of an address alone or of one in a text."""

NAMES: Final = (
    "access[_-]?token|id[_-]?token|refresh[_-]?token|auth[_-]?token|api[_-]?token|token|bearer"
    "|api[_-]?key|apikey|x-api-key|access[_-]?key|subscription-key|secret[_-]?key|key"
    "|client[_-]?secret|app[_-]?secret|secret|password|passwd|passphrase|pwd|pass"
    "|x-amz-signature|x-amz-security-token|x-goog-signature|signature|sig|hmac|jwt"
    "|session[_-]?id|session|sessid|phpsessid|jsessionid"
)


def _secret(value: str) -> float:
    """Whether it is one, and not what stands for one: `****`, `{password}`, `$PASSWORD`."""
    if not value.strip("*.xX\u2022\u2026"):
        return 0.0
    named = value[0] in "{<[$%" and value[-1] in "}>]%"
    return float(not named and not value.startswith("${"))


def _plain(text: str) -> bool:
    if "://" in text and "@" in text:
        return True
    return "=" in text and any(sign in text for sign in "?&;#")


_SIGN: Final = Sign(f"://[^{_NO_HOST}]*@|[?&;#][A-Za-z0-9_;-]{{1,30}}=", plain=_plain)


def _opens(text: str) -> int:
    """The last run without white space, if what a secret stands behind is in it."""
    begins = last_run(text, _REACH)
    run = text[begins:]
    return begins if "://" in run or "=" in run else len(text)


URL_CREDENTIALS: Final = PatternDetector(
    "url_credentials",
    (
        Pattern(f"{_SCHEME}://[^{_NO_HOST}:@]{{0,128}}:([^{_NO_HOST}]{{1,256}})@[A-Za-z0-9\\[{{$]"),
        Pattern(f"{_SCHEME}://([A-Za-z0-9_-]{{20,256}})@[A-Za-z0-9\\[]"),
        Pattern(
            f"[?&;#](?:amp;)?(?:{NAMES})=([^{_NO_VALUE}]{{5,767}}[^{_NO_VALUE}.,!?:*_])",
            ignore_case=True,
        ),
    ),
    reach=_REACH,
    sign=_SIGN,
    valid=_secret,
    opens=_opens,
)
"""Finds `url_credentials`."""
