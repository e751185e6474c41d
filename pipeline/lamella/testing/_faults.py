"""What can go wrong with an HTTP reply, as data.

The verbs follow Toxiproxy's (latency, bandwidth, slicer, limit_data, reset_peer, slow_close,
timeout) and add what a provider of streamed answers can do besides: silence after the headers, a
dropped final event, a broken event in the middle. `Faults` says what; the HTTP server carries it
out.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, cast

import attrs

from lamella.testing import _fault_text as fault_text

MALFORMED = b'data: {"broken": \n\n'
"""What ``malformed_at`` puts in the place of a chunk when it is given no bytes of its own."""

_Pairs = Mapping[int, bytes] | Mapping[int, bytes | None] | Iterable[tuple[int, bytes | None]]
_Fields = tuple[tuple[str, str], ...]


def _seconds(value: float) -> float:
    return (math.inf if value else 0.0) if isinstance(value, bool) else float(value)


def _headers(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> _Fields:
    if isinstance(value, Mapping):
        value = cast("Mapping[str, str]", value).items()
    return tuple((str(name), str(content)) for name, content in value)


def _inserts(value: _Pairs) -> tuple[tuple[int, bytes], ...]:
    if isinstance(value, Mapping):
        value = cast("Mapping[int, bytes | None]", value).items()
    return tuple((index, MALFORMED if data is None else data) for index, data in value)


def _replacements(value: int | _Pairs) -> tuple[tuple[int, bytes], ...]:
    return ((value, MALFORMED),) if isinstance(value, int) else _inserts(value)


def _not_negative(_: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not value >= 0:
        message = f"Faults({attribute.name}={value!r}): it must be 0 or more"
        raise ValueError(message)


def _positive(_: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not value > 0:
        message = f"Faults({attribute.name}={value!r}): it must be more than 0; None leaves it out"
        raise ValueError(message)


def _indexed(
    _: object, attribute: "attrs.Attribute[Any]", value: tuple[tuple[int, bytes], ...]
) -> None:
    for index, _data in value:
        if index < 0:
            message = f"Faults({attribute.name}={value!r}): chunk numbers count from 0"
            raise ValueError(message)


def _sendable(_: object, attribute: "attrs.Attribute[Any]", value: str | _Fields) -> None:
    lines = [value] if isinstance(value, str) else [line for pair in value for line in pair]
    for line in lines:
        if any(character in line for character in "\r\n\0") or not _latin(line):
            message = (
                f"Faults({attribute.name}={value!r}): {line!r} cannot stand in an HTTP header, "
                "which holds one line of Latin-1; use body, insert or malformed_at for other bytes"
            )
            raise ValueError(message)


def _three_digits(_: object, __: object, value: int | None) -> None:
    if value is not None and not 100 <= value <= 999:
        message = f"Faults(status={value!r}): an HTTP status has three digits, 100 to 999"
        raise ValueError(message)


def _latin(line: str) -> bool:
    return all(ord(character) < 256 for character in line)


def _kind(name: str) -> dict[str, str]:
    return {"kind": name}


_SECONDS, _INTEGER, _FLAG = _kind("seconds"), _kind("integer"), _kind("flag")


@attrs.frozen(kw_only=True)
class Faults:
    r"""Everything that goes wrong with one reply; the default is nothing.

    All verbs combine. Times are in seconds, and ``math.inf`` or True means for ever (until the
    client leaves). Sizes are bytes of the body as it travels, without the framing of chunks. Chunks
    count from 0; a body given as plain bytes is one chunk.

    Attributes:
        status: the status code instead of the reply's. None keeps it.
        headers: response headers that replace those of the same name, or are added.
        body: the body instead of the reply's. None keeps it; ``b""`` makes it empty.
        delay: wait before the first byte of the answer. 0 is none.
        jitter: the delay becomes uniform in ``delay ± jitter``, never below 0, from the server's
            random.
        hold_headers: a further wait before the first byte, for ever if True.
        delay_after_headers: wait between the headers and the body.
        stall_at: the chunk before which the answer stalls. None never stalls.
        stall: how long it stalls; for ever by default.
        bandwidth: bytes per second of the body; the last byte is sent when the body's time has
            passed. None does not limit it.
        slice: cut the body into pieces of this size, each a write (and an HTTP chunk) of its own.
            None does not cut.
        gap: wait between two such pieces.
        variation: the size of a piece becomes uniform in ``slice ± variation``, at least 1.
        limit_data: close (FIN) after this many bytes of the body, mid-framing. 0 closes after the
            headers. None never does; a body that is shorter is sent whole.
        limit_clean: with ``limit_data``, end the shortened message as HTTP demands, so that nothing
            but the protocol above can tell that something is missing.
        until_close: send neither length nor chunks: the body ends where the connection does, and a
            cut is not to be told from the end.
        reset_at: reset the connection (RST) after this many bytes of the body. What a slow reader
            has not yet taken from the kernel may be lost with it.
        reset_before_headers: reset the connection instead of answering.
        blackhole: answer nothing for so long, then close; for ever if True. What the client sends
            is thrown away.
        no_read: do not read the request body for so long (its TCP window fills); for ever if True.
            Must be known before the body is read: see `Early`. A client that leaves is not noticed
            meanwhile.
        slow_close: after the last byte of the body wait, then send the end of the message and
            close.
        fin_no_terminator: leave out so many last chunks (the protocol's final event), then end
            well.
        close_idle: ``"now"`` closes the kept-alive connection right after the reply, unannounced;
            ``"next"`` waits for the client to write its next request and closes without an answer.
            None keeps it open.
        malformed_at: (chunk number, bytes) pairs: these bytes instead of that chunk. A plain number
            puts `MALFORMED` there.
        insert: (chunk number, bytes) pairs: bytes before that chunk, or at the end if there are
            fewer.
        gzip: compress the body and say so, whatever the client accepts.
        gzip_bomb: the body is this many zero bytes, compressed (about 1:1000). None keeps the body.
        header_bytes: add a response header with a value of this many bytes. 0 adds none.
        http_version: the version in the status line instead of ``HTTP/1.1``.
        status_line: the whole status line instead, garbage included.
        keepalive_newlines: begin the body with so many empty lines (``\n``), as some providers do
            while they compute.
        keepalive_gap: wait after each of them.

    Raises:
        ValueError: a number is out of range, or a header holds what no header can.
    """

    status: int | None = attrs.field(default=None, validator=_three_digits, metadata=_INTEGER)
    headers: tuple[tuple[str, str], ...] = attrs.field(
        default=(), converter=_headers, validator=_sendable, metadata=_kind("headers")
    )
    body: bytes | None = attrs.field(default=None, metadata=_kind("bytes"))
    delay: float = attrs.field(
        default=0.0, converter=_seconds, validator=_not_negative, metadata=_SECONDS
    )
    jitter: float = attrs.field(
        default=0.0, converter=_seconds, validator=_not_negative, metadata=_SECONDS
    )
    hold_headers: float = attrs.field(
        default=0.0, converter=_seconds, validator=_not_negative, metadata=_SECONDS
    )
    delay_after_headers: float = attrs.field(
        default=0.0, converter=_seconds, validator=_not_negative, metadata=_SECONDS
    )
    stall_at: int | None = attrs.field(default=None, validator=_not_negative, metadata=_INTEGER)
    stall: float = attrs.field(
        default=math.inf, converter=_seconds, validator=_not_negative, metadata=_SECONDS
    )
    bandwidth: float | None = attrs.field(
        default=None, validator=_positive, metadata=_kind("number")
    )
    slice: int | None = attrs.field(default=None, validator=_positive, metadata=_INTEGER)
    gap: float = attrs.field(
        default=0.0, converter=_seconds, validator=_not_negative, metadata=_SECONDS
    )
    variation: int = attrs.field(default=0, validator=_not_negative, metadata=_INTEGER)
    limit_data: int | None = attrs.field(default=None, validator=_not_negative, metadata=_INTEGER)
    limit_clean: bool = attrs.field(default=False, metadata=_FLAG)
    until_close: bool = attrs.field(default=False, metadata=_FLAG)
    reset_at: int | None = attrs.field(default=None, validator=_not_negative, metadata=_INTEGER)
    reset_before_headers: bool = attrs.field(default=False, metadata=_FLAG)
    blackhole: float = attrs.field(
        default=0.0, converter=_seconds, validator=_not_negative, metadata=_SECONDS
    )
    no_read: float = attrs.field(
        default=0.0, converter=_seconds, validator=_not_negative, metadata=_SECONDS
    )
    slow_close: float = attrs.field(
        default=0.0, converter=_seconds, validator=_not_negative, metadata=_SECONDS
    )
    fin_no_terminator: int = attrs.field(
        default=0, converter=int, validator=_not_negative, metadata=_kind("count")
    )
    close_idle: Literal["now", "next"] | None = attrs.field(
        default=None,
        validator=attrs.validators.in_((None, "now", "next")),
        metadata=_kind("idle"),
    )
    malformed_at: tuple[tuple[int, bytes], ...] = attrs.field(
        default=(), converter=_replacements, validator=_indexed, metadata=_kind("at")
    )
    insert: tuple[tuple[int, bytes], ...] = attrs.field(
        default=(), converter=_inserts, validator=_indexed, metadata=_kind("at")
    )
    gzip: bool = attrs.field(default=False, metadata=_FLAG)
    gzip_bomb: int | None = attrs.field(default=None, validator=_not_negative, metadata=_INTEGER)
    header_bytes: int = attrs.field(default=0, validator=_not_negative, metadata=_INTEGER)
    http_version: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(_sendable), metadata=_kind("text")
    )
    status_line: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(_sendable), metadata=_kind("text")
    )
    keepalive_newlines: int = attrs.field(default=0, validator=_not_negative, metadata=_INTEGER)
    keepalive_gap: float = attrs.field(
        default=0.0, converter=_seconds, validator=_not_negative, metadata=_SECONDS
    )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read faults from their textual form, as in ``status=429; retry-after=2``.

        Verbs are the attributes, with ``_`` or ``-``; a time takes ``forever``; ``insert`` and
        ``malformed_at`` take ``chunk:bytes`` and may be repeated. A name with a dash that is no
        verb is a response header, and ``header.NAME=value`` always is one. The empty text means no
        faults. `str` of the result reads back as it.

        Raises:
            ValueError: an unknown verb (the known ones are listed), or a value that does not fit.
        """
        values: dict[str, Any] = {}
        for item in fault_text.items(text):
            if item.end == "|":
                message = (
                    f"One set of faults has no '|' in it ({text!r}); use Plan.parse for several"
                )
                raise ValueError(message)
            _take(values, item)
        return cls(**values)

    def __str__(self) -> str:
        """Write the textual form that `parse` reads; empty when there are no faults."""
        parts: list[str] = []
        for name, value in self.active().items():
            if name == "headers":
                parts += [_header_text(*pair) for pair in self.headers]
                continue
            texts = fault_text.write(value)
            parts += [name if each is None else f"{name}={each}" for each in texts]
        return "; ".join(parts)

    def active(self) -> dict[str, Any]:
        """Return the verbs that differ from their defaults, by name, in the attributes' order."""
        return {
            field.name: value
            for field in attrs.fields(type(self))
            if (value := getattr(self, field.name)) != field.default
        }

    def __or__(self, other: "Faults") -> "Faults":
        """Combine two sets of faults; where both say something, the right one holds."""
        return attrs.evolve(self, **other.active())


_KINDS: dict[str, str] = {field.name: field.metadata["kind"] for field in attrs.fields(Faults)}
_VERBS = sorted(set(_KINDS) - {"headers"})


def _take(values: dict[str, Any], item: fault_text.Item) -> None:
    """Add what one item says to the arguments of `Faults`."""
    verb = item.name.lower().replace("-", "_")
    if verb not in _VERBS:
        name = _header_name(item.name)
        content = fault_text.read(item.name, "text", item.value)
        values["headers"] = (*values.get("headers", ()), (name, content))
        return
    value = fault_text.read(verb, _KINDS[verb], item.value)
    if _KINDS[verb] == "at":
        if verb == "insert" and ":" not in str(item.value):
            raise ValueError(
                f'Faults verb "insert": write insert=CHUNK:"BYTES", not {item.value!r}'
            )
        value = (*values.get(verb, ()), value)
    elif verb in values:
        message = f"Faults verb {verb!r} is given twice; keep one"
        raise ValueError(message)
    values[verb] = value


def _header_name(name: str) -> str:
    if name.lower().startswith("header.") and len(name) > len("header."):
        return name[len("header.") :]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), _VERBS, n=1, cutoff=0.85)
    if "-" not in name or near:
        raise fault_text.unknown(name, _VERBS)
    return name


def _header_text(name: str, content: str) -> str:
    verb = name.lower().replace("-", "_")
    near = difflib.get_close_matches(verb, _VERBS, n=1, cutoff=0.85)
    prefix = "" if "-" in name and not near else "header."
    return f"{prefix}{name}={fault_text.encode(content.encode('latin-1'))}"
