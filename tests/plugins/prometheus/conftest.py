"""Virtual time, both event loops, and a registry of its own for each test."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry


@pytest.fixture
def anyio_backend(
    lamella_virtual_backend: tuple[str, dict[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry that nobody else counts into."""
    return CollectorRegistry()
