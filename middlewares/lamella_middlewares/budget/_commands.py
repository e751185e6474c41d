"""`lamella budget`: what is spent, and other amounts for single users, teams or sessions.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | the store failed |
| 2 | the command line is wrong, or there is no such preset, budget or limit |
| 130 | ended by Ctrl-C |
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import attrs
from cyclopts import Parameter

from lamella import ConfigurationError, Pipeline
from lamella._grants import is_immediate
from lamella.cli._errors import UsageError
from lamella.cli._stack import Stack
from lamella_middlewares.budget._allowances import Limit
from lamella_middlewares.budget._control import limit_for
from lamella_middlewares.budget._levels import BudgetLevel
from lamella_middlewares.budget._middleware import Budget

T = TypeVar("T")

_GOOD: Final = 0

Whose: TypeAlias = Annotated[str, Parameter(name="SCOPE")]
"""One word of a scope, such as user=alice."""

Seen: TypeAlias = tuple[list[BudgetLevel], list[Limit]]
"""What is shown, and what else there is."""


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Which:
    """Which budgets a command is about.

    Attributes:
        preset: The preset with the budgets. Without it LAMELLA_ENV names it, or else it is
            development.
        config: The file with presets. Without it LAMELLA_CONFIG names it, or else it is
            lamella.toml in the working directory.
        namespace: Only budgets of this namespace.
    """

    preset: Annotated[str | None, Parameter(alias="-p")] = None
    config: Annotated[str | None, Parameter(alias="-c")] = None
    namespace: str | None = None


ANY: Final = Which()


def show(*scope: Whose, which: Which = ANY, json: bool = False) -> int:
    """Show how much there is, is spent, is reserved and is left, and when it starts anew.

    Without a scope: what is counted for all together, and every scope with an amount of its own.

    Args:
        scope: For whom, such as user=alice: all that it is counted by.
        which: Which budgets.
        json: Print a JSON list.
    """
    from lamella.cli._output import show_json

    wanted = _scope(scope)

    async def work(pipeline: Pipeline, budgets: list[Budget]) -> Seen:
        found: list[BudgetLevel] = []
        _must_be_counted(budgets, wanted)
        for budget in budgets:
            levels = await budget.levels(pipeline, _of(budget, wanted))
            found += [each for each in levels if set(each.scope) <= set(wanted)]
            if not wanted:
                found += [each for each in await budget.overridden(pipeline) if each.scope]
        return found, [] if wanted else _limits(budgets)

    levels, limits = _run(which, work)
    if json:
        show_json([_form(level) for level in levels])
    elif levels:
        _table(levels)
    _tell_of_others(limits)
    return _GOOD


def set_amount(
    amount: str,
    *scope: Whose,
    unit: str | None = None,
    window: str | None = None,
    which: Which = ANY,
) -> int:
    """Give a user, team or session another amount, at once and for all processes.

    What was spent counts on.

    Args:
        amount: How much there is from now on: money in whole units, or a number.
        scope: For whom, such as user=alice: all that it is counted by.
        unit: tokens, requests or a currency, where it could be several.
        window: minute, hour, day, week, month or total, likewise.
        which: Which budgets.
    """
    from lamella.cli._output import say

    _, limit = _change(amount, scope, unit, window, which)
    whose = f" for {' '.join(scope)}" if scope else ""
    say(f"{amount} {limit.unit}{limit.whose}{whose} is set; every process knows it within seconds.")
    return _GOOD


def unset(
    *scope: Whose, unit: str | None = None, window: str | None = None, which: Which = ANY
) -> int:
    """Take the preset's own amount again.

    Args:
        scope: For whom, such as user=alice: all that it is counted by.
        unit: tokens, requests or a currency, where it could be several.
        window: minute, hour, day, week, month or total, likewise.
        which: Which budgets.
    """
    from lamella.cli._output import say

    changed, limit = _change(None, scope, unit, window, which)
    what = f"of {limit.unit}{limit.whose}"
    say(
        f"The preset's own amount {what} holds again."
        if changed
        else f"No other amount {what} had been set."
    )
    return _GOOD


# --- behind them ---------------------------------------------------------------------------------


def _change(
    amount: str | None, scope: tuple[str, ...], unit: str | None, window: str | None, which: Which
) -> tuple[bool, Limit]:
    wanted = _scope(scope)

    async def work(pipeline: Pipeline, budgets: list[Budget]) -> tuple[bool, Limit]:
        _must_be_seen(pipeline.ports.stores.blobs, "the amounts that are set", "blobs")
        _must_be_counted(budgets, wanted)
        budget = _only(budgets, wanted, unit, window)
        changed = await budget.set_limit(pipeline, amount, wanted, unit=unit, window=window)
        return changed, limit_for(budget.plan, wanted, unit, window)

    return _run(which, work)


def _only(
    budgets: list[Budget], wanted: Mapping[str, str], unit: str | None, window: str | None
) -> Budget:
    """The only budget with a limit for a scope; those of one namespace that share it are one.

    Raises:
        ConfigurationError: If there is none, or several; or if nothing says which unit an amount
            is in, of several that there are.
    """
    if not wanted and unit is None:
        _must_be_of_one_unit(budgets)
    found: dict[tuple[str, ...], Budget] = {}
    wrong: list[ConfigurationError] = []
    for budget in budgets:
        try:
            limit = limit_for(budget.plan, wanted, unit, window)
        except ConfigurationError as error:
            wrong.append(error)
        else:
            found.setdefault((budget.namespace, *limit.identity), budget)
    if len(found) > 1:
        listed = "; ".join("/".join(each) for each in found)
        raise ConfigurationError(
            f"The preset has several limits of that kind: {listed}.",
            hint="Say which with --unit, --window or --namespace.",
        )
    if not found:
        raise wrong[0]
    return next(iter(found.values()))


def _must_be_of_one_unit(budgets: list[Budget]) -> None:
    """Refuse a bare number where there are money, tokens or requests: each could be meant.

    Raises:
        ConfigurationError: If there are several.
    """
    units = {limit.unit for limit in _limits(budgets)}
    if len(units) > 1:
        listed = "; ".join(f"{_forms(limit)}: {_counted(limit)}" for limit in _limits(budgets))
        raise ConfigurationError(
            f"The preset has limits in {' and '.join(sorted(units))}, and any may be meant.",
            hint=f"Say --unit, and for whom: {listed}.",
        )


def _limits(budgets: list[Budget]) -> list[Limit]:
    """All limits, each once."""
    found = {limit.identity: limit for budget in budgets for limit in budget.plan.limits}
    return list(found.values())


def _forms(limit: Limit) -> str:
    """How a limit is meant on the command line."""
    return " ".join([*_scope_forms(limit), "--unit", limit.unit])


def _scope_forms(limit: Limit) -> list[str]:
    return [f"{word}=..." for word in limit.words]


def _counted(limit: Limit) -> str:
    return f"{limit.unit}{limit.whose or ' in all'}"


def _tell_of_others(limits: list[Limit]) -> None:
    """Say what is counted for each user or session by itself, and how one is seen."""
    from lamella.cli._output import say

    for limit in limits:
        if limit.words:
            forms = " ".join(_scope_forms(limit))
            what = _counted(limit)
            say(f"Counted for each by itself: {what}. See one: lamella budget show {forms}")


def _run(which: Which, work: Callable[[Pipeline, list[Budget]], Awaitable[T]]) -> T:
    """Do something with the budgets of a preset."""
    from lamella.cli._interrupts import run

    name = Stack(preset=which.preset, config=which.config).name
    pipeline = Pipeline.preset(name, transport="mock", config=which.config)
    budgets = [
        layer
        for layer in pipeline.layers
        if isinstance(layer, Budget) and which.namespace in {None, layer.namespace}
    ]

    async def whole(_: object) -> T:
        async with pipeline:
            if not budgets:
                raise ConfigurationError(
                    f"The preset {name!r} has no budget"
                    + (f" in the namespace {which.namespace!r}." if which.namespace else "."),
                    hint="Add one to its layers: { use = 'budget', amount = '100', per = 'tenant', "
                    "window = 'month' }.",
                )
            for budget in budgets:
                leases = budget.store or pipeline.ports.stores.leases
                _must_be_seen(leases, "what is spent", "leases")
            return await work(pipeline, budgets)

    return run(whole)


def _must_be_seen(store: Any, what: str, part: str) -> None:
    """Refuse a store in the memory of each process: here it would be another one, and empty.

    Raises:
        ConfigurationError: If it is one.
    """
    if is_immediate(store) or getattr(store, "instant", False):
        raise ConfigurationError(
            f"The preset keeps {what} in the memory of each process, where no other one can look: "
            "this command would see another one, and change nothing.",
            hint=f"Give it a store that processes share: stores = {{ {part} = {{ use = 'redis', "
            "url = 'env:REDIS_URL' } }, or use = 'sqlite' and a path for the processes of one "
            "machine. In the program itself, ask the layer: budget.levels(pipeline), "
            "budget.set_limit(...).",
        )


def _scope(given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name or name in found:
            msg = f"{text!r} does not say for whom."
            raise UsageError(
                msg, hint="Write name=value, each name once: user=alice tag:team=search."
            )
        found[name] = value
    return found


def _of(budget: Budget, wanted: Mapping[str, str]) -> Mapping[str, str]:
    """The part of a scope that a budget is counted by."""
    words = {word for limit in budget.plan.limits for word in limit.words}
    return {word: value for word, value in wanted.items() if word in words}


def _must_be_counted(budgets: list[Budget], wanted: Mapping[str, str]) -> None:
    """Refuse a scope of which no budget knows a part.

    Raises:
        ConfigurationError: If there is such a part.
    """
    words = sorted(
        {word for budget in budgets for limit in budget.plan.limits for word in limit.words}
    )
    for word in wanted:
        if word not in words:
            raise ConfigurationError(
                f"No budget of the preset is counted by {word!r}.",
                hint=f"They are by {', '.join(map(repr, words)) or 'nothing: for all together'}.",
            )


def _form(level: BudgetLevel) -> dict[str, Any]:
    money = not isinstance(level.limit, int)
    amounts = {name: getattr(level, name) for name in ("limit", "spent", "reserved", "left")}
    return {
        "unit": level.unit,
        "window": level.window or "total",
        "scope": dict(level.scope),
        **{name: f"{one.amount:f}" if money else one for name, one in amounts.items()},
        "resets_at": _instant(level),
        "overridden": level.overridden,
    }


def _instant(level: BudgetLevel) -> str | None:
    if level.resets_at is None:
        return None
    return dt.datetime.fromtimestamp(level.resets_at, dt.UTC).isoformat()


def _table(levels: list[BudgetLevel]) -> None:
    from lamella.cli._render import show_table

    headers = ("for", "window", "limit", "spent", "reserved", "left", "starts anew")
    show_table(headers, [_line(level) for level in levels])


def _line(level: BudgetLevel) -> tuple[str, ...]:
    whose = " ".join(f"{name}={value}" for name, value in level.scope.items()) or "all"
    unit = f" {level.unit}" if isinstance(level.limit, int) else ""
    return (
        f"{whose} (set)" if level.overridden else whose,
        level.window or "total",
        f"{_number(level.limit)}{unit}",
        _number(level.spent),
        _number(level.reserved),
        _number(level.left),
        (_instant(level) or "never")[:16].replace("T", " "),
    )


def _number(amount: object) -> str:
    return f"{amount:,}" if isinstance(amount, int) else str(amount)


COMMANDS: Final[Mapping[str, Any]] = {"show": show, "set": set_amount, "unset": unset}
"""The commands of `lamella budget`."""
