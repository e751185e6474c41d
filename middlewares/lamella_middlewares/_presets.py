"""The built-in presets, as data of the shape that `lamella.toml` has.

Each line says why it is there. Times are seconds. What one of them does not suit is changed in a
file (`extends = "production"`) or in the call (`Pipeline.preset("production", retry=None)`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PRODUCTION: Final[Mapping[str, Any]] = {
    # Its key comes from OPENAI_API_KEY; transport= in the call, or a file, names another one.
    "transport": "openai",
    "layers": [
        # One JSON record a request, for machines. Outermost, so that it counts what the caller
        # waited, and without content: that may hold personal data.
        {"use": "log", "format": "json"},
        # Whoever asked has given up after a minute: no wait and no attempt goes beyond it.
        {"use": "deadline", "seconds": 60},
        # Three attempts get over a blip and a short rate limit. More of them would meet the
        # deadline, and would load a provider that is already struggling.
        {"use": "retry", "attempts": 3},
        {
            "use": "timeout",
            # A host that is up connects within milliseconds; 5 s allow for one lost packet or two.
            "connect": 5,
            # Prompts are small. One that is not taken within 10 s meets a peer that has stalled.
            "write": 10,
            # Most models begin within 5 s and thinking ones later; 20 s leave time for another try.
            "first_event": 20,
            # A healthy stream is never silent for as long; a dead connection is, for ever.
            "idle": 20,
            # An answer that does not stream has no first event to wait for: this bounds it.
            "attempt": 50,
        },
        # Innermost: attempts that failed have cost something too.
        "cost",
    ],
}

DEVELOPMENT: Final[Mapping[str, Any]] = {
    # As in production, so that what works here works there; pass transport="mock" without a key.
    "transport": "openai",
    "layers": [
        # Lines for people.
        {"use": "log", "format": "console"},
        # Time to read along and to step through, but a hung call still ends by itself.
        {"use": "deadline", "seconds": 120},
        # One more try hides blips. A third would hide that something is wrong.
        {"use": "retry", "attempts": 2},
        # What an experiment has cost is best known while it runs.
        "cost",
    ],
}

COST: Final[Mapping[str, Any]] = {
    "transport": "openai",
    "layers": [
        # Every request leaves a record of what it has cost.
        {"use": "log", "format": "json"},
        # A call that is not bounded in time is not bounded in money.
        {"use": "deadline", "seconds": 60},
        # No retry: a request is paid for once, or fails.
        "cost",
    ],
    # And nobody, not even a layer that is added later, makes a second attempt.
    "max_attempts": 1,
}

TEST: Final[Mapping[str, Any]] = {
    # No network, no key, the same answer each time.
    "transport": "mock",
    "layers": [
        # A test that hangs is a bug; 5 s of call time are an age for the mock.
        {"use": "deadline", "seconds": 5},
        # So that a test can assert on cost and usage.
        "cost",
    ],
}
