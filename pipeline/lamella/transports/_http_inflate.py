"""Compressed bodies, taken apart a bounded piece at a time.

A few kilobytes can hold gigabytes. Nothing is decompressed further than the next piece that is
asked for, so that the limit on a body's size ends a bomb long before it is a problem.
"""

from __future__ import annotations

import zlib
from typing import Any

PIECE_BYTES = 64 * 1024


class Inflater:
    """Reads `gzip` or `deflate`.

    Args:
        coding: Which of the two.
    """

    __slots__ = ("_coding", "_input", "_object")

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._object: Any = None
        self._input = b""

    def feed(self, data: bytes) -> None:
        """Take in compressed bytes; `take` gives what they hold."""
        self._input += data

    def take(self) -> bytes:
        """The next piece; empty once more input is needed.

        Raises:
            zlib.error: If the bytes are not what they should be.
        """
        while self._input:
            if self._object is None:
                self._object = zlib.decompressobj(self._window_bits())
            piece: bytes = self._object.decompress(self._input, PIECE_BYTES)
            if self._object.eof:  # gzip may have several members, one after the other
                self._input = self._object.unused_data
                self._object = None
            else:
                self._input = self._object.unconsumed_tail
            if piece:
                return piece
        if self._object is not None:
            # The last piece may have been full, with more in the window and no input left.
            held: bytes = self._object.decompress(b"", PIECE_BYTES)
            return held
        return b""

    @property
    def complete(self) -> bool:
        """Whether the compressed bytes have come to their own end."""
        return not self._input and self._object is None

    def _window_bits(self) -> int:
        if self._coding == "gzip":
            return 16 + zlib.MAX_WBITS
        # `deflate` should have a zlib header; some servers leave it out.
        has_header = self._input[0] & 0x0F == 8
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
