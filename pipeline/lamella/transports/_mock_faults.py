"""What goes wrong without a network: the part of the fault verbs that needs no bytes.

Errors are those that a transport over a network raises, made by the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from json import dumps
from typing import TYPE_CHECKING, Any

import anyio

from lamella._errors import ConfigurationError, ConnectionLostError, LamellaError, ProtocolError
from lamella._events import Event, Finish, UsageReport
from lamella._mock_rejections import error_body, in_band_body
from lamella._parts import Opaque
from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella._ports import Ports
    from lamella.testing._mock_faults import MockFaults

_WIRE_VERBS = frozenset(
    {"status", "headers", "body", "delay", "jitter", "hold_headers", "delay_after_headers",
     "stall_at", "stall", "reset_before_headers", "blackhole", "malformed_at"}
)  # fmt: skip
_EVENT_VERBS = frozenset({"truncate", "reset", "error_at", "error", "finish", "usage", "unknown"})


async def pause(sleep: Callable[[float], Awaitable[None]], span: float) -> None:
    """Sleep, for ever if the time is infinite; 0 does not wait at all."""
    if math.isinf(span):
        await anyio.sleep_forever()
    elif span > 0:
        await sleep(span)


def must_be_possible(faults: MockFaults) -> None:
    """Refuse verbs that mean nothing without bytes.

    Raises:
        ConfigurationError: If there is one.
    """
    asked = {*faults.wire.active()} - _WIRE_VERBS | {*faults.active()} - _EVENT_VERBS
    if faults.usage in {"twice", "with_finish"}:
        asked.add(f"usage={faults.usage}")
    if asked:
        raise ConfigurationError(
            f"The mock transport has no bytes with which it could do {', '.join(sorted(asked))}.",
            hint="Serve it over HTTP: `lamella mock`, or lamella.testing.MockServer.",
        )


async def before(faults: MockFaults, ports: Ports, request_id: str) -> None:
    """What happens before the first event: waits, and errors instead of an answer.

    Raises:
        LamellaError: What comes instead of the answer.
    """
    wire = faults.wire
    jitter = ports.random.uniform(-wire.jitter, wire.jitter) if wire.jitter else 0.0
    for span in (wire.delay + jitter, wire.hold_headers, wire.blackhole):
        await pause(ports.sleep, span)
    if wire.reset_before_headers or wire.blackhole:
        raise _lost("before it answered", request_id)
    status = wire.status or 200
    if status >= 300:
        body = error_body(status, code=faults.error) if wire.body is None else wire.body
        raise status_answer(status, body, dict(wire.headers), request_id)
    await pause(ports.sleep, wire.delay_after_headers)
    if wire.body is not None:
        raise _nonsense(request_id)


def broken(events: Sequence[Event], faults: MockFaults | None) -> Sequence[Event | Exception]:
    """The events as the faults leave them; an exception is to be raised in its turn."""
    if faults is None:
        return events
    found: list[Event | Exception] = [
        kept for event in events if (kept := _changed(event, faults)) is not None
    ]
    if faults.unknown:
        found.insert(0, Opaque({"type": "mock.unknown"}, "mock", content=False))
    ends: list[tuple[int, Exception | None]] = []
    if faults.truncate is not None:
        ends.append((faults.truncate, None))
    if faults.reset is not None:
        ends.append((faults.reset, _lost("in the middle of its answer", None, phase="stream")))
    if (failing := faults.failing_event) is not None:
        ends.append((failing, _in_band(faults.error or "server_error")))
    if faults.wire.malformed_at:
        ends.append((min(place for place, _ in faults.wire.malformed_at), _nonsense(None)))
    if faults.finish == "none":
        ends.append((len(found), None))
    if not ends:
        return found
    place, error = min(ends, key=lambda end: end[0])
    place = min(place, len(found) - (error is None))  # a cut after the end would be none
    return found[:place] if error is None else [*found[:place], error]


def _changed(event: Event, faults: MockFaults) -> Event | None:
    if isinstance(event, Finish) and faults.finish is not None:
        return None if faults.finish == "none" else Finish(faults.finish)
    if isinstance(event, UsageReport) and faults.usage is not None:
        return None if faults.usage == "none" else UsageReport(Usage())
    return event


def status_answer(
    status: int, body: dict[str, Any] | bytes, headers: dict[str, str], request_id: str
) -> LamellaError:
    """The error that an answer with such a status is."""
    from lamella.transports._http_errors import status_error

    content = body if isinstance(body, bytes) else dumps(body).encode()
    sent = {"x-request-id": request_id, **{name.lower(): text for name, text in headers.items()}}
    return status_error(status, content, sent, provider="mock")


def _in_band(code: str) -> LamellaError:
    from lamella.transports._http_errors import in_band_error

    return in_band_error(in_band_body(code)["error"], provider="mock")


def _lost(when: str, request_id: str | None, **data: Any) -> ConnectionLostError:
    msg = f"The mock provider reset the connection {when}, as its script says."
    return ConnectionLostError(msg, provider="mock", request_id=request_id, **data)


def _nonsense(request_id: str | None) -> ProtocolError:
    msg = "The mock provider sent bytes that make no sense, as its script says."
    return ProtocolError(msg, provider="mock", request_id=request_id)
