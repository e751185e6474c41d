"""Order: what is refused, what is doubted, and how layers are sorted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lamella import ConfigurationError, OrderError, Pipeline, middleware

if TYPE_CHECKING:
    from lamella import Phase


def layer(name: str, phase: Phase, **declared: Any) -> Any:
    """A layer that only declares."""

    @middleware(phase=phase, name=name, **declared)
    async def step(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return step


def names(pipeline: Pipeline) -> list[str]:
    """The layers' names, outermost first."""
    return [info.name for info in pipeline.infos]


LOG = layer("log", "observe")
MASK = layer("mask", "govern")
CACHE = layer("cache", "remember", inside={"mask": "its keys would hold personal data"})
RETRY = layer("retry", "attempt")


def test_an_order_that_leaks_is_refused_with_reason_and_remedy() -> None:
    """The error names both layers, the reason, and what to write instead."""
    with pytest.raises(OrderError) as refused:
        Pipeline([CACHE, MASK])

    assert str(refused.value) == (
        "'cache' is outside 'mask': its keys would hold personal data. Put 'mask' before 'cache'; "
        'to accept it nevertheless pass allow=["cache outside mask"].'
    )


def test_an_order_is_accepted_by_name() -> None:
    """`allow` accepts one order, and `explain` says so."""
    pipeline = Pipeline([CACHE, MASK], allow=["cache outside mask"])

    assert "accepted: cache outside mask" in str(pipeline.explain())


@pytest.mark.parametrize("allowance", ["cache", "cache outside tools", "mask inside cache"])
def test_an_allowance_that_names_nothing_is_refused(allowance: str) -> None:
    """A misspelt allowance would allow nothing, so it is an error."""
    with pytest.raises(OrderError, match="names no two layers"):
        Pipeline([MASK, CACHE], allow=[allowance])


def test_an_unusual_order_is_a_doubt() -> None:
    """A wrong phase that loses nothing is no error, and `explain` shows it."""
    pipeline = Pipeline([RETRY, LOG])

    assert [doubt.layer for doubt in pipeline.doubts] == ["log"]
    assert "usually stands outside 'retry'" in str(pipeline.explain())


def test_a_missing_layer_is_named() -> None:
    """A layer that needs another says which."""
    with pytest.raises(OrderError, match="'tools' needs a layer that provides 'values'"):
        Pipeline([layer("tools", "compose", requires=["values"])])
    with pytest.raises(OrderError, match=r"'prices', and there is none in the stack. Put Cost\(\)"):
        Pipeline([layer("budget", "attempt", requires=["prices"])])


def test_a_layer_that_may_stand_once_stands_once() -> None:
    """A repeated layer is refused where repeating makes no sense."""
    once = layer("cost", "wire", once=True)

    with pytest.raises(OrderError, match="'cost' stands in the stack more than once"):
        Pipeline([once, once])


def test_arrange_sorts_by_phase_rank_and_constraint() -> None:
    """Whatever order they are given in, layers end up in the lawful one."""
    early = layer("early", "attempt", rank=10)
    late = layer("late", "attempt", rank=90)
    before_log = layer("before_log", "observe", outside={"log": "it times the log"})

    pipeline = Pipeline.arrange([late, CACHE, LOG, early, before_log, MASK])

    assert names(pipeline) == ["before_log", "log", "mask", "cache", "early", "late"]


def test_arrange_keeps_undeclared_layers_behind_their_neighbour() -> None:
    """A function that declares no phase stays behind the layer it was given behind."""

    async def mine(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    assert names(Pipeline.arrange([RETRY, mine, LOG])) == ["log", "retry", "mine"]


def test_contradicting_constraints_are_refused() -> None:
    """Two layers that each must stand outside the other cannot be sorted."""
    one = layer("one", "observe", outside={"two": "so"})
    two = layer("two", "observe", outside={"one": "so"})

    with pytest.raises(OrderError, match="contradict each other: one, two"):
        Pipeline.arrange([one, two])


def test_an_instance_overrides_its_phase() -> None:
    """The same layer may govern tenants or limit attempts."""

    @middleware(phase="attempt")
    class Limit:
        def __init__(self, phase: str) -> None:
            self.phase = phase

        async def __call__(self, request: Any, call_next: Any) -> Any:
            return await call_next(request)

    pipeline = Pipeline.arrange([RETRY, Limit("govern")])

    assert names(pipeline) == ["limit", "retry"]
    with pytest.raises(ConfigurationError, match="unknown phase 'gouvern'"):
        Pipeline([Limit("gouvern")])
