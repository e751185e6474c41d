"""A short run that guards ratios loosely: `python -m benchmarks.smoke`.

The bounds are far above what is measured, so that a busy machine does not fail it; a change that
makes the stack several times slower does.
"""

from __future__ import annotations

import sys

from benchmarks.__main__ import markdown, run

BOUNDS = {
    ("one call at a time", "Lamella, five layers"): 0.95,
    ("a stream of 200 chunks", "Lamella, five layers"): 0.6,
    ("one call at a time", "Lamella, `production`"): 2.5,
}
"""The most CPU time, as a share of the bare SDK's in the same run."""


def main() -> int:
    """Run; the number of bounds broken."""
    results = run(quick=True)
    sys.stdout.write(markdown(results) + "\n")
    broken = 0
    for (plan, name), bound in BOUNDS.items():
        [row] = [row for row in results["calls"][plan] if row["name"] == name]
        if row["of_sdk"] > bound:
            broken += 1
            sys.stdout.write(
                f"TOO SLOW: {name}, {plan}: {row['of_sdk']} of the SDK, over {bound}\n"
            )
    return broken


if __name__ == "__main__":
    raise SystemExit(main())
