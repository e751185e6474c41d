"""The results as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

TARGETS: Final = (
    ("Presidio's templates", "card", "recall", 0.98),
    ("Presidio's templates", "phone", "recall", 0.85),
    ("Presidio's templates", "phone", "precision", 0.74),
    ("Presidio's templates", "ip", "recall", 1.0),
    ("Presidio's templates", "email", "recall", 1.0),
    ("Presidio's templates", "iban", "recall", 1.0),
    ("Presidio's templates", "us_ssn", "recall", 1.0),
    ("Presidio's templates", "us_ssn", "precision", 0.92),
    ("Presidio's templates", "url", "precision", 0.95),
)
"""The least that the built-in detectors are to reach, with the extras."""

SPEEDS: Final = (("usual chats, MB/s", 5.0), ("quick look at prose, MB/s", 50.0))
"""The least megabytes a second."""

LEGEND: Final = (
    "By any overlap: recall / precision / F2. `covered` is the share of values that are wholly "
    "masked, as whatever kind. In brackets: recall and precision where places must agree (IoU of "
    "0.9). `-`: it does not look for that kind, or found none of it."
)


def missed(results: Mapping[str, Any]) -> list[str]:
    """The targets that were not reached, in words."""
    lines: list[str] = []
    for corpus, kind, figure, least in TARGETS:
        value = results["quality"].get(corpus, {}).get("Lamella", {}).get(kind, {}).get(figure)
        if value is not None and value < least:
            lines.append(f"{corpus}, {kind}: {figure} {value:.3f}, below {least}")
    speeds = {f"{name}, MB/s": value for name, value in results["MB/s"]["Lamella"].items()}
    speeds |= results["ours"]
    lines += [
        f"{name}: {speeds[name]:.1f}, below {least}"
        for name, least in SPEEDS
        if speeds[name] < least
    ]
    return lines


def markdown(results: Mapping[str, Any]) -> str:
    """All of it."""
    lines = [
        f"Measured on {json.dumps(results['machine'])} with {json.dumps(results['versions'])}.",
        "",
        LEGEND,
        "",
    ]
    for corpus, table in results["quality"].items():
        names = list(table)
        kinds = sorted({kind for rows in table.values() for kind in rows})
        lines += [
            f"### {corpus} ({results['samples'][corpus]} texts)",
            "",
            f"| kind | values | {' | '.join(names)} | covered by {names[0]} |",
            f"|---|--:|{'--:|' * (len(names) + 1)}",
        ]
        for kind in kinds:
            cells = [_cell(table[name].get(kind)) for name in names]
            covered = _number(table[names[0]].get(kind, {}).get("covered"))
            gold = max(rows.get(kind, {}).get("gold", 0) for rows in table.values())
            lines.append(f"| `{kind}` | {gold} | {' | '.join(cells)} | {covered} |")
        lines.append("")
    chats = list(next(iter(results["MB/s"].values())))
    lines += ["### Speed, one core: MB/s", "", f"| | {' | '.join(chats)} |"]
    lines += [f"|---|{'--:|' * len(chats)}"]
    for name, speeds in results["MB/s"].items():
        lines.append(f"| {name} | {' | '.join(f'{speeds[chat]:.2f}' for chat in chats)} |")
    lines += ["", "| Lamella | |", "|---|--:|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in results["ours"].items()]
    below = missed(results)
    lines += ["", "### Targets", ""]
    lines += [f"- not reached: {line}" for line in below] or ["All are reached."]
    return "\n".join(lines)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    plain = " / ".join(_number(row[name]) for name in ("recall", "precision", "f2"))
    strict = " / ".join(_number(row[name]) for name in ("strict_recall", "strict_precision"))
    return f"{plain} ({strict})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def row(score: Any, strict: Any) -> dict[str, Any]:
    """A score's figures, by overlap and by place."""
    figures = {name: getattr(score, name) for name in ("recall", "precision", "f2")}
    return {
        **attrs.asdict(score),
        **figures,
        "covered": score.covered / score.gold if score.gold else None,
        "strict_recall": strict.recall,
        "strict_precision": strict.precision,
        "strict_f2": strict.f2,
    }
