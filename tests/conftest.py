"""Settings shared by all tests."""

import gc

import hypothesis  # now: it looks at who holds trio's random numbers, before they are frozen
import pytest

# A busy machine may stand still within an example: that says nothing about what is tested.
hypothesis.settings.register_profile(
    "unhurried",
    hypothesis.settings(),
    deadline=None,
    suppress_health_check=[
        *hypothesis.settings().suppress_health_check,
        hypothesis.HealthCheck.too_slow,
    ],
)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every asynchronous test runs on both event loops."""
    return str(request.param)


@pytest.fixture(autouse=True, scope="module")
def only_own_garbage() -> None:
    """What was there before a module's tests is not looked at when they collect garbage.

    Tests of dropped answers collect often, and some modules import libraries with millions of
    objects, after which each collection would take a second.
    """
    gc.collect()
    gc.freeze()
