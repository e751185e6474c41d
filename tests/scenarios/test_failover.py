"""The sixteen failover scenarios: `production` with two targets, and how bad ones are graded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lamella import ChatRequest, ChatResponse, Handler, Pipeline, ServerError, StreamTruncated
from lamella.testing import (
    FAILOVER_SCENARIOS,
    FailoverScenario,
    play_failover,
    virtual_ports,
)
from lamella_middlewares import Retry

pytestmark = pytest.mark.anyio

BY_NAME = {scenario.name: scenario for scenario in FAILOVER_SCENARIOS}
BROKEN_IN_THE_MIDDLE = {"cut", "stall", "malformed", "no-prefill", "accounting"}


@pytest.fixture
def anyio_backend(lamella_virtual_backend: Any) -> Any:
    """Waits of a minute take none; the sockets are real."""
    return lamella_virtual_backend


def production(**more: Any) -> Callable[[Any, Any], Pipeline]:
    """Makes the preset's pipeline with a second target."""

    def make(first: Any, second: Any) -> Pipeline:
        fallback = {"targets": [second], **more.pop("fallback", {})}
        return Pipeline.preset(
            "production", transport=first, fallback=fallback, log=None, ports=virtual_ports(),
            **more,
        )  # fmt: skip

    return make


def test_there_are_sixteen() -> None:
    """Each with a name of its own, and every one of them is played below."""
    assert len(BY_NAME) == len(FAILOVER_SCENARIOS) == 16


@pytest.mark.parametrize("scenario", FAILOVER_SCENARIOS, ids=lambda scenario: scenario.name)
async def test_a_run_passes_all_of_them(scenario: FailoverScenario) -> None:
    """Answered, whole, in time, without hammering, and on the right bill."""
    result = await play_failover(scenario, production())
    assert result.grade == "pass", result


@pytest.mark.parametrize("scenario", FAILOVER_SCENARIOS, ids=lambda scenario: scenario.name)
async def test_a_stream_passes_all_that_break_before_the_first_word(
    scenario: FailoverScenario,
) -> None:
    """What breaks after it ends with an error that says so: safe, and no text comes twice."""
    result = await play_failover(scenario, production(), mode="stream")
    assert result.grade == ("safe" if scenario.name in BROKEN_IN_THE_MIDDLE else "pass"), result


@pytest.mark.parametrize("scenario", FAILOVER_SCENARIOS, ids=lambda scenario: scenario.name)
async def test_a_held_stream_passes_all_of_them(scenario: FailoverScenario) -> None:
    """Within the window of Hold a break has shown nothing yet, so it can be mended."""
    result = await play_failover(scenario, production(hold={"tokens": 40}), mode="stream")
    assert result.grade == "pass", result


async def test_a_content_filters_refusal_goes_elsewhere_where_that_is_declared() -> None:
    """By default it is the answer; `on=` makes it a reason for the next target."""
    scenario = BY_NAME["content-filter"]
    refused = await play_failover(scenario, production())
    assert (refused.primary, refused.secondary) == (1, 0)
    answered = await play_failover(scenario, production(fallback={"on": "content_filter"}))
    assert (answered.grade, answered.why) == ("pass", "answered by secondary")


# --- what is bad is found to be bad -----------------------------------------------------------


def bare(first: Handler, second: Any) -> Pipeline:
    """No second target and nothing that helps."""
    return Pipeline([], first, ports=virtual_ports())


async def test_without_failover_the_caller_is_at_least_told() -> None:
    """An error that is the library's own is safe; what recovers by itself, passes."""
    assert (await play_failover(BY_NAME["unavailable"], bare)).grade == "safe"
    assert (await play_failover(BY_NAME["no-done"], bare)).grade == "pass"


async def test_a_call_without_end_fails() -> None:
    """Nobody waits two minutes."""
    result = await play_failover(BY_NAME["no-response"], bare)
    assert (result.grade, result.why) == ("fail", "the call hung for 120 s")


async def test_an_undercut_hint_is_partial() -> None:
    """Whoever comes back before `Retry-After` has passed is part of the problem."""

    async def hasty(request: ChatRequest, call_next: Handler) -> ChatResponse:
        try:
            return await call_next(request)
        except Exception:  # noqa: BLE001 - this layer does it badly on purpose
            return await call_next(request.branch("again"))

    def make(first: Handler, second: Any) -> Pipeline:
        return Pipeline([hasty], first, ports=virtual_ports())

    result = await play_failover(BY_NAME["throttled"], make)
    assert result.grade == "partial"
    assert "undercut" in result.why


async def test_hammering_is_partial() -> None:
    """Six requests to a target that only fails are too many, even if the next one answers."""

    def make(first: Handler, second: Any) -> Pipeline:
        eager = Retry(attempts=8, base=0.1, jitter="none", budget=None)
        return Pipeline.preset(
            "production", transport=first, fallback={"targets": [second]}, log=None,
            retry=eager, circuit_breaker=None, ports=virtual_ports(),
        )  # fmt: skip

    result = await play_failover(BY_NAME["unavailable"], make)
    assert result.grade == "partial"
    assert "6 requests" in result.why


async def test_half_an_answer_as_a_whole_one_fails() -> None:
    """A layer that takes what there is for an answer misleads the caller."""

    async def credulous(request: ChatRequest, call_next: Handler) -> ChatResponse:
        try:
            return await call_next(request)
        except StreamTruncated:
            return ChatResponse.of("The first provider says: one")

    def make(first: Handler, second: Any) -> Pipeline:
        return Pipeline([credulous], first, ports=virtual_ports())

    assert (await play_failover(BY_NAME["cut"], make)).grade == "fail"


async def test_a_raw_error_fails() -> None:
    """An error of no known kind is none that a program can be ready for."""

    async def leaky(request: ChatRequest, call_next: Handler) -> ChatResponse:
        try:
            return await call_next(request)
        except ServerError as error:
            msg = "something went wrong"
            raise KeyError(msg) from error

    def make(first: Handler, second: Any) -> Pipeline:
        return Pipeline([leaky], first, ports=virtual_ports())

    result = await play_failover(BY_NAME["error"], make)
    assert (result.grade, result.why) == ("fail", "a raw KeyError reached the caller")
