"""5,000 calls in flight: whether all of them are at the provider at once, and their memory."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.driver import Child, ChildError, command_of
from benchmarks.environments import UnavailableError
from benchmarks.parts import Setting
from benchmarks.roster import (
    BARE_FAST,
    EIGHT,
    EIGHT_FAST,
    FLOOR,
    LITELLM,
    SDK,
    TENSORZERO,
    entries,
)

CALLS: Final = 5_000
LATE: Final = 8.0
"""Seconds that the provider takes: longer than most need to send all of them."""
PATIENCE: Final = 45.0

WHO: Final = (
    FLOOR,
    "aiohttp",
    SDK,
    "openai SDK over aiohttp",
    EIGHT,
    BARE_FAST,
    EIGHT_FAST,
    TENSORZERO,
    LITELLM,
)


def run(setting: Setting) -> dict[str, Any]:
    """A row for each, in a fresh process."""
    calls, late = (300, 0.5) if setting.quick else (CALLS, LATE)
    found: dict[str, Any] = {"calls": calls, "late": late, "rows": [], "skipped": {}}
    with setting.upstream() as url:
        for entry in entries(WHO):
            try:
                child = Child(command_of(entry), core=setting.core, log=setting.log)
            except UnavailableError as error:
                found["skipped"][entry.name] = str(error)
                continue
            try:
                row = child.ask(do="flight", url=url, calls=calls, late=late, patience=PATIENCE)
            except ChildError as error:
                found["skipped"][entry.name] = str(error)
                setting.say(f"  {entry.name}: skipped: {error}")
            else:
                found["rows"].append({"name": entry.name, **row})
                setting.say(f"  {entry.name}: {row['at_once']} at once")
            finally:
                child.close()
            setting.keep("flight", found)
    return found
