"""Cache beside a model of it that is a dictionary: any sequence of calls, waits and failures."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest
from caches import ASK, by, called, saying, stack
from hypothesis import given
from hypothesis import strategies as st

from lamella import CacheMissError, Finish, ServerError, TextDelta
from lamella.testing import run_virtual
from lamella_middlewares.cache import Cache, CacheControl, Stale

TTL, IF_ERROR = 10.0, 20.0
DOWN = ServerError("down", status=503, retryable=True)


@attrs.frozen
class Step:
    """A call, and what happens before it."""

    wait: float
    tenant: str
    seed: int
    said: Any
    stream: bool
    down: bool
    purge: str | None


STEPS = st.lists(
    st.builds(
        Step,
        wait=st.sampled_from([0.0, 0.0, 3.0, 9.0, 15.0, 40.0]),
        tenant=st.sampled_from(["a", "b"]),
        seed=st.integers(0, 2),
        said=st.sampled_from(
            ["use", "use", "use", "bypass", "refresh", "no_store", "only_if_cached", "young"]
        ),
        stream=st.booleans(),
        down=st.booleans(),
        purge=st.none() | st.none() | st.sampled_from(["a", "b", "all"]),
    ),
    max_size=12,
)


class Model:
    """What is kept, by tenant and seed: the answer, and when it was given."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], tuple[str, float]] = {}

    def purge(self, tenant: str) -> int:
        """Forget a tenant's, or all; how many are still there to be forgotten."""
        gone = [key for key in self.kept if tenant in {"all", key[0]}]
        now = anyio.current_time()
        alive = [key for key in gone if now - self.kept[key][1] < TTL + IF_ERROR]
        for key in gone:
            del self.kept[key]
        return len(alive)

    def expected(self, step: Step, fresh: str) -> str | type[Exception]:
        """What a call is to give, where `fresh` is what the model says; and what is kept then."""
        key = step.tenant, step.seed
        now = anyio.current_time()
        found, at = self.kept.get(key, ("", -1e9))
        age = now - at
        usable = age < TTL and (step.said != "young" or age <= 5)
        spare = age < TTL + IF_ERROR and (step.said != "young" or age <= 5)
        if step.said in {"bypass", "refresh"}:
            usable = spare = False
        if usable:
            return found
        if step.said == "only_if_cached":
            return found if spare else CacheMissError
        if step.down:
            return found if spare else ServerError
        if step.said in {"use", "refresh", "young"}:
            self.kept[key] = fresh, now
        return fresh


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(steps=STEPS)
def test_it_is_a_dictionary_with_times(backend: str, steps: list[Step]) -> None:
    """Each call has what the model says, whatever came before."""

    async def run() -> None:
        model, cache = Model(), Cache(TTL, jitter=0, stale=Stale(if_error=IF_ERROR))
        down = False
        asked = 0

        def answer(_: Any) -> Any:
            return DOWN if down else [TextDelta(f"answer {asked}"), Finish("stop")]

        pipeline, _ = stack(answer, cache=cache)
        for step in steps:
            await anyio.sleep(step.wait)
            if step.purge is not None:
                whose = None if step.purge == "all" else step.purge
                gone = await (
                    cache.purge(pipeline, tenant=whose) if whose else cache.clear(pipeline)
                )
                assert gone == model.purge(step.purge)
            asked += 1
            down = step.down
            said = CacheControl(max_age=5) if step.said == "young" else step.said
            request = saying(said, by(ASK.evolve(seed=step.seed), tenant=step.tenant))
            expected = model.expected(step, f"answer {asked}")
            if isinstance(expected, type):
                with pytest.raises(expected):
                    await called(pipeline, step.stream, request)
            else:
                assert (await called(pipeline, step.stream, request)).text == expected

    run_virtual(run, backend=backend)
