"""What must not be in a log, taken out of one text: by value, by pattern, and by name.

Every step takes time in proportion to the text, whatever it says: other threads wait meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from functools import partial
from typing import Final

from lamella._revealed import MOST_LETTERS
from lamella._scrub_values import without_revealed

GONE: Final = "[removed]"
"""What stands where something has been taken out."""

ALLOWED_QUERY: Final = frozenset({"api-version", "alt", "version", "v", "limit", "order"})
"""Parameters of an address whose values may be seen; all others are removed."""

LONGEST: Final = 10_000
"""Characters of one text; the rest is cut off, and the text says how many there were."""

_WINDOW: Final = LONGEST + MOST_LETTERS  # what begins before the cut is recognised whole
_ROOM: Final = 40  # for the words that say how long it was

_KNOWN: Final = re.compile(
    r"""(?x)
      (?<![A-Za-z0-9])(?:
        (?i:[prs]k[-_]|csk-|xai-|xox[abeprs]-|glpat-|pplx-|nvapi-|tvly-|gocspx-|gsk_|gh[oprsu]_
          |github_pat_|hf_|r8_|npm_|pypi-AgE|dop_v1_|lsv2_|shp[ap]t_|lin_api_|jina_)
          [A-Za-z0-9_.-]{16,}                          # keys by their well-known beginnings
      | (?:AIza|hv[bs]\.|SG\.|ya29\.|dapi)[A-Za-z0-9_.-]{20,}
      | A(?:KIA|SIA)[A-Z0-9]{16}                       # AWS key ids
      | AGE-SECRET-KEY-1[A-Z0-9]+
      )
    | (?:hooks\.slack\.com/services|discord(?:app)?\.com/api/webhooks)/[^\s"'<>]+
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*KEY-----|\Z)
    """,
    re.DOTALL,
)
_KNOWN_BEGIN: Final = re.compile(
    "sk|pk|rk|csk-|xai-|xox|glpat-|pplx-|nvapi-|tvly-|gocspx-|gsk_|gh|hf_|r8_|npm_|pypi-|dop_v1_"
    "|lsv2_|shp|lin_api_|jina_|aiza|hvb|hvs|sg[.]|ya29|dapi|akia|asia|age-secret|hooks[.]|discord"
    "|-----begin "
)
"""Where a key may begin, in small letters: a search for plain words takes next to no time."""

_BOT: Final = re.compile(r"(?<![A-Za-z0-9])[0-9]{8,10}:[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")
_DOTTED: Final = re.compile(
    r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{11,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]++)*+"
)
"""What may be a JSON web token; only one that has `eyJ` in its first part is."""

_NAMES: Final = (
    r"(?:(?:api|access|account|client|encryption|master|private|secret|shared|signing|subscription)"
    r"[-_ ]?key|[?&;]key|secret|token|passw(?:or)?d|passphrase|pwd|credentials?|signature"
    r"|(?<![a-z])sig)"
)
_STATED: Final = re.compile(
    rf"""(?ix)
    # Of several words: all until the end of the line or of the quotation.
    ((?:authorization|cookie)(?:\\*["']?\s*+(?:=>|[:=])\s*+|["']\s*+,\s*+)(?:b(?=["']))?+\\*+["']?+)
      (?!\[removed\])[^\r\n"']+
    | ({_NAMES}(?:\\*["']?\s*+(?:=>|[:=>])\s*+|["']\s*+,\s*+))
      (?: (b?"|b?')(?!\[removed\])(?:(?<=")(?:[^"\\\r\n]|\\.)++|(?<=')(?:[^'\\\r\n]|\\.)++)
        | (\\+["'])(?!\[removed\])[^\s"'\\]+
        | (?!\[removed\]|b["'])[^\s"',;&<>)}}\]\\]+
      )
    | (?<=-)({_NAMES}[ ])(?!\[removed\])[^\s"'-][^\s"']*
    | \b(bearer[ \t]+)(?!\[removed\])[A-Za-z0-9+/=._~-]{{8,}}
    """
)
_STATED_BEGIN: Final = re.compile(
    "authorization|cookie|api|access|account|client|encryption|master|private|secret|shared|signing"
    "|subscription|[?]key|&key|;key|token|passw|passphrase|pwd|credential|signature|sig|bearer"
)
_FLAG: Final = re.compile(r"(?<![\w-])--?[a-z-]{0,40}\Z", re.IGNORECASE)
_BASIC: Final = re.compile(r"(?i)\b(basic[ \t]+)([A-Za-z0-9+/]{8,}={0,2})")
_ADDRESS: Final = re.compile(
    r"""(?x)
    //([^\s"'<>/?\#]*)([^\s"'<>?\#]*)(\?[^\s"'<>\#]*)?(\#[^\s"'<>]*)?
    """
)
_RELATIVE: Final = re.compile(r"""\?(?<=[A-Za-z0-9_/.-]\?)[\w.%~+\[\]-]+=[^\s"'<>#]*""")
_CONTROL: Final = re.compile(
    # control characters, line separators, marks that turn the writing direction, lone surrogates
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_CONTROL_IN_LINES: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SMALL: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
# Too short for any key above, and nothing in it that could state one: most words of a record.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{0,17}|[0-9a-f]{32}")


def clean_text(text: str, *, lines: bool = False) -> str:
    """A text without keys, without values of addresses' queries, without control characters.

    Args:
        text: Any text; of a long one the beginning.
        lines: Whether line breaks and tabs stay. Otherwise they are escaped like the others, so
            that a text is one line.
    """
    length = len(text)
    text = without_revealed(text[:_WINDOW] if length > _WINDOW else text, GONE)
    if _PLAIN.fullmatch(text):
        return text
    text = _without_patterns(text)
    if length > _WINDOW:  # what the window has cut in two stands, not recognised, at its end
        text = text[:-MOST_LETTERS]
    if length > LONGEST:
        text = f"{text[: LONGEST - _ROOM]}... ({length} characters)"
    return (_CONTROL_IN_LINES if lines else _CONTROL).sub(_escaped, text)


def _without_patterns(text: str) -> str:
    if "//" in text:
        text = _ADDRESS.sub(_address, text)
    if "?" in text:
        text = _RELATIVE.sub(lambda found: _query(found[0]), text)
    text = _replaced(text, _KNOWN_BEGIN, _KNOWN, lambda _: GONE)
    if ":" in text:
        text = _BOT.sub(GONE, text)
    if "eyJ" in text:
        text = _DOTTED.sub(_token, text)
    text = _replaced(text, _STATED_BEGIN, _STATED, _stated)
    return _BASIC.sub(_basic, text) if "asic" in text or "ASIC" in text else text


def _replaced(
    text: str,
    begin: re.Pattern[str],
    pattern: re.Pattern[str],
    instead: Callable[[re.Match[str]], str],
) -> str:
    """What the pattern matches where `begin`, in small letters, is found, replaced."""
    small = text.lower()
    if len(small) != len(text):  # a letter has become two
        small = text.translate(_SMALL)
    pieces: list[str] = []
    here = 0
    for place in begin.finditer(small):
        start = place.start()
        found = pattern.match(text, start) if start >= here else None
        if found is not None:
            pieces += (text[here:start], instead(found))
            here = found.end()
    return "".join([*pieces, text[here:]]) if pieces else text


def _stated(found: re.Match[str]) -> str:
    if found[5] and not _FLAG.search(found.string[max(0, found.start() - 50) : found.start()]):
        return found[0]  # `non-secret words`, not `--secret WORD`
    name = found[1] or found[2] or found[5] or found[6]
    return f"{name}{found[3] or found[4] or ''}{GONE}"


def _token(found: re.Match[str]) -> str:
    before, mark, _ = found[0].partition("eyJ")
    return before + GONE if mark else before


def _basic(found: re.Match[str]) -> str:
    """Without a user and a password; `basic understanding` is none."""
    word: str = found[2]
    try:
        decoded = base64.b64decode(word + "=" * (-len(word) % 4), validate=True)
    except binascii.Error:
        return str(found[0])
    return found[1] + GONE if b":" in decoded else str(found[0])


def _address(found: re.Match[str]) -> str:
    """The address without who asks (user and password) and without what a query may hold."""
    host, path, query, fragment = found.groups(default="")
    port = host.rpartition(":")[2].strip("]")
    if "@" not in host and ":" in host and not port.isdecimal() and "@" in found[0]:
        # A password with a slash, or such: all until the last @ says who asks.
        rest = _ADDRESS.fullmatch("//" + found[0].rpartition("@")[2])
        if rest is None:
            return GONE
        host, path, query, fragment = rest.groups(default="")
    host = host.rpartition("@")[2]
    return "//" + host + path + _query(query) + (f"#{GONE}" if fragment else "")


def _query(query: str) -> str:
    if not query:
        return ""
    return "?" + "&".join(map(_parameter, query[1:].split("&")))


def _parameter(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    if not equals:
        return GONE if pair else ""
    return pair if name.lower() in ALLOWED_QUERY else f"{name}={GONE}"


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


clean_lines = partial(clean_text, lines=True)
"""A text of several lines, cleaned."""
