"""`lamella scenarios`: what a preset with two targets does when a provider fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import attrs
from cyclopts import Parameter

if TYPE_CHECKING:
    from lamella._handlers import Handler
    from lamella._pipeline import Pipeline
    from lamella._targets import Target
    from lamella.testing import FailoverResult, FailoverScenario

Column: TypeAlias = Literal["run", "stream", "held"]
Make: TypeAlias = "Callable[[Handler, Target], Pipeline]"

_COLUMNS: Final[tuple[Column, ...]] = ("run", "stream", "held")
_HELD: Final = {"tokens": 40}
"""Read-ahead of the third column: more than a scenario lets through before it breaks."""


def scenarios(
    *name: str,
    preset: Annotated[str, Parameter(alias="-p", show_default=True)] = "production",
    config: Annotated[str | None, Parameter(alias="-c")] = None,
    mode: Column | None = None,
    json: bool = False,
) -> int:
    """Play the failover scenarios: two providers on loopback sockets, one of which fails.

    "pass": answered, well. "partial": answered at a price that good failover does not pay. "safe":
    not answered, and the caller was told so. "fail": the caller was misled, or waited without end.

    Args:
        name: Only these scenarios; none plays all.
        preset: The stack that is played; the second provider is added as a target of Fallback.
        config: The file with presets, as for the other commands.
        mode: "run", "stream", or "held": a stream that is held back for its first 40 tokens, so
            that a break in them can be mended. None plays all three.
        json: Print a JSON document.
    """
    import logging

    from lamella.cli._output import show_json
    from lamella.testing import run_virtual

    # What circuits and stores say of their state would stand between the lines of the card.
    logging.getLogger("lamella").addHandler(logging.NullHandler())
    chosen = _chosen(name)
    columns = _COLUMNS if mode is None else (mode,)
    make = _maker(preset, config)
    results: dict[Column, list[FailoverResult]] = {
        column: run_virtual(_play_all, chosen, make(held=column == "held"), column)
        for column in columns
    }
    if json:
        show_json(
            {column: [attrs.asdict(one) for one in found] for column, found in results.items()}
        )
    else:
        _show(chosen, results)
    grades = {result.grade for found in results.values() for result in found}
    return 1 if "fail" in grades else 0


async def _play_all(
    chosen: Sequence[FailoverScenario], make: Make, column: Column
) -> list[FailoverResult]:
    from lamella.testing import play_failover

    mode: Any = "run" if column == "run" else "stream"
    return [await play_failover(scenario, make, mode=mode) for scenario in chosen]


def _chosen(names: Sequence[str]) -> Sequence[FailoverScenario]:
    from lamella.cli._errors import UsageError
    from lamella.testing import FAILOVER_SCENARIOS

    known = {scenario.name: scenario for scenario in FAILOVER_SCENARIOS}
    wrong = [name for name in names if name not in known]
    if wrong:
        msg = f"There is no scenario {', '.join(map(repr, wrong))}."
        raise UsageError(msg, hint=f"The scenarios are {', '.join(known)}.")
    return [known[name] for name in names] or FAILOVER_SCENARIOS


def _maker(preset: str, config: str | None) -> Callable[..., Make]:
    """Makes the preset's pipeline around two targets, without its log."""
    from lamella import Pipeline
    from lamella.testing import virtual_ports

    options: dict[str, Any] = {} if config is None else {"config": config}
    standing = {info.name for info in Pipeline.preset(preset, transport="mock", **options).infos}
    if "log" in standing:
        options["log"] = None

    def maker(*, held: bool) -> Make:
        hold = {"hold": _HELD} if held else {}

        def make(first: Handler, second: Target) -> Pipeline:
            return Pipeline.preset(
                preset, transport=first, fallback={"targets": [second]}, ports=virtual_ports(),
                **options, **hold,
            )  # fmt: skip

        return make

    return maker


def _show(chosen: Sequence[FailoverScenario], results: dict[Column, list[FailoverResult]]) -> None:
    from lamella.cli._render import show_table

    lines: list[tuple[str, ...]] = []
    for number, scenario in enumerate(chosen):
        found = [column[number] for column in results.values()]
        worst = max(found, key=lambda one: _ORDER.index(one.grade))
        asked = f"{worst.primary} + {worst.secondary}"
        lines.append(
            (scenario.name, scenario.title, *(one.grade for one in found), asked,
             f"{worst.seconds:.1f}", worst.why)
        )  # fmt: skip
    sums = [
        f"{sum(one.grade == 'pass' for one in column)}/{len(column)}" for column in results.values()
    ]
    lines.append(("passed", "", *sums, "", "", ""))
    show_table(
        ("scenario", "what happens", *results, "requests", "seconds", "the worst of them"), lines
    )


_ORDER: Final = ("pass", "partial", "safe", "fail")
