"""Server-sent events: whatever the bytes and wherever they are cut, the messages are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import ResponseTooLargeError
from lamella.transports._dialect import Message
from lamella.transports._sse import EventReader

GOLDEN = (
    b"\xef\xbb\xbf: ping\n\n"
    b'data: {"a":1}\n\n'
    b"event: delta\r\ndata:no space\r\nid: 7\r\nretry: 10\r\n\r\n"
    b"data: one\rdata: two\r\r"
    b"\n\n: a comment between\nid: 9\n: ping\n\n"
    b"data:\n\nevent: ping\ndata: \n\n"
    b"data\ndata: after an empty line\n\n"
    b"unknown: field\ndata: \xf0\x9f\x98\x80 \xc3\xa9\n\n"
    b"data: [DONE]\n\n"
)
MESSAGES: list[Message] = [
    (None, b'{"a":1}'),
    ("delta", b"no space"),
    (None, b"one\ntwo"),
    (None, b"\nafter an empty line"),
    (None, b"\xf0\x9f\x98\x80 \xc3\xa9"),
    (None, b"[DONE]"),
]


def read(*pieces: bytes) -> list[Message]:
    """The messages of a stream that comes in these pieces."""
    reader = EventReader()
    found = [message for piece in pieces for message in reader.feed(piece)]
    return found + reader.finish()


def reference(data: bytes) -> list[Message]:
    """The standard, line by line, with the two differences that the reader's module states."""
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = data.split(b"\n")
    rest = lines.pop()  # what is not ended is no line
    found: list[Message] = []
    event: str | None = None
    values: list[bytes] = []
    for line in [*lines, *([] if rest else [b""])]:
        if line:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                values.append(value)
            elif name == b"event":
                event = value.decode("utf-8", "replace") or None
        else:
            joined = b"\n".join(values)
            if joined.strip():
                found.append((event, joined))
            event, values = None, []
    return found


def test_golden_stream() -> None:
    """Comments, CR, LF, CRLF, a byte order mark, several data lines and odd fields are read."""
    assert read(GOLDEN) == MESSAGES == reference(GOLDEN)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_golden_stream_in_pieces(size: int) -> None:
    """The size of the pieces makes no difference."""
    assert read(*[GOLDEN[at : at + size] for at in range(0, len(GOLDEN), size)]) == MESSAGES


def test_golden_stream_cut_anywhere() -> None:
    """A cut at any byte makes no difference."""
    for cut in range(len(GOLDEN) + 1):
        assert read(GOLDEN[:cut], GOLDEN[cut:]) == MESSAGES


_LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"data: x", b"data:y", b"data", b": ping", b"event: e", b"id: 1", b"", b" "]
        ),
        st.binary(max_size=6),
    ),
    max_size=12,
)
_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(
    lines=_LINES, ends=st.lists(_ENDS, min_size=12, max_size=12), cuts=st.sets(st.integers(0, 90))
)
def test_any_stream_reads_as_the_standard_says(
    lines: list[bytes], ends: list[bytes], cuts: set[int]
) -> None:
    """Any bytes, cut anywhere, give what a reading line by line gives."""
    data = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    places = sorted(cut for cut in cuts if cut < len(data))
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    assert read(*pieces) == reference(data)


def test_unfinished_message_is_no_message() -> None:
    """What is cut in the middle of a line is not handed out; a whole line at the end is."""
    assert read(b'data: {"a"') == []
    assert read(b'data: {"a":1}\n') == [(None, b'{"a":1}')]
    assert read(b"data: 1\ndata: 2") == []


@pytest.mark.parametrize("piece", [1, 50, 1000])
def test_message_size_is_bounded(piece: int) -> None:
    """A message larger than the bound is an error, whole or in pieces, ended or not."""
    for data in (b"data: " + b"x" * 100 + b"\n\n", b"x" * 101):
        reader = EventReader(max_message_bytes=100)
        pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
        with pytest.raises(ResponseTooLargeError, match="100 bytes"):
            list(map(reader.feed, pieces))


def test_many_small_messages_may_be_more_than_the_bound() -> None:
    """The bound is on one message, not on what one read brings."""
    assert len(EventReader(max_message_bytes=100).feed(b"data: 1\n\n" * 1000)) == 1000
