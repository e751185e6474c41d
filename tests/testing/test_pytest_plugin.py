"""The pytest plugin: fixtures that are there when they are asked for, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

from lamella import ChatRequest, Pipeline, Ports
from lamella.testing import MockServer, Scripted

pytest_plugins = ["pytester"]


@pytest.mark.anyio
async def test_scripted_and_ports(scripted: Callable[..., Scripted], lamella_ports: Ports) -> None:
    """`scripted` makes transports; `lamella_ports` follow the running loop."""
    transport = scripted(["hello"])
    response = await Pipeline([], transport, ports=lamella_ports).run(ChatRequest.of("hi"))
    assert response.text == "hello"
    begun, now = anyio.current_time(), lamella_ports.monotonic()
    assert begun <= now <= anyio.current_time()


@pytest.mark.anyio
async def test_mock_server(mock_server: MockServer) -> None:
    """`mock_server` is a provider on the loopback, on the test's own event loop."""
    assert mock_server.url.startswith("http://127.0.0.1:")


def test_both_loops_in_virtual_time(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> None:
    """`lamella_virtual_backend` is what a loop's own `run` takes."""
    name, options = lamella_virtual_backend

    async def wait() -> float:
        await anyio.sleep(3600)
        return anyio.current_time()

    if name == "trio":  # anyio before 4.14 does not pass the options on
        assert trio.run(wait, **options) == 3600
    else:
        assert anyio.run(wait, backend=name, backend_options=options) == 3600


def test_a_project_uses_it(pytester: pytest.Pytester) -> None:
    """A module whose `anyio_backend` is the fixture runs on both loops in virtual time."""
    pytester.makepyfile(
        """
        import anyio, pytest

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend(lamella_virtual_backend):
            return lamella_virtual_backend

        async def test_an_hour():
            await anyio.sleep(3600)
            assert anyio.current_time() == 3600
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)


def test_a_project_that_does_not_use_it_is_left_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing heavy is imported, no event loop is touched, no fixture is active."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others import what they like
    plugin = ("-p", "lamella.testing.pytest_plugin")
    pytester.makepyfile(
        """
        import sys

        def test_nothing(request):
            heavy = {"openai", "httpx", "httpx2", "trustme", "lamella.testing._scripted"}
            assert heavy & set(sys.modules) == set()
            assert not [name for name in request.fixturenames if "lamella" in name]
        """
    )
    result = pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider", "-W", "error")
    result.assert_outcomes(passed=1)
