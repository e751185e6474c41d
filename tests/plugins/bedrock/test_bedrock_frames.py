"""AWS's event stream: frames, wherever they are cut, and what is no frame."""

from __future__ import annotations

from struct import pack

import pytest
from bedrock_wire import STREAM, event, exception, frame
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from lamella import ProtocolError, ResponseTooLargeError
from lamella_bedrock._frames import EventStreamReader

WHOLE = b"".join([*STREAM, exception("throttlingException")])


def read(*pieces: bytes, most: int = 1 << 20) -> list[tuple[str | None, bytes]]:
    """The messages of some bytes."""
    reader = EventStreamReader(most)
    found = [message for piece in pieces for message in reader.feed(piece)]
    return [*found, *reader.finish()]


def test_as_botocore_reads_it() -> None:
    """Kinds and payloads are those that botocore finds in the same bytes."""
    buffer = EventStreamBuffer()
    buffer.add_data(WHOLE)
    theirs = [
        (
            each.headers.get(":event-type") or f"!{each.headers[':exception-type']}",
            each.payload,
        )
        for each in buffer
    ]
    assert read(WHOLE) == theirs


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_cut_in_equal_pieces(size: int) -> None:
    """Where the bytes are cut makes no difference."""
    pieces = [WHOLE[start : start + size] for start in range(0, len(WHOLE), size)]
    assert read(*pieces) == read(WHOLE)


def test_cut_once_at_every_byte() -> None:
    """Nor does one cut, wherever it is."""
    whole = read(WHOLE)
    for place in range(len(WHOLE)):
        assert read(WHOLE[:place], WHOLE[place:]) == whole


def test_other_headers() -> None:
    """Headers of all types are passed by."""
    name = b"\x01x"
    values = [b"\x00", b"\x01", b"\x02a", b"\x03ab", b"\x04abcd", b"\x05abcdefgh"]
    values += [b"\x06\x00\x02ab", b"\x08abcdefgh", b"\x09" + b"u" * 16]
    head = b"".join([name + value for value in values])
    plain = frame({":event-type": "e"}, b"{}")
    kept = plain[12:-4]
    assert read(_framed(head + kept[:-2], b"{}")) == [("e", b"{}")]


def test_an_error_that_no_model_has() -> None:
    """A message of type `error` names its code and says its words in headers."""
    headers = {":message-type": "error", ":error-code": "Gone", ":error-message": "bye"}
    assert read(frame(headers, b"")) == [("!Gone", b'{"message":"bye"}')]


def test_the_bound() -> None:
    """A frame larger than the bound is refused as soon as its length is known."""
    large = event("e", {"text": "x" * 100})
    with pytest.raises(ResponseTooLargeError):
        read(large[:12], most=50)


@pytest.mark.parametrize("place", range(len(STREAM[1])))
def test_any_byte_that_changed(place: int) -> None:
    """A damaged frame is an error, or waits for bytes that never come; it is never an answer."""
    damaged = bytearray(STREAM[1])
    damaged[place] ^= 0x40
    try:
        found = read(bytes(damaged))
    except (ProtocolError, ResponseTooLargeError):
        return
    assert found == []


@given(st.binary(max_size=64))
def test_any_bytes(data: bytes) -> None:
    """Whatever comes is frames or a typed error."""
    try:
        read(data)
    except (ProtocolError, ResponseTooLargeError):
        return


@given(st.binary(max_size=40))
def test_any_headers(head: bytes) -> None:
    """Headers with a proper checksum that make no sense are a protocol error."""
    try:
        found = read(_framed(head, b""))
    except ProtocolError:
        return
    assert len(found) == 1


def test_a_frame_shorter_than_its_headers() -> None:
    """Lengths that contradict one another are a protocol error."""
    from zlib import crc32

    prelude = pack(">II", 16, 40)
    with pytest.raises(ProtocolError):
        read(prelude + pack(">I", crc32(prelude)))


def _framed(head: bytes, payload: bytes) -> bytes:
    from zlib import crc32

    prelude = pack(">II", 16 + len(head) + len(payload), len(head))
    body = prelude + pack(">I", crc32(prelude)) + head + payload
    return body + pack(">I", crc32(body))
