"""The watchdog: one timer for all alarms of a loop."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from lamella._watchdog import Alarm

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(
    lamella_virtual_backend: tuple[str, dict[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


async def test_an_alarm_that_fails_does_not_silence_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither those that are due with it nor those that come later; the failure is logged."""
    rung: list[str] = []

    def broken() -> None:
        raise ZeroDivisionError

    alarms = [Alarm(broken), Alarm(lambda: rung.append("same")), Alarm(lambda: rung.append("next"))]
    with caplog.at_level(logging.ERROR, "lamella"):
        for alarm, seconds in zip(alarms, (1, 1, 2), strict=True):
            alarm.arm(seconds)
        await anyio.sleep(3)
    assert rung == ["same", "next"]
    assert "ZeroDivisionError" in caplog.text
