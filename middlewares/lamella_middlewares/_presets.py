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
    # A second provider is named in the call or a file, for nobody else knows which:
    # fallback={"targets": [...]}. It goes between load_shed and retry.
    "layers": [
        # One JSON record a request, for machines. Outermost, so that it counts what the caller
        # waited, and without content: that may hold personal data.
        {"use": "log", "format": "json"},
        # Whoever asked has given up after a minute: no wait and no attempt goes beyond it.
        {"use": "deadline", "seconds": 60},
        {
            "use": "load_shed",
            # About as many as one process answers without falling behind, and as many connections
            # as the client's pool has. Beyond that, waiting helps and working does not.
            "max_in_flight": 1000,
            # One more round of them may wait; the least important are told to come back.
            "max_waiting": 1000,
            # After a third of the deadline the answer would hardly come in time.
            "max_wait": 20,
        },
        # Three attempts get over a blip and a short rate limit. More of them would meet the
        # deadline, and would load a provider that is already struggling.
        {"use": "retry", "attempts": 3},
        {
            "use": "concurrency",
            # Nobody knows how much a provider takes, and it changes: found out from its throttles.
            "adaptive": "aimd",
            # Enough to start with at a hundred requests a second, and little for any provider.
            "limit": 50,
            # What load_shed lets through at all.
            "max_limit": 1000,
        },
        # A provider that fails half of its calls is left alone: callers get their error, or the
        # other provider, at once, and it gets the time to recover. One call in 20 s finds out
        # whether it has, which is no load, and no minute is lost after it is back.
        {"use": "circuit_breaker", "max_open": 20},
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
            # What bounds an answer that trickles, and one that a transport cannot stream.
            "attempt": 50,
            # Answers of `run` are streamed too, or a dead provider would be found out after 50 s
            # instead of 20.
            "stream_runs": True,
        },
        # Innermost: attempts that failed have cost something too. A model whose price nobody knows
        # is answered all the same, with a note: a new model's first day must be no outage.
        {"use": "cost", "unknown": "note"},
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
        # As production's, so that what is too slow there shows here; with time for a debugger.
        {"use": "timeout", "connect": 5, "first_event": 30, "idle": 60, "attempt": 120},
        # What an experiment has cost is best known while it runs; a local model has no price.
        {"use": "cost", "unknown": "note"},
    ],
}

DEBUG: Final[Mapping[str, Any]] = {
    # What is looked into is what runs: the same layers, seen from outside.
    "extends": "development",
    "layers": [
        # Each call is drawn and described when it is over: texts of prompts only from a layer that
        # masks them, and only with content = true.
        "debug",
        # The record of each call with all that its layers have noted.
        {"use": "log", "level": "debug"},
    ],
}

COST: Final[Mapping[str, Any]] = {
    "transport": "openai",
    "layers": [
        # Every request leaves a record of what it has cost.
        {"use": "log", "format": "json"},
        # A call that is not bounded in time is not bounded in money.
        {"use": "deadline", "seconds": 60},
        # What was answered within the hour costs nothing, where the model would say the same again:
        # temperature 0 or a seed, embeddings. Those that name no tenant share; others never do.
        {"use": "cache", "tenant": "shared"},
        # Those who ask the same at the same time share one answer, and its price.
        {"use": "single_flight", "when": "deterministic"},
        # No retry: a request is paid for once, or fails. What fails half of the time is not asked.
        "circuit_breaker",
        # An answer that nobody waits for any more is not paid for to its end.
        {"use": "timeout", "connect": 5, "first_event": 20, "idle": 20, "attempt": 50},
        # Providers bill the part of a prompt that they have just seen at a fraction. Tools and the
        # system prompt come again; the rest of a conversation may not, and marking it costs.
        {"use": "prompt_cache", "messages": 0},
        # What everything else in this stack is about. Who wants models without a price refused says
        # so: cost={"unknown": "refuse"}.
        {"use": "cost", "unknown": "note"},
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
        # So that a test can assert on cost and usage, of models of any name.
        {"use": "cost", "unknown": "note"},
    ],
}
