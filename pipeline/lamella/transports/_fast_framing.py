"""Reading HTTP/1.1 answers (RFC 9112), without any input or output.

The most frequent answer, whose head comes in one piece, costs a look at a table for each header
line: what a provider says again and again is checked and taken apart once. What two readers could
take in two ways is refused: line feeds alone, folded lines, two lengths, strange codings.
"""

from __future__ import annotations

import re
from typing import Final

CHUNKED: Final = -1
UNTIL_CLOSED: Final = -2
"""Lengths of bodies whose length is not stated."""

_MAX_SIZE_LINE = 1024
_KNOWN_LINES = 512
_KNOWN_LINE_CHARACTERS = 256
_KNOWN_LENGTHS = 4096
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_HEADER_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[\t ]*(?:;[^\r\n]*)?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_BODILESS = frozenset({204, 304})


class NoHTTPError(Exception):
    """What came is no HTTP. Never leaves the client."""


class _Starts(dict[str, tuple[int, int]]):
    """Status lines, taken apart once: version and status."""

    def __missing__(self, line: str) -> tuple[int, int]:
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise NoHTTPError
        result = (int(found[1]), int(found[2]))
        if len(self) < _KNOWN_LINES and len(line) < _KNOWN_LINE_CHARACTERS:
            self[line] = result
        return result


class _Lines(dict[str, tuple[str, str]]):
    """Header lines, taken apart once."""

    def __missing__(self, line: str) -> tuple[str, str]:
        found = _HEADER_LINE.fullmatch(line)
        if found is None:
            raise NoHTTPError
        result = (found[1].lower(), found[2].strip("\t "))
        if len(line) < _KNOWN_LINE_CHARACTERS:
            if len(self) >= _KNOWN_LINES:  # full of what never comes again: dates, ids
                self.clear()
            self[line] = result
        return result


class _Lengths(dict[str, int]):
    """Stated lengths, read once."""

    def __missing__(self, stated: str) -> int:
        given = stated
        if not stated.isdecimal() and "," in stated:  # said twice, which is fine if it is the same
            said = {each.strip() for each in stated.split(",")}
            stated = said.pop() if len(said) == 1 else ""
        if _LENGTH.fullmatch(stated) is None:
            raise NoHTTPError
        result = int(stated)
        if len(self) < _KNOWN_LENGTHS and len(given) < _KNOWN_LINE_CHARACTERS:
            self[given] = result
        return result


_starts, _lines, _lengths = _Starts(), _Lines(), _Lengths()


def read_head(raw: bytes, method: str) -> tuple[int, dict[str, str], bool, int]:
    """An answer's head: status, headers, whether the connection may be kept, the body's length.

    Args:
        raw: The head without the empty line at its end.
        method: What was asked; the answer to `HEAD` has no body.

    Raises:
        NoHTTPError: If it is none.
    """
    lines = raw.decode("latin-1").split("\r\n")
    first = lines[0]
    version, status = _starts[first]
    headers: dict[str, str] = {}
    known = _lines
    del lines[0]
    for line in lines:
        name, value = known[line]
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    options = headers.get("connection")
    keep = version == 1 if options is None else _keeps(options, version)
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise NoHTTPError
        # Who speaks 1.0 does not know chunks: somebody in between passed on what it cannot read.
        length, keep = CHUNKED, keep and version == 1 and "content-length" not in headers
    else:
        stated = headers.get("content-length")
        length = UNTIL_CLOSED if stated is None else _lengths[stated]
    if method == "CONNECT":  # what follows is not HTTP, or a refusal that nobody reads
        length = UNTIL_CLOSED
    elif status < 200 or status in _BODILESS or method == "HEAD":
        length = 0
    return status, headers, keep and length != UNTIL_CLOSED, length


def _keeps(options: str, version: int) -> bool:
    said = {option.strip() for option in options.lower().split(",")}
    return "close" not in said and (version == 1 or "keep-alive" in said)


_sizes: dict[bytes, int] = {}


def _read_size(line: bytes) -> int:
    found = _CHUNK_SIZE.fullmatch(line)
    if found is None:
        raise NoHTTPError
    size = int(found[1], 16)
    if len(_sizes) < 4096 and len(line) < 16:
        _sizes[line] = size
    return size


_SIZE, _AFTER, _TRAILERS = 0, -1, -2


class Chunks:
    """A body in chunks.

    Args:
        max_trailer_bytes: The most bytes of the headers behind the body, which are thrown away.

    Attributes:
        ended: Whether the end was read.
        surplus: Whether more came than that.
    """

    __slots__ = ("_held", "_left", "_trailer_bytes_left", "ended", "surplus")

    def __init__(self, max_trailer_bytes: int) -> None:
        self._left = _SIZE  # bytes of the chunk that are to come, or what comes instead
        self._held = b""
        self._trailer_bytes_left = max_trailer_bytes
        self.ended = False
        self.surplus = False

    def feed(self, data: bytes) -> bytes:
        """Take in bytes as they travelled; those of the body.

        Raises:
            NoHTTPError: If they are no chunks.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        pieces: list[bytes] = []
        at, end, left = 0, len(data), self._left
        while at < end and not self.ended:
            if left > 0:
                pieces.append(data[at : at + left])
                taken = min(left, end - at)
                at += taken
                left = left - taken or _AFTER
                continue
            stop = data.find(b"\r\n", at)
            if stop < 0 or (left == _AFTER and stop > at):
                self._hold(data[at:], left)
                break
            if left == _AFTER:
                left = _SIZE
            elif left == _SIZE:
                line = data[at:stop]
                left = (_sizes.get(line) or _read_size(line)) or _TRAILERS
            else:
                self._trailer(stop - at)
            at = stop + 2
        self._left = left
        self.surplus = at < end and self.ended
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _hold(self, data: bytes, left: int) -> None:
        """Keep a line whose end has not come, if it still can be one."""
        if left == _AFTER:
            if data != b"\r":
                raise NoHTTPError
        elif left == _SIZE:
            if len(data) > _MAX_SIZE_LINE or b"\n" in data:
                raise NoHTTPError
        elif len(data) > self._trailer_bytes_left or b"\n" in data:
            raise NoHTTPError
        self._held = data

    def _trailer(self, length: int) -> None:
        self.ended = length == 0
        self._trailer_bytes_left -= length
        if self._trailer_bytes_left < 0:
            raise NoHTTPError
