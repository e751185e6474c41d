"""The last resort: what must not be in a log is taken out of everything that goes there.

Records hold no message of an error and no content in the first place. But a provider's word for
an error, a model's name, a tag or a note may still carry a key, an address with a token in it, or a
line break that would forge a record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from lamella._failure_texts import FailureText
from lamella._scrub_texts import GONE, clean_text
from lamella._scrub_values import searched_for
from lamella._secrets import Secret

__all__ = ["ALLOWED_HEADERS", "GONE", "scrub"]

ALLOWED_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "cf-ray",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "openai-processing-ms",
        "openai-version",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "server",
        "transfer-encoding",
        "user-agent",
        "x-request-id",
    }
)
"""Headers whose values may be seen, beside those of rate limits; all others are removed."""

_LIMITS: Final = re.compile(r"(?:x|anthropic)-ratelimit-[a-z-]+")
_HEADERS: Final = re.compile(r"(?i)(?:^|[-_.])headers?$|[a-z]Headers?$")
_SECRET_NAMES: Final = re.compile(
    r"(?i)((?:api|access|account|client|encryption|master|private|secret|shared|signing"
    r"|subscription)[-_ ]?key|authorization|secret|passw(?:or)?d|passphrase|(?:^|[-_])pwd$|cookie"
    r"|credential|signature|token$)"
)
_DEEPEST: Final = 10
_MOST_ITEMS: Final = 10_000
_MOST_LETTERS: Final = 1_000_000
_MOST_BITS: Final = 1024
_BIG: Final = 1 << 64
_MOST_KNOWN: Final = 2_000
_SHORT: Final = 64
_ID_LETTERS: Final = 32
_NUMBERS: Final = (int, float)
_PLAIN: Final = (False, False)
"""Of a name: neither that of a secret, nor that of headers."""
_MORE: Final = "..."


def scrub(value: object) -> Any:
    """The same without what must not be in a log: for what a program itself writes down.

    Taken out are values that any `Secret` has revealed in this process (8 characters or more), keys
    by their well-known beginnings, JSON web tokens, private keys, bearer tokens, what is stated as
    a password, users and passwords in addresses, values in their queries except harmless ones;
    in tables, what has the name of a secret, and values of `headers` except harmless ones. Control
    characters, line breaks too, are escaped. What is deep, long or endless is cut off.

    Args:
        value: A text, a table, a list, or any object, of which the words count.

    Returns:
        A text for a text; tables and lists of JSON values; whole numbers, finite ones, True, False
        and None as they are; for all else its words.
    """
    walk = _Walk()
    if type(value) is dict:
        return walk.table(cast("dict[object, object]", value), 1)
    return walk.value(value, 0)


class _Harmless:
    """Short texts in which there was nothing to remove: records say the same words again and again.

    Args:
        made_of: The values that secrets had revealed by then. There may be one in any text once
            another has been revealed.
    """

    __slots__ = ("made_of", "names", "texts")

    def __init__(self, made_of: tuple[str, ...]) -> None:
        self.made_of = made_of
        self.texts: set[str] = set()
        self.names: dict[str, tuple[bool, bool]] = {}  # whether of a secret, whether of headers


_harmless = _Harmless(())


def _known_harmless() -> _Harmless:
    global _harmless  # noqa: PLW0603 - begun anew only when another value has been revealed
    values, known = searched_for(), _harmless
    if known.made_of is not values or len(known.texts) + len(known.names) > _MOST_KNOWN:
        known = _harmless = _Harmless(values)
    return known


class _Walk:
    """One value on its way, with how much of it there may be yet."""

    __slots__ = ("_items", "_known", "_letters")

    def __init__(self) -> None:
        self._items = _MOST_ITEMS
        self._letters = _MOST_LETTERS
        self._known = _known_harmless()

    def value(self, value: object, depth: int) -> Any:
        if type(value) is str:
            return self._text(value)
        if value is None or isinstance(value, _NUMBERS):
            return _number(value)
        if depth >= _DEEPEST:
            return _MORE
        if isinstance(value, Mapping):
            return self.table(cast("Mapping[object, object]", value), depth + 1)
        if isinstance(value, list | tuple | set | frozenset):
            return self._list(cast("list[object]", value), depth + 1)
        if isinstance(value, FailureText):
            return value.written(self._text)
        if isinstance(value, Secret):
            return clean_text(repr(value))  # its reference
        return self._words(value)

    def _words(self, value: object) -> str:
        try:
            return self._text(str(value))
        except Exception:  # noqa: BLE001 - somebody's object must not cost the record
            return f"<{type(value).__name__}>"

    def _text(self, text: str) -> str:
        if self._letters <= 0:
            return _MORE
        known = self._known.texts
        if text in known:
            self._letters -= len(text)
            return text
        found = clean_text(text)
        an_id = len(text) == _ID_LETTERS and text.isalnum()  # which is another one each time
        if found == text and len(text) <= _SHORT and not an_id:
            known.add(text)
        self._letters -= len(found)
        return found

    def table(self, table: Mapping[object, object], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        names, texts = self._known.names, self._known.texts
        letters = self._letters
        for key, item in table.items():
            if self._items <= 0:
                found[_MORE] = _MORE
                break
            self._items -= 1
            if type(key) is str and key in texts and letters > len(key):
                # Nearly every field of every record, so without the way through all functions.
                if type(item) is str:
                    if item in texts and names.get(key) is _PLAIN:
                        letters -= len(key) + len(item)
                        found[key] = item
                        continue
                elif (
                    item is None
                    or (type(item) is int and -_BIG < item < _BIG)
                    or (type(item) is float and item - item == 0)  # finite
                    or type(item) is bool
                ):
                    letters -= len(key)
                    found[key] = item
                    continue
            self._letters = letters
            name = key if type(key) is str else self._words(key)
            found[self._text(name)] = self._named(name, item, depth)
            letters = self._letters
        self._letters = letters
        return found

    def _named(self, name: str, value: object, depth: int) -> Any:
        if value is None or isinstance(value, _NUMBERS):
            return _number(value)
        secret, headers = self._known.names.get(name) or self._meaning(name)
        if secret:
            return clean_text(repr(value)) if isinstance(value, Secret) else GONE
        if headers:
            pairs = _pairs(value)
            if pairs is not None:
                return self._headers(pairs, depth)
        return self.value(value, depth)

    def _meaning(self, name: str) -> tuple[bool, bool]:
        """Whether a name is that of a secret, and whether it is that of headers."""
        found = _SECRET_NAMES.search(name) is not None, _HEADERS.search(name) is not None
        found = found if any(found) else _PLAIN
        if name in self._known.texts:
            self._known.names[name] = found
        return found

    def _headers(self, pairs: list[tuple[str, object]], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs[:_MOST_ITEMS]:
            plain = name.lower()
            seen = plain in ALLOWED_HEADERS or _LIMITS.fullmatch(plain)
            found[self._text(name)] = self.value(value, depth) if seen else GONE
        return found

    def _list(self, items: list[object], depth: int) -> list[Any]:
        found: list[Any] = []
        for item in items:
            if self._items <= 0:
                found.append(_MORE)
                break
            self._items -= 1
            found.append(self.value(item, depth))
        return found


def _number(value: object) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # for which JSON has no word
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"<a number of {value.bit_length()} bits>"
    return value


def _pairs(value: object) -> list[tuple[str, object]] | None:
    """Headers, from a table or a list of pairs; None if it is neither."""
    if isinstance(value, Mapping):
        table = cast("Mapping[object, object]", value)
        return [(_name(key), item) for key, item in table.items()]
    if not isinstance(value, list | tuple):
        return None
    found: list[tuple[str, object]] = []
    for item in cast("list[object]", value):
        pair = cast("list[object]", item) if isinstance(item, list | tuple) else []
        if len(pair) != 2:
            return None
        found.append((_name(pair[0]), pair[1]))
    return found


def _name(key: object) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)
