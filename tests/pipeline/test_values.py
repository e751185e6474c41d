"""Money, usage, limits and changed copies."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import ChatRequest, Context, EmbeddingRequest, Limits, Money, RateLimitError, Usage

amounts = st.decimals(allow_nan=False, allow_infinity=False, places=9, max_value=10**9)
counts = st.integers(min_value=0, max_value=10**9)
usages = st.builds(
    Usage,
    uncached_input=counts,
    cache_read=counts,
    cache_write=st.dictionaries(st.sampled_from(["5m", "1h", ""]), counts),
    text_output=counts,
    reasoning_output=counts,
    tool_units=st.dictionaries(st.sampled_from(["search"]), counts),
    estimated=st.booleans(),
)


@given(amounts)
def test_money_keeps_amounts_exactly(amount: Decimal) -> None:
    """Any amount down to a billionth goes in and out unchanged."""
    assert Money.of(amount).amount == amount
    assert Decimal(str(Money.of(amount, "XXX")).split()[0]) == amount


def test_money_refuses_floats_and_other_currencies() -> None:
    """What cannot be exact, or cannot be added, is refused with the remedy."""
    with pytest.raises(TypeError, match="pass a string"):
        Money.of(0.1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="convert one of them"):
        _ = Money.of("1") + Money.of("1", "EUR")
    with pytest.raises(ValueError, match="give whole units as text"):
        Money.of("ten")


@given(usages, usages)
def test_usage_adds_up_part_by_part(one: Usage, other: Usage) -> None:
    """Totals of a sum are sums of totals, and an estimate stays an estimate."""
    both = one + other

    assert both.total_tokens == one.total_tokens + other.total_tokens
    assert both.input_tokens + both.output_tokens == both.total_tokens
    assert both.estimated == (one.estimated or other.estimated)


def test_usage_refuses_negative_counts() -> None:
    """A count of tokens cannot be negative."""
    with pytest.raises(ValueError, match=r"Usage.cache_read is -1"):
        Usage(cache_read=-1)
    with pytest.raises(ValueError, match=r"Usage.cache_write\['5m'\] is -2"):
        Usage(cache_write={"1h": 3, "5m": -2})
    with pytest.raises(ValueError, match=r"Usage.tool_units\['web_search'\] is -1"):
        Usage(tool_units={"web_search": -1})


def test_limits_take_seconds_and_timedeltas_and_refuse_zero() -> None:
    """None is no limit; zero would let nothing pass."""
    assert Limits(idle=timedelta(seconds=90)).idle == 90.0
    assert Limits(idle=20).tighten(Limits(idle=5, connect=1)) == Limits(idle=5, connect=1)
    with pytest.raises(ValueError, match="use None for no limit"):
        Limits(connect=0)
    with pytest.raises(TypeError, match=r"such as Limits\(attempt=30\), not 5"):
        Context(limits=cast("Any", 5))


def test_evolve_converts_checks_and_leaves_the_original() -> None:
    """A changed copy is made as by the constructor, and the original is as it was."""
    request = ChatRequest.of("one", model="m")

    changed = request.evolve(messages="two", temperature=0.5)

    assert (request.messages[0].text, changed.messages[0].text) == ("one", "two")
    assert changed.model == "m"
    with pytest.raises(ValueError, match="temperature must be 0 or more"):
        request.evolve(temperature=-1)
    with pytest.raises(TypeError, match="temperature must be a number, not '0'"):
        request.evolve(temperature="0")
    for wrong in ("json_object", ChatRequest):
        with pytest.raises(TypeError, match=r"response_format must be a table .* returns=Answer"):
            request.evolve(response_format=wrong)
    with pytest.raises(TypeError, match="Did you mean 'temperature'"):
        request.evolve(temprature=1)
    with pytest.raises(TypeError, match="Did you mean 'model'"):
        ChatRequest.of("one", modle="m")


def test_requests_and_errors_travel_between_processes() -> None:
    """Records and errors survive pickling and copying."""
    request = ChatRequest.of("hi", model="m", temperature=0)
    error = RateLimitError("slow down", retry_after=2.0)

    assert pickle.loads(pickle.dumps(request)) == request
    assert copy.deepcopy(request) == request
    assert pickle.loads(pickle.dumps(error)).retry_after == 2.0


def test_embedding_requests_split_and_merge() -> None:
    """A batch is cut into pieces, and their answers joined, in order."""
    request = EmbeddingRequest.of(["a", "b", "c"])

    pieces = request.split(2)

    assert [piece.inputs for piece in pieces] == [("a", "b"), ("c",)]
    with pytest.raises(ValueError, match="at least one input"):
        EmbeddingRequest.of([])
