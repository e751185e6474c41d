"""A short run that guards ratios loosely, and detectors by counts: `python -m benchmarks.smoke`.

The bounds of times are far above what is measured, so that a busy machine does not fail it; a
change that makes the stack several times slower does.
"""

from __future__ import annotations

import sys

from benchmarks import long_conversations, stores
from benchmarks.__main__ import markdown, run
from benchmarks.pii import smoke as pii
from benchmarks.semantic import smoke as semantic

BOUNDS = {
    ("one call at a time", "Lamella, five layers"): 0.95,
    ("a stream of 200 chunks", "Lamella, five layers"): 0.6,
    ("one call at a time", "Lamella, `production`"): 2.5,
    ("Anthropic, a stream of 200 chunks", "Lamella, Anthropic"): 0.7,
    ("Gemini, a stream of 200 chunks", "Lamella, Gemini"): 0.5,
    ("Bedrock, a stream of 200 chunks", "Lamella, Bedrock"): 0.8,
}
"""The most CPU time, as a share of the bare SDK's in the same run."""


def main() -> int:
    """Run; the number of bounds broken."""
    results = run(quick=True)
    sys.stdout.write(markdown(results) + "\n")
    broken = 0
    tables = {**results["calls"], **results["providers"]}
    for (plan, name), bound in BOUNDS.items():
        [row] = [row for row in tables[plan] if row["name"] == name]
        if row["of_sdk"] > bound:
            broken += 1
            sys.stdout.write(
                f"TOO SLOW: {name}, {plan}: {row['of_sdk']} of the SDK, over {bound}\n"
            )
    checks = (pii, stores, semantic, long_conversations)
    for line in [line for check in checks for line in check.broken()]:
        broken += 1
        sys.stdout.write(f"{line}\n")
    return broken


if __name__ == "__main__":
    raise SystemExit(main())
