"""PII fails closed: what could not be looked into does not leave, and no error quotes it."""

from __future__ import annotations

import gc
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import attrs
import pytest
from masking import CARD, EMAIL, KEY, Broken, Codes, ask, echo, noted, pii, sent, stack

from lamella import (
    BlockedError,
    ChatRequest,
    Context,
    DeadlineExceeded,
    Finding,
    InspectionError,
    LamellaError,
    Outcome,
    Pipeline,
    Ports,
    Secret,
    ServerError,
    TextDelta,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.log import Log
from lamella_middlewares.pii import PII, Scan
from lamella_middlewares.pii._inspecting import apart
from lamella_middlewares.pii._loading import loading
from lamella_middlewares.pii._repeats import Repeats

pytestmark = pytest.mark.anyio


class Odd:
    """Gives what is no finding."""

    kinds = ("odd",)
    reach = 3
    name = "odd one"

    def __init__(self, found: Any) -> None:
        self.found = found

    def find(self, text: str, /) -> Any:
        return self.found


NONSENSE = [
    None,
    ["text"],
    [Finding(0, 999, "odd")],
    [Finding(3, 2, "odd")],
    [Finding(-1, 2, "odd")],
    [Finding(0, 1, "Odd Kind")],
    [Finding("0", 1, "odd")],  # type: ignore[arg-type]
    [Finding(0, 1, 7)],  # type: ignore[arg-type]
    [Finding(0, 1, "odd", float("nan"))],
]


def _hanging(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("stream", [False, True])
async def test_a_detector_that_raises_sends_nothing(stream: bool) -> None:
    """The error names the detector; neither it nor what hangs on it quotes the text."""
    pipeline, transport = stack(detectors=[Broken()])
    with pytest.raises(InspectionError) as caught:
        await ask(pipeline, "boom goes my secret 7F", stream=stream)
    error = caught.value
    assert (error.inspector, error.layer, error.retryable) == ("brittle", "pii", False)
    assert error.outcome is Outcome.NOT_SENT
    assert transport.requests == []
    for one in _hanging(error):
        assert "7F" not in "".join(traceback.format_exception_only(one))
        assert not isinstance(one, RuntimeError)


@pytest.mark.parametrize("number", range(len(NONSENSE)))
async def test_a_detector_that_gives_nonsense_sends_nothing(number: int) -> None:
    """Spans outside of the text, and what is no finding, are no answer."""
    pipeline, transport = stack(kinds=[], detectors=[Odd(NONSENSE[number])])
    with pytest.raises(InspectionError) as caught:
        await ask(pipeline, "hello")
    assert (caught.value.inspector, transport.requests) == ("odd one", [])


async def test_letting_pass_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    """With `on_failure="pass"` the text goes on, with a warning and a note; others are masked."""
    pipeline, transport = stack(detectors=[Broken()], on_failure="pass")
    request = ChatRequest.of(
        [{"role": "user", "content": "boom 7F"}, {"role": "user", "content": EMAIL}], model="m"
    )
    with caplog.at_level(logging.WARNING, logger="lamella"):
        response = await pipeline.run(request)
    assert transport.requests[0].messages[0].text == "boom 7F"
    assert EMAIL not in sent(transport)
    assert noted(response, "pii.passed") == [{"error": "InspectionError", "inspector": "brittle"}]
    assert "brittle" in caplog.text
    assert "7F" not in caplog.text


async def test_observers_alone_stop_nothing() -> None:
    """Where only answers are masked, a request nobody can look into is sent, and not shown."""
    pipeline, transport = stack("ok", detectors=[Broken()], direction="out")
    response = await ask(pipeline, "boom 7F")
    assert transport.requests[0].messages[0].text == "boom 7F"
    assert response.trace.content == {}
    lenient, _ = stack("ok", detectors=[Broken()], on_failure="pass")
    assert (await ask(lenient, "boom 7F")).trace.content == {}


def slow_ports(seconds: float) -> tuple[Ports, list[str]]:
    """Ports whose threads take so long, and what was begun in them."""
    begun: list[str] = []
    ports = virtual_ports()

    async def thread(function: Callable[..., Any], /, *args: Any) -> Any:
        begun.append(getattr(function, "__qualname__", "work"))
        await anyio.sleep(seconds)
        return function(*args)

    return attrs.evolve(ports, thread=thread), begun


class Blocking(Codes):
    """One that has to run in a thread."""

    blocking = True


async def test_looking_into_texts_is_bounded_in_time() -> None:
    """What takes longer than `timeout` is not waited for, and nothing is sent."""
    ports, begun = slow_ports(3)
    options: Any = {"detectors": [Blocking()], "scan": Scan(timeout=2), "ports": ports}
    await ask(stack()[0], "hello")  # what is loaded once is loaded
    pipeline, transport = stack(**options)
    with pytest.raises(InspectionError, match="longer than 2 s"):
        await ask(pipeline, "ID-4711")
    assert anyio.current_time() == 2
    assert (transport.requests, len(begun)) == ([], 1)
    lenient, reached = stack(on_failure="pass", **options)
    response = await ask(lenient, "ID-4711")
    assert "ID-4711" in sent(reached)
    assert noted(response, "pii.passed")[0]["error"] == "InspectionError"


async def test_the_deadline_ends_it_as_well() -> None:
    """A thread is waited for as long as the call has time."""
    ports, _ = slow_ports(3)
    transport = Scripted(["ok"])
    layers: list[Any] = [Deadline(2), pii(detectors=[Blocking()])]
    await ask(stack()[0], "hello")
    pipeline = Pipeline(layers, transport, ports=ports)
    with pytest.raises(DeadlineExceeded):
        await ask(pipeline, "ID-4711")
    assert (anyio.current_time(), transport.requests) == (2, [])


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_call_keeps_its_deadline(stream: bool) -> None:
    """Detectors are loaded in a thread; where that takes longer than a call has, it ends then."""
    ports, begun = slow_ports(3)
    kinds = ("mac", "iban", "jwt") if stream else ("mac", "iban")  # that no other test has loaded
    loaded = loading.__wrapped__(kinds)
    layers: list[Any] = [Deadline(2), PII(kinds)]
    transport = Scripted(["ok"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lamella_middlewares.pii._middleware.loading", lambda _: loaded)
        patch.setattr("lamella_middlewares.pii._middleware.detectors_of", None)  # not here
        pipeline = Pipeline(layers, transport, ports=ports)
        with pytest.raises(DeadlineExceeded):
            await ask(pipeline, "hello", stream=stream)
    assert (anyio.current_time(), transport.requests, len(begun)) == (2, [], 1)


async def test_what_comes_in_a_thread_too_late_is_kept_by_nobody() -> None:
    """A thread that goes on after its call is over cannot put anything into a vault."""
    late: list[Callable[[], Any]] = []
    ports = virtual_ports()

    async def thread(function: Callable[..., Any], /, *args: Any) -> Any:
        if not late and "Warm" in repr(function):  # what is loaded once
            return function(*args)
        late.append(function)
        return await anyio.sleep_forever()

    pipeline, _ = stack(
        detectors=[Blocking()],
        scan=Scan(timeout=2),
        ports=attrs.evolve(ports, thread=thread),
    )
    with pytest.raises(InspectionError):
        await ask(pipeline, "ID-4711")
    (work,) = late
    with pytest.raises(InspectionError, match="over"):
        work()


async def test_small_texts_take_no_thread_and_large_ones_do() -> None:
    """The event loop is held up by a few thousand characters at most."""
    ports, begun = slow_ports(0)
    pipeline, transport = stack("ok", ports=ports)
    await ask(pipeline, EMAIL)
    loaded = len(begun)
    await ask(pipeline, "word " * 800 + EMAIL)
    assert len(begun) == loaded
    await ask(pipeline, "word " * 10_000 + EMAIL)
    assert len(begun) == loaded + 1
    assert EMAIL not in sent(transport)


async def test_too_much_text_is_refused() -> None:
    """What is beyond `max_characters` was not looked into, and does not leave."""
    pipeline, transport = stack("ok", scan=Scan(max_characters=100))
    assert await ask(pipeline, "x" * 50)
    with pytest.raises(InspectionError, match="100 characters") as caught:
        await ask(pipeline, "x" * 101)
    assert (caught.value.inspector, len(transport.requests)) == ("max_characters", 1)


class Counted(str):
    """A text that counts how often something is looked for at one of its places."""

    __slots__ = ("looks",)
    looks: int

    def startswith(self, *given: Any) -> bool:
        self.looks += 1
        return super().startswith(*given)


def test_values_that_begin_alike_are_not_all_tried_everywhere() -> None:
    """A thousand numbers of one country cost a text of numbers of that country no more than ten."""
    numbers = [f"+44 20 {number:04d} 0958" for number in range(1_000)]
    text = Counted("44 20 " * 1_000 + " ".join(numbers[::100]))
    text.looks = 0
    found = Repeats(dict.fromkeys(numbers, "phone")).findings(text)
    assert [text[one.start : one.end] for one in found] == numbers[::100]
    assert text.looks < 5_000


def test_many_findings_between_many_placeholders_take_linear_time() -> None:
    """Each is compared with what stands beside it, not with all that look like placeholders."""

    class Noted(Finding):
        asked = 0

        def __getattribute__(self, name: str) -> Any:
            if name in {"start", "end"}:
                Noted.asked += 1
            return super().__getattribute__(name)

    piece = "⟦EMAIL_K7Q2M9XA⟧a@b.co "
    places = range(16, 1_000 * len(piece), len(piece))
    found = [Noted(place, place + 6, "email") for place in places]
    kept = apart(piece * 1_000, found)
    assert [one.start for one in kept] == list(places)
    assert Noted.asked < 10_000


# --- canaries ----------------------------------------------------------------------------------

CANARIES = ("canary.7f3a@example.com", "5555 5555 5555 4444", "ID-907856")
PROMPT = "Write to {}, charge {}, number {}.".format(*CANARIES)


def _fails(request: Any) -> Any:
    return ServerError(f"cannot: {request.messages[0].text}", status=500)


def _breaks(request: Any) -> Any:
    return [TextDelta(request.messages[0].text[:30]), ServerError("gone", status=500)]


def _garbles(request: Any) -> Any:
    raise ValueError(f"a bug that quotes {request.messages[0].text}")


OPTIONS: dict[str, dict[str, Any]] = {
    "request": {},
    "session": {"scope": "session", "key": Secret.of_value(KEY)},
    "both ways": {"direction": "both", "strategies": {"card": "mask"}},
    "blocked": {"strategies": {"card": "block"}},
    "broken": {"detectors": [Codes(), Broken()]},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("answer", [echo, _fails, _breaks, _garbles])
@pytest.mark.parametrize("stream", [False, True])
async def test_no_value_is_found_anywhere(
    name: str, answer: Any, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in what is sent, noted, logged, shown, kept or raised, however the call ends."""
    caplog.set_level(0)
    ports = virtual_ports()
    records: list[Any] = []
    seen: list[Any] = []
    log = Log(sink=records.append, content=True, level="debug")
    layer = pii(**OPTIONS[name])

    async def inside(request: Any, call_next: Any) -> Any:
        seen.append(request)
        return await call_next(request)

    transport = Scripted([answer], repeat=True)
    pipeline = Pipeline([log, layer, inside], transport, ports=ports)
    prompt = PROMPT + (" boom" if name == "broken" else "")
    request = ChatRequest.of(prompt, model="m", context=Context(session="s", tenant="t"))
    found: list[str] = []
    try:
        response = await ask(pipeline, request, stream=stream)
        found.append(repr(response.trace.notes))
        found.append(json.dumps(response.trace.content[""].to_dict()))
        pickled = pickle.dumps(response.trace.content[""].to_dict())
        found.append(pickled.decode("latin-1"))
    except (LamellaError, ValueError) as error:
        found += [repr(one) + str(one) for one in _hanging(error)]
        if isinstance(error, InspectionError | BlockedError):
            found.append(repr(vars(error)))
    log.flush()
    found += [repr(transport.requests), repr(seen), repr(records), caplog.text]
    found += [repr(layer), repr(vars(ports.stores.blobs))]
    for canary in CANARIES:
        assert [text for text in found if canary in text] == []


async def test_what_was_found_is_kept_by_no_object_afterwards() -> None:
    """Once a call is over and its answer let go, no object of the layer's holds a value."""
    pipeline, _ = stack("Fine.")
    for stream in (False, True):
        await ask(pipeline, PROMPT, stream=stream)
    gc.collect()
    ours = [
        thing
        for thing in gc.get_objects()
        if str(type(thing).__module__).startswith("lamella_middlewares.pii")
    ]
    for thing in ours:
        held = [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
        held += [getattr(thing, "__dict__", None)]
        assert not any(canary in repr(held) for canary in CANARIES)
    assert CARD not in CANARIES
