"""The modelled provider: its speed, its limits, its faults, and its ledger."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    ClosedError,
    ConfigurationError,
    ConnectError,
    Context,
    LamellaError,
    Limits,
    OverloadedError,
    Pipeline,
    RateLimitError,
    ServerError,
    StreamTruncated,
    input_usage,
    output_usage,
)
from lamella.testing import FaultWindow, SimulatedProvider, Spread, run_virtual, virtual_ports
from lamella.testing._simulated_histogram import Histogram
from lamella.testing._simulated_source import mark_of, marked_tokens, misread
from lamella.testing._simulated_spread import clock_time, span_of

ASK = ChatRequest.of("word " * 30, model="simulated")
EXACT: dict[str, Any] = {
    "first_event": Spread(1), "tokens_per_second": Spread(10), "output_tokens": Spread(60),
}  # fmt: skip


def asked(provider: SimulatedProvider, *, stream: bool = False, at: float = 0.0) -> Any:
    """The answer to one request that is made at an instant, or its error."""

    async def ask() -> Any:
        await anyio.sleep(at)
        provider.start(0.0)
        pipeline = Pipeline([], provider, ports=virtual_ports())
        try:
            if not stream:
                return await pipeline.run(ASK)
            async with pipeline.stream(ASK) as response:
                return await response.collect()
        except LamellaError as error:
            return error

    return run_virtual(ask)


def test_an_answer_takes_its_time() -> None:
    """First the time to the first token, then the tokens at their pace."""
    whole = asked(SimulatedProvider(**EXACT))
    assert whole.trace.duration == pytest.approx(1 + 60 / 10)
    streamed = asked(SimulatedProvider(pieces=4, **EXACT), stream=True)
    [attempt] = streamed.trace.attempts
    assert attempt.first_event == pytest.approx(1)
    assert streamed.trace.duration == pytest.approx(1 + 45 / 10)  # the first piece is there at once
    assert len(streamed.events) == 4 + 2


@pytest.mark.parametrize("stream", [False, True])
def test_usage_is_told_and_can_be_counted(stream: bool) -> None:
    """Its texts are such that the library's estimator counts exactly what it bills."""
    provider = SimulatedProvider(**EXACT)
    response = asked(provider, stream=stream)
    prompt = input_usage(ASK)
    assert prompt is not None
    assert response.usage.uncached_input == prompt.input_tokens
    assert response.usage.text_output == output_usage(response.events).text_output == 60
    assert (provider.ledger.output_tokens, provider.ledger.open) == (60, 0)
    assert misread(response.text, complete=True) is None
    assert mark_of(response.text) == response.trace.attempts[0].request_id


def test_the_rate_limit_refuses_with_a_hint() -> None:
    """Beyond the limit 429 says when there is room again, and that is true."""

    async def ask() -> None:
        provider = SimulatedProvider(requests_per_minute=2, **EXACT)
        pipeline = Pipeline([], provider, ports=virtual_ports())
        first = await pipeline.run(ASK)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        await pipeline.run(ASK)
        refused: RateLimitError | None = None
        for _ in range(2):
            try:
                await pipeline.run(ASK)
            except RateLimitError as error:
                refused = error
        assert refused is not None
        assert refused.retry_after is not None
        assert 0 < refused.retry_after <= 30.001
        await anyio.sleep(refused.retry_after)
        await pipeline.run(ASK)

    run_virtual(ask)


def test_tokens_are_limited_too() -> None:
    """A limit on tokens counts request and answer."""

    async def ask() -> None:
        provider = SimulatedProvider(tokens_per_minute=150, **EXACT)
        pipeline = Pipeline([], provider, ports=virtual_ports())
        await pipeline.run(ASK)
        with pytest.raises(RateLimitError) as caught:
            await pipeline.run(ASK)
        assert caught.value.retry_after is not None

    run_virtual(ask)


def test_load_beyond_the_capacity_slows_and_then_refuses() -> None:
    """With twice the load answers take twice as long; with more than it bears it says 529."""

    async def ask() -> None:
        provider = SimulatedProvider(capacity=2, overload=2, **EXACT)
        pipeline = Pipeline([], provider, ports=virtual_ports())
        found: list[Any] = []

        async def one() -> None:
            try:
                found.append((await pipeline.run(ASK)).trace.duration)
            except OverloadedError as error:
                found.append(error.status)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)
        assert found[0] == 529
        assert found[1:] == pytest.approx([7, 7, 7 * 1.5, 7 * 2])
        assert (provider.ledger.open, provider.ledger.most_open) == (0, 5)

    run_virtual(ask)


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        (FaultWindow("outage"), OverloadedError, 503),
        (FaultWindow("throttle", retry_after=7), RateLimitError, 429),
        (FaultWindow("error", status=502), ServerError, 502),
        (FaultWindow("flap", period=10), OverloadedError, 503),
        (FaultWindow("refuse"), ConnectError, None),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_faults_are_errors_as_from_a_network(
    fault: FaultWindow, kind: type[LamellaError], status: int | None
) -> None:
    """A status, its headers and its body make the error, as in a transport over a network."""
    error = asked(SimulatedProvider(faults=[fault]), at=15)
    assert type(error) is kind
    assert error.status == status
    assert error.retry_after == fault.retry_after


def test_faults_keep_to_their_window() -> None:
    """Before and after it all is well, and so is a flapping provider in its good half."""
    window = FaultWindow("outage", 10, 20)
    assert isinstance(asked(SimulatedProvider(faults=[window]), at=10), OverloadedError)
    for at in (9.9, 20):
        assert asked(SimulatedProvider(faults=[window]), at=at).complete
    assert asked(SimulatedProvider(faults=[FaultWindow("flap", period=10)]), at=5).complete


def test_a_cut_shows_what_was_there() -> None:
    """A stream that breaks off is no good answer, and what came of it is its beginning."""
    ends: set[str] = set()
    for seed in range(12):
        provider = SimulatedProvider(faults=[FaultWindow("cut")], seed=seed, **EXACT)
        error = asked(provider, stream=True)
        ends.add(type(error).__name__)
        assert misread(error.partial.text, complete=False) is None
        assert provider.ledger.output_tokens == output_usage_of(error.partial.text)
        assert provider.ledger.open == 0
    assert ends == {StreamTruncated.__name__, "ConnectionLostError"}


def output_usage_of(text: str) -> int:
    """What the estimator counts in a text."""
    from lamella import TextDelta

    return output_usage([TextDelta(text)]).text_output if text else 0


def test_a_stall_lasts_until_somebody_ends_it() -> None:
    """A silent provider is for the limits in time; the connection is closed by them."""

    async def ask() -> None:
        provider = SimulatedProvider(faults=[FaultWindow("stall")], **EXACT)
        pipeline = Pipeline([], provider, ports=virtual_ports())
        request = ASK.evolve(context=Context(limits=Limits(idle=5, first_event=5)))
        with pytest.raises(LamellaError):
            async with pipeline.stream(request) as response:
                await response.collect()
        assert provider.ledger.answers["stalled"] == 1
        assert provider.ledger.open == 0

    run_virtual(ask)


def test_a_closed_provider_answers_nobody() -> None:
    """A pipeline closes it, and afterwards it says so."""

    async def ask() -> None:
        provider = SimulatedProvider()
        await Pipeline([], provider, ports=virtual_ports()).aclose()
        with pytest.raises(ClosedError):
            await Pipeline([], provider, ports=virtual_ports()).run(ASK)

    run_virtual(ask)


@given(
    marks=st.lists(st.sampled_from(["a1", "a12", "b1"]), min_size=1, max_size=6),
    places=st.lists(st.integers(0, 4), min_size=6, max_size=6),
    ends=st.booleans(),
)
def test_a_text_is_read_only_as_the_beginning_of_one_answer(
    marks: list[str], places: list[int], ends: bool
) -> None:
    """Pieces of two answers, in another order, repeated or left out are told from a good text."""
    pieces = [f"{mark}.{place} lorem lorem " for mark, place in zip(marks, places, strict=False)]
    text = "".join(pieces) + ("!" if ends else "")
    one_answer = len(set(marks)) == 1
    in_order = places[: len(marks)] == list(range(len(marks)))
    good = one_answer and in_order
    assert (misread(text, complete=False) is None) is good
    assert (misread(text, complete=True) is None) is (good and ends)


def test_text_that_nobody_sent_is_noticed() -> None:
    """Nothing may stand before, between or after the pieces."""
    for text in ("x", "a1.0 lorem x", "?a1.0 lorem ", "a1.0 lorem !a1.1 lorem "):
        assert misread(text, complete=False) is not None
    assert misread("", complete=False) is None
    assert marked_tokens("primary1234", 10) == 1 + 2 + 1 + 1


@pytest.mark.parametrize(
    ("kind", "text", "provider", "window"),
    [
        ("throttle", "primary:2m-12m", "primary", FaultWindow("throttle", 120, 720)),
        ("outage", "60..660", None, FaultWindow("outage", 60, 660)),
        ("cut", "share=5%", None, FaultWindow("cut", share=0.05)),
        ("slow", "b:1m-,factor=4,share=.5", "b", FaultWindow("slow", 60, factor=4, share=0.5)),
        ("error", "-30s,status=502", None, FaultWindow("error", 0, 30, status=502)),
        (
            "throttle",
            "0-10,retry-after=1m",
            None,
            FaultWindow("throttle", 0, 10, retry_after=60),
        ),
        ("stall", "", None, FaultWindow("stall")),
    ],
)
def test_windows_can_be_written(
    kind: str, text: str, provider: str | None, window: FaultWindow
) -> None:
    """`[PROVIDER:][START-END][,OPTION=VALUE...]`."""
    assert FaultWindow.parse(kind, text) == (provider, window)


@pytest.mark.parametrize(
    "text", ["2m", "12m-2m", "a-b", "0-10,often=1", "0-10,share=lots", "share=2", "0-1,status=200"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    """The error quotes it and shows how to write one."""
    with pytest.raises(ConfigurationError, match=r"error .* cannot be read: .* primary:2m-12m"):
        FaultWindow.parse("error", text)


def test_spans_can_be_written() -> None:
    """Seconds, or amounts with units, and back."""
    assert [span_of(text) for text in ("90", "250ms", "2m", "1h30m", "2d")] == [
        90, 0.25, 120, 5400, 172_800,
    ]  # fmt: skip
    assert [clock_time(at) for at in (0, 90, 120, 5400, math.inf)] == [
        "0s", "90s", "2m", "1h30m", "end",
    ]  # fmt: skip
    for text in ("", "2 m", "m", "-3", "1h30"):
        with pytest.raises(ConfigurationError, match="no span of time"):
            span_of(text)


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "2nd"},
        {"first_event": 0},
        {"output_tokens": "many"},
        {"capacity": 0},
        {"requests_per_minute": 0.5},
        {"pieces": 0},
        {"faults": ["outage"]},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """They are refused when the provider is made."""
    with pytest.raises(ConfigurationError):
        SimulatedProvider(**options)


def test_a_spread_has_its_median_and_its_bound() -> None:
    """Half of the values lie below the median, and none above the bound."""
    random = Random(1)
    values = [Spread(2, 0.5, most=5).draw(random) for _ in range(4_000)]
    assert sum(value < 2 for value in values) / len(values) == pytest.approx(0.5, abs=0.03)
    assert max(values) == 5
    assert Spread(2).draw(random) == 2


@given(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=200))
def test_percentiles_are_right_to_a_per_cent(values: list[float]) -> None:
    """A histogram of any size gives them within one per cent."""
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    ordered = sorted(values)
    for share in (0.01, 0.5, 0.9, 1.0):
        exact = ordered[max(1, math.ceil(share * len(values))) - 1]
        assert histogram.percentile(share) == pytest.approx(exact, rel=0.0101, abs=1e-8)
    assert histogram.most == ordered[-1]
