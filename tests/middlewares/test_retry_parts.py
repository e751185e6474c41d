"""Retry's parts: waits, the budget, and the judgement of errors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lamella import (
    AttemptLimitError,
    AttemptTimeout,
    AuthenticationError,
    CertificateError,
    ChatRequest,
    ClosedError,
    ConfigurationError,
    ConflictError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeout,
    ContentFilteredError,
    ContextLengthError,
    DeadlineExceeded,
    EmbeddingRequest,
    FirstEventTimeout,
    IdleTimeout,
    InvalidRequestError,
    LamellaError,
    MisuseError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    ProviderError,
    QuotaError,
    RateLimitError,
    RefusedError,
    ResponseTooLargeError,
    ServerError,
    StreamTruncated,
    WriteTimeout,
)
from lamella._repeatable import repeatable, valid_hint
from lamella.transports._http_errors import status_error
from lamella_middlewares.retry import Retry, RetryBudget
from lamella_middlewares.retry._predicate import foreign_predicate, judge
from lamella_middlewares.retry._waits import backoff, jittered, obeying

ASK = ChatRequest.of("hello", model="m")
STORED = ChatRequest.of("hello", model="m", extra={"store": True})

# --- waits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "multiplier", "expected"),
    [
        ("exponential", 2, [0.5, 1, 2, 4, 8, 10, 10]),
        ("exponential", 3, [0.5, 1.5, 4.5, 10, 10, 10, 10]),
        ("linear", 1, [0.5, 1, 1.5, 2, 2.5, 3, 3.5]),
        ("linear", 0, [0.5] * 7),
        ("fibonacci", 1, [0.5, 1, 1.5, 2.5, 4, 6.5, 10]),
        ("constant", 1, [0.5] * 7),
    ],
)
def test_each_strategy_grows_as_documented(
    strategy: Any, multiplier: float, expected: list[float]
) -> None:
    """The waits before the first seven retries, with base 0.5 s and a cap of 10 s."""
    waits = [
        backoff(strategy, number, base=0.5, multiplier=multiplier, cap=10) for number in range(1, 8)
    ]
    assert waits == expected


@given(
    strategy=st.sampled_from(["exponential", "linear", "fibonacci", "constant"]),
    number=st.integers(1, 3000),
    base=st.floats(0.001, 100),
    multiplier=st.floats(1, 100),
    cap=st.floats(0.001, 3600),
)
def test_a_wait_never_exceeds_its_cap(
    strategy: Any, number: int, base: float, multiplier: float, cap: float
) -> None:
    """However many tries there have been, the wait is finite, positive and at most the cap."""
    wait = backoff(strategy, number, base=base, multiplier=multiplier, cap=cap)
    assert 0 < wait <= cap


@given(wait=st.floats(0, 1000), seed=st.integers())
def test_jitter_stays_within_its_kind(wait: float, seed: int) -> None:
    """`full` is from 0, `equal` from a half, `none` exact; none is ever longer."""
    random = Random(seed)
    assert 0 <= jittered(wait, "full", random) <= wait
    assert wait / 2 <= jittered(wait, "equal", random) <= wait
    assert jittered(wait, "none", random) == wait


@given(
    wait=st.floats(0, 100),
    hint=st.none() | st.floats(0.001, 1000),
    room=st.floats(-10, 1000),
    seed=st.integers(),
)
def test_a_hint_is_never_undercut_and_fits_where_it_can(
    wait: float, hint: float | None, room: float, seed: int
) -> None:
    """P8: at least the hint, at most 10 % more than what is needed, within the room if possible."""
    found = obeying(wait, hint, room, Random(seed))
    if hint is None:
        assert found == wait
        return
    assert found >= hint
    assert found <= max(wait, hint * 1.1) or found == hint
    if hint <= room:
        assert found <= room


@pytest.mark.parametrize("hint", [None, 0, -1, -0.0, math.nan, math.inf, -math.inf])
def test_what_is_no_hint_is_ignored(hint: float | None) -> None:
    """Azure sends 0 and -1; a wait made of them would be none."""
    assert valid_hint(hint) is None
    assert valid_hint(0.25) == 0.25


# --- the budget ------------------------------------------------------------------------------


class BudgetMachine(RuleBasedStateMachine):
    """A budget against a plain list of what has happened."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = RetryBudget(ratio=0.25, per_second=0.5, ttl=10)
        self.balance = self.budget.balance()
        self.now = 0.0
        self.calls: list[float] = []
        self.retries: list[float] = []

    @rule(seconds=st.floats(0, 30))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 30))
    def call(self, count: int) -> None:
        for _ in range(count):
            self.balance.deposit(self.now)
            self.calls.append(self.now)

    @rule(count=st.integers(1, 30))
    def retry(self, count: int) -> None:
        for _ in range(count):
            if self.balance.withdraw(self.now):
                self.retries.append(self.now)
                self._no_more_than_its_share()

    @precondition(lambda self: not self._within(self.retries, 11))
    @rule()
    def the_reserve_is_there_after_a_quiet_time(self) -> None:
        assert self.balance.withdraw(self.now)
        self.retries.append(self.now)

    @invariant()
    def retries_are_a_share_of_calls(self) -> None:
        """Over all time: the ratio of all calls, and the steady allowance of each window."""
        windows = math.floor(self.now / 9) + 1  # a slot is a tenth, so 9 s are surely a window
        allowed = 0.25 * len(self.calls) + 5 * windows
        assert len(self.retries) <= allowed + 1e-6

    def _no_more_than_its_share(self) -> None:
        """At each retry, within the time to live: what allowed it expires before it does."""
        retries = len(self._within(self.retries, 9))
        assert retries <= 0.25 * len(self._within(self.calls, 10)) + 5 + 1e-6

    def _within(self, instants: Iterable[float], seconds: float) -> list[float]:
        return [at for at in instants if at > self.now - seconds]


TestBudget = BudgetMachine.TestCase
TestBudget.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_share_of_the_calls_is_exact() -> None:
    """Five calls at 20 % allow exactly one retry."""
    balance = RetryBudget(ratio=0.2, per_second=0).balance()
    for _ in range(5):
        balance.deposit(0)
    assert [balance.withdraw(0), balance.withdraw(0)] == [True, False]


def test_what_calls_allow_expires() -> None:
    """A quiet night does not save up a storm for the morning."""
    balance = RetryBudget(ratio=1, per_second=0, ttl=10).balance()
    for _ in range(1000):
        balance.deposit(0)
    assert balance.withdraw(9)
    assert not balance.withdraw(11)


def test_a_clock_that_begins_anew_does_not_freeze_the_budget() -> None:
    """Stores may outlive a clock, as in tests."""
    balance = RetryBudget(ratio=0, per_second=1, ttl=1).balance()
    assert balance.withdraw(1e6)
    assert balance.withdraw(0)
    assert not balance.withdraw(0)


@pytest.mark.parametrize(
    "options", [{"ratio": 1.5}, {"ratio": -1}, {"per_second": -1}, {"ttl": 0}, {"ttl": "x"}]
)
def test_a_wrong_budget_is_refused(options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=rf"RetryBudget\({next(iter(options))}="):
        RetryBudget(**options)


def _title(error: LamellaError) -> str:
    words = (error.status or "", "committed" if error.committed else "", error.should_retry or "")
    return " ".join([type(error).__name__, *map(str, words)]).strip()


# --- which errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "again"),
    [
        *[(status, True) for status in (408, 409, 425, 429, 500, 502, 503, 504, 529)],
        *[(status, False) for status in (400, 401, 402, 403, 404, 413, 415, 422)],
    ],
)
def test_statuses_are_judged_as_documented(status: int, again: bool) -> None:
    """Whether the transport has classified the status, or an unclassified error bears it."""
    classified = status_error(status, b"{}", {}, provider="p")
    assert judge(classified, ASK, None).again is again
    assert judge(ProviderError("said", status=status), ASK, None).again is again


@pytest.mark.parametrize(
    ("error", "again", "reason"),
    [
        (ConnectError("x"), True, "not_sent"),
        (ConnectTimeout("x"), True, "not_sent"),
        (ConnectionLostError("x"), True, "network"),
        (WriteTimeout("x"), True, "timed_out"),
        (FirstEventTimeout("x"), True, "timed_out"),
        (IdleTimeout("x"), True, "timed_out"),
        (AttemptTimeout("x"), True, "timed_out"),
        (StreamTruncated("x"), True, "truncated"),
        (ProtocolError("x"), True, "malformed"),
        (RateLimitError("x"), True, "rate_limited"),
        (OverloadedError("x"), True, "overloaded"),
        (ServerError("x"), True, "server_error"),
        (ConflictError("x"), True, "server_error"),
        (QuotaError("x", status=429), False, "final"),
        (QuotaError("x", status=402), False, "final"),
        (InvalidRequestError("x"), False, "final"),
        (ContextLengthError("x"), False, "final"),
        (ContentFilteredError("x"), False, "final"),
        (AuthenticationError("x"), False, "final"),
        (PermissionDeniedError("x"), False, "final"),
        (NotFoundError("x"), False, "final"),
        (CertificateError("x"), False, "final"),
        (DeadlineExceeded("x"), False, "final"),
        (ResponseTooLargeError("x"), False, "final"),
        (AttemptLimitError("x"), False, "final"),
        (ClosedError("x"), False, "final"),
        (MisuseError("x"), False, "final"),
        (RefusedError("own limiter", retryable=True, retry_after=1), False, "final"),
        (ServerError("x", committed=True), False, "final"),
        (ServerError("x", should_retry=False), False, "final"),
        (InvalidRequestError("x", should_retry=True), True, "asked"),
    ],
    ids=lambda value: _title(value) if isinstance(value, LamellaError) else str(value),
)
def test_errors_are_judged_as_documented(error: LamellaError, again: bool, reason: str) -> None:
    """The provider's word first, then the kind of the error."""
    verdict = judge(error, ASK, None)
    assert (verdict.again, verdict.reason) == (again, reason)


@pytest.mark.parametrize("error", [RateLimitError("x"), OverloadedError("x")])
def test_throttles_are_told_apart(error: LamellaError) -> None:
    """They wait longer."""
    assert judge(error, ASK, None).throttled
    assert not judge(ServerError("x"), ASK, None).throttled


@pytest.mark.parametrize(
    "error", [ConnectionLostError("x"), FirstEventTimeout("x"), StreamTruncated("x"),
              ProtocolError("x"), ServerError("x", status=504)],
)  # fmt: skip
def test_what_may_have_been_processed_is_not_repeated_if_it_changes_something(
    error: LamellaError,
) -> None:
    """Unless an idempotency key tells the provider that the two are one."""
    assert judge(error, ASK, None).again
    assert judge(error, STORED, None).reason == "stateful"
    keyed = STORED.evolve(context=STORED.context.evolve(idempotency_key="k"))
    assert judge(error, keyed, None).again


def test_what_was_surely_not_processed_is_repeated_even_then() -> None:
    """A refused connection, a throttle, or the provider's own word leave no doubt."""
    for error in (
        ConnectError("x"),
        RateLimitError("x"),
        ConnectionLostError("x", should_retry=True),
    ):
        assert judge(error, STORED, None).again


@pytest.mark.parametrize(
    "request_", [
        STORED,
        ChatRequest.of("x", extra={"background": True}),
        ChatRequest.of("x", extra={"previous_response_id": "resp_1"}),
        ChatRequest.of("x", tools=[{"type": "web_search"}]),
    ],
)  # fmt: skip
def test_requests_with_effects_are_known(request_: ChatRequest) -> None:
    """Stored, background, continued and hosted-tool calls are not plain generation."""
    assert not repeatable(request_)


@pytest.mark.parametrize(
    "request_", [
        ASK,
        EmbeddingRequest.of("x"),
        ChatRequest.of("x", extra={"store": False, "metadata": {}}),
        ChatRequest.of("x", tools=[{"type": "function", "function": {"name": "f"}}]),
    ],
)  # fmt: skip
def test_plain_generation_is_repeatable(request_: Any) -> None:
    """A function tool runs here, not at the provider."""
    assert repeatable(request_)


def test_foreign_exceptions_are_final_unless_asked_for() -> None:
    """Retrying a TypeError would hide a bug."""
    assert not judge(OSError(), ASK, None).again
    assert not judge(TypeError(), ASK, foreign_predicate((OSError,))).again
    for on in (OSError, (OSError,), [OSError], lambda error: isinstance(error, OSError)):
        assert judge(ConnectionResetError(), ASK, foreign_predicate(on)).reason == "foreign"
        assert judge(ConnectionResetError(), STORED, foreign_predicate(on)).reason == "stateful"


async def _async_predicate(error: Exception) -> bool:
    return True


@pytest.mark.parametrize(
    ("on", "word"),
    [
        (5, "exception types"),
        ((5,), "no exception type"),
        ((KeyboardInterrupt,), "no exception type"),
        ((RateLimitError,), "knows itself"),
        (_async_predicate, "plain function"),
    ],
)
def test_a_wrong_predicate_is_refused_when_it_is_made(on: Any, word: str) -> None:
    """The message says what to give."""
    with pytest.raises(ConfigurationError) as caught:
        Retry(on=on)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attempts": 0}, "1 or more"),
        ({"attempts": 2.5}, "whole number"),
        ({"strategy": "quadratic"}, "'fibonacci'"),
        ({"jitter": "some"}, "'equal'"),
        ({"base": 0}, "seconds above 0"),
        ({"max_wait": None}, "seconds above 0"),
        ({"max_wait": math.inf}, "seconds above 0"),
        ({"min_useful": 0}, "seconds above 0"),
        ({"multiplier": 0.5}, "1 or more"),
        ({"multiplier": 2, "strategy": "fibonacci"}, "has none"),
        ({"budget": 5}, "a RetryBudget"),
        ({"on": ()}, "names no exception"),
        ({"mint_idempotency_key": "no"}, "True or False"),
    ],
)
def test_wrong_options_are_refused_when_they_are_made(options: dict[str, Any], words: str) -> None:
    """The message names the option and what to give."""
    with pytest.raises(ConfigurationError) as caught:
        Retry(**options)
    assert words in str(caught.value)
    assert f"{next(iter(options))}=" in str(caught.value)
