r"""The textual form of faults: ``status=429; retry-after=2; body="slow\ndown"``.

Items are separated by ``;``. A value is bare (everything up to the next separator, taken as it is)
or double-quoted, where ``\n``, ``\r``, ``\t``, ``\"``, ``\\`` and ``\xHH`` are escapes. The
form is pure ASCII when written, so that it fits in a command line and in a request header.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import attrs

_ITEM = re.compile(
    r"""\s*(?P<name>[^=;|"\s]+)\s*
        (?:=\s*(?P<value>(?:\d+:)?"(?:[^"\\]|\\.)*"|[^;|]*?)\s*)?
        (?P<end>[;|]|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(rb'\\(?:x([0-9a-fA-F]{2})|([nrt"\\])|(.?))', re.DOTALL)
_SHORT = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b'"': b'"', b"\\": b"\\"}
_BARE = re.compile(rb"[A-Za-z0-9_./:+@,*-]+")
_FOREVER = ("forever", "inf", "true")


@attrs.frozen
class Item:
    """One ``name=value`` of a text; ``value`` is None for a bare name, ``end`` what followed."""

    name: str
    value: str | None
    end: str


def items(text: str) -> Iterator[Item]:
    """Split a text into its items.

    Raises:
        ValueError: something stands where ``name`` or ``name=value`` was expected.
    """
    position = 0
    text = text.strip()
    while position < len(text):
        if text[position] in "; \t\r\n":
            position += 1
            continue
        match = _ITEM.match(text, position)
        if match is None:
            message = (
                f"Faults text: expected name=value at character {position}, found "
                f"{text[position : position + 20]!r}; separate items with ';' and put values that "
                'contain one in double quotes, as in body="a;b"'
            )
            raise ValueError(message)
        position = match.end()
        yield Item(match["name"], match["value"], match["end"])


def decode(value: str) -> bytes:
    """Give the bytes a bare or quoted value stands for.

    Raises:
        ValueError: a quote is not closed, or an escape is unknown.
    """
    if not value.startswith('"'):
        return value.encode()
    if len(value) < 2 or not value.endswith('"'):
        message = (
            f"Faults text: the quoted value {value!r} is not closed; end it with a double quote"
        )
        raise ValueError(message)
    return _ESCAPE.sub(_unescape, value[1:-1].encode())


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return bytes([int(match[1], 16)])
    if match[2] is not None:
        return _SHORT[match[2]]
    message = (
        f"Faults text: unknown escape {match[0].decode(errors='replace')!r}; "
        r"known ones are \n \r \t \" \\ \xHH"
    )
    raise ValueError(message)


def encode(value: bytes, *, bare: bool = True) -> str:
    """Write bytes as a value that `decode` gives back, quoted unless plain."""
    if bare and _BARE.fullmatch(value):
        return value.decode()
    escaped = "".join(_escape(byte) for byte in value)
    return f'"{escaped}"'


def _escape(byte: int) -> str:
    for letter, plain in _SHORT.items():
        if plain[0] == byte:
            return "\\" + letter.decode()
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def read(name: str, kind: str, value: str | None) -> object:
    """Turn the text of one verb into the value of its field.

    Raises:
        ValueError: the value does not fit the verb; the message shows what would.
    """
    try:
        return _read(kind, value)
    except ValueError as error:
        message = (
            f"Faults verb {name!r}: cannot use {value!r}; expected {_EXPECTED[kind]} ({error})"
        )
        raise ValueError(message) from None


_EXPECTED = {
    "integer": "a whole number, as in limit_data=120",
    "count": "a whole number; 1 when left out",
    "number": "a number, as in bandwidth=1000",
    "seconds": "seconds or 'forever', as in delay=0.5",
    "flag": "nothing, or true or false",
    "idle": "now or next; now when left out",
    "text": "a text",
    "bytes": "a text, in double quotes when it has escapes or separators",
    "at": 'chunk:text, as in insert=2:": ping"',
}


def _read(kind: str, value: str | None) -> object:
    if value is None:
        defaults = {"flag": True, "seconds": math.inf, "count": 1, "idle": "now"}
        if kind not in defaults:
            reason = "it needs a value"
            raise ValueError(reason)
        return defaults[kind]
    return _READERS[kind](value)


def _seconds(value: str) -> float:
    return math.inf if value.lower() in _FOREVER else float(value)


def _flag(value: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if value.lower() not in known:
        reason = "neither true nor false"
        raise ValueError(reason)
    return known[value.lower()]


def _text(value: str) -> str:
    return decode(value).decode("latin-1")


def _at(value: str) -> tuple[int, bytes | None]:
    index, colon, data = value.partition(":")
    return int(index), decode(data) if colon else None


_READERS: dict[str, Callable[[str], object]] = {
    "flag": _flag,
    "seconds": _seconds,
    "integer": int,
    "count": int,
    "number": float,
    "idle": str,
    "text": _text,
    "bytes": decode,
    "at": _at,
}


def write(value: object) -> Iterator[str | None]:
    """Write a field's value: several texts for a repeated verb, None for a bare name."""
    match value:
        case bool():
            yield None
        case int() | float():
            yield "forever" if math.isinf(value) else repr(value).removesuffix(".0")
        case bytes():
            yield encode(value)
        case tuple():
            for index, data in cast("tuple[tuple[int, bytes], ...]", value):
                yield f"{index}:{encode(data, bare=False)}"
        case _:
            yield encode(str(value).encode("latin-1"))


def unknown(name: str, known: Iterable[str]) -> ValueError:
    """Make the error for a misspelt verb."""
    verbs = sorted(known)
    near = difflib.get_close_matches(name.replace("-", "_"), verbs, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    message = (
        f"Unknown faults verb {name!r}.{guess} Known verbs: {', '.join(verbs)}. A response header "
        "is written with its dash (retry-after=2) or as header.NAME=value."
    )
    return ValueError(message)
