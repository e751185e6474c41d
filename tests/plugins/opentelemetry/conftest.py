"""Left out where the plugin, or OpenTelemetry's SDK, is not installed; in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from otel_signals import Signals

collect_ignore_glob: list[str] = []
try:
    import opentelemetry.sdk.trace
    import opentelemetry.util.genai  # noqa: F401

    import lamella_opentelemetry  # noqa: F401 - are they there?
except ImportError:
    collect_ignore_glob.append("test_*.py")


@pytest.fixture
def anyio_backend(
    lamella_virtual_backend: tuple[str, dict[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


@pytest.fixture
def signals() -> Iterator[Signals]:
    """What this test sends; every span of it has ended, once, by the end."""
    from otel_signals import Signals

    found = Signals()
    yield found
    found.balance.check()
