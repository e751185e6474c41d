"""The results of a run as Markdown. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from benchmarks import promises
from benchmarks.roster import FLOOR

Found = Mapping[str, Any]

_KEPT: Final = {True: "yes", False: "**no**", None: "?"}


def markdown(found: Found) -> str:
    """All tables, those of parts that were not run left out."""
    made = [
        ("", machine(found)),
        ("Promises", promised(found)),
        ("Calls", calls(found)),
        ("In flight", flight(found)),
        ("Imports", imports(found)),
        ("Layers", layers(found)),
        ("Observers and budgets", observers(found)),
        ("Providers", providers(found)),
        ("Offered load", scaling(found)),
        ("Skipped", skipped(found)),
    ]
    return "\n".join(
        f"{'## ' + title if title else ''}\n\n{text}\n".lstrip() for title, text in made if text
    )


def grid(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table whose first column is words and whose others are numbers; None is a dash."""
    lines = [f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    lines += ["| " + " | ".join("-" if c is None else str(c) for c in row) + " |" for row in rows]
    return "\n".join(lines)


def number(value: float | None) -> str | None:
    """Three digits of a number, or all that are before its point."""
    if value is None:
        return None
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{places}f}"


def machine(found: Found) -> str:
    """One sentence: on what, with what, and when."""
    given = found.get("machine")
    if not given:
        return ""
    memory = f", {given['memory_gb']} GB" if given.get("memory_gb") else ""
    said = (
        f"Measured on {given['date']}: {given['processor']}, {given['cores']} cores{memory}, "
        f"{given['system']}, {given['python']}."
    )
    versions = sorted(set(found.get("versions", {}).values()))
    listed = f" Versions: {'; '.join(versions)}." if versions else ""
    quick = " **A quick run: the figures are only there, not good.**" if found.get("quick") else ""
    return said + listed + quick


def promised(found: Found) -> str:
    """Promise, measured, kept."""
    rows = promises.table(dict(found))
    if all(row["kept"] is None for row in rows):
        return ""
    cells = [[row["what"], row["promise"], row["measured"], _KEPT[row["kept"]]] for row in rows]
    return grid(["what", "promise", "measured", "kept"], cells)


def calls(found: Found) -> str:
    """CPU time by contender and plan, and the share of the SDK's of each."""
    tables = found.get("calls", {}).get("tables")
    if not tables:
        return ""
    plans = list(tables)
    head = ["CPU µs"]
    for plan in plans:
        watched = plan.startswith("the first")
        head += [f"{plan}, wall µs" if watched else f"{plan}{_each(plan)}"]
        head += ["over the floor" if watched else "of the SDK"]
    rows = []
    for name in {row["name"]: None for table in tables.values() for row in table}:
        cells: list[Any] = [name]
        for plan in plans:
            row = _row(tables[plan], name)
            cells += [None, None] if row is None else _cells(plan, row, tables[plan])
        rows.append(cells)
    spread = max(row["spread"] for table in tables.values() for row in table)
    apart = f"\n\nThe quartiles of a row's rounds are up to {spread:.0%} of the median apart."
    return grid(head, rows) + (apart if spread else "")


def _each(plan: str) -> str:
    return ", a chunk" if plan.startswith("a stream") else ""


def _cells(plan: str, row: dict[str, Any], table: list[dict[str, Any]]) -> list[Any]:
    if plan.startswith("the first"):
        floor = _row(table, FLOOR)
        over = None if floor is None else row["wall_us"] - floor["wall_us"]
        return [number(row["wall_us"]), number(over)]
    return [number(row["cpu_us"]), number(row["of_sdk"])]


def _row(rows: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((row for row in rows if row["name"] == name), None)


def flight(found: Found) -> str:
    """Many calls before a provider that answers late."""
    given = found.get("flight")
    if not given or not given["rows"]:
        return ""
    rows = [
        [
            row["name"],
            f"{row['at_once']:,}",
            f"{row['answered']:,}",
            number(row["seconds"]),
            number(row["kb_each"]),
        ]
        for row in given["rows"]
    ]
    said = f"{given['calls']:,} calls begun at once"
    late = f"the provider answers each after {given['late']:g} s"
    return f"{said}; {late}.\n\n" + grid(
        ["", "at the provider at once", "answered", "s", "KB each"], rows
    )


def imports(found: Found) -> str:
    """Fresh interpreters."""
    given = found.get("imports")
    if not given:
        return ""
    rows = [
        [
            row["name"],
            *(number(row.get(key)) for key in ("ms", "wall_ms", "mb")),
            f"{row['modules']:,}",
        ]
        for row in given["rows"]
    ]
    return grid(["", "CPU ms", "wall ms", "MB", "modules"], rows)


def layers(found: Found) -> str:
    """All tables of what the stack costs without a network."""
    return _each_table(found.get("layers", {}))


def observers(found: Found) -> str:
    """What looking on, and counting money, costs."""
    return _each_table(found.get("observers", {}))


def _each_table(tables: Mapping[str, Mapping[str, float]]) -> str:
    made = [
        f"### {title[:1].upper()}{title[1:]}\n\n"
        + grid(["", "CPU µs"], [[name, number(value)] for name, value in table.items()])
        for title, table in tables.items()
    ]
    return "\n\n".join(made)


def providers(found: Found) -> str:
    """Each provider's SDK, and this library's transport."""
    rows = [
        [row["name"], what, number(row["cpu_us"]), number(row["of_sdk"])]
        for what, pair in found.get("providers", {}).items()
        for row in pair
    ]
    return grid(["", "what", "CPU µs", "of the SDK"], rows) if rows else ""


def scaling(found: Found) -> str:
    """The most that each series answered, and its latency at half of that."""
    series = found.get("scaling", {}).get("series")
    if not series:
        return ""
    rows = []
    for one in series:
        points = one["points"]
        most = max(point["answered"] for point in points)
        half = min(points, key=lambda point: abs(point["offered"] - most / 2))
        near = min(points, key=lambda point: abs(point["offered"] - most * 0.85))
        rows.append(
            [
                one["name"],
                one["loop"],
                one["processes"],
                f"{most:,.0f}",
                *(f"{point[key]:.1f}" for point in (half, near) for key in ("p50", "p99")),
            ]
        )
    head = ["", "loop", "processes", "answered a second, at most"]
    columns = [f"{part} %, p{rank} ms" for part in (50, 85) for rank in (50, 99)]
    return grid([*head, *(f"at {column}" for column in columns)], rows)


def skipped(found: Found) -> str:
    """Who did not take part, and why."""
    lines = {
        f"- {name} ({part}): {why}"
        for part in ("calls", "flight", "imports", "scaling")
        for name, why in found.get(part, {}).get("skipped", {}).items()
    }
    return "\n".join(sorted(lines))
