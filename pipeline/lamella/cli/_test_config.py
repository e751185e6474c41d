"""`lamella test-config`: what is set and what is missing, before a call finds out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import attrs
from cyclopts import Parameter

if TYPE_CHECKING:
    from lamella import Pipeline

_CHECK_SECONDS = 5.0


@attrs.frozen
class _Finding:
    """What is known of one preset or transport.

    Attributes:
        name: What it is called.
        kind: `"preset"` or `"transport"`.
        present: Variables that are set.
        absent: Variables that are needed and are not.
        problems: What is wrong besides.
        answers: What asking it gave; empty if it was not asked.
        needed: Whether somebody has configured it, so that the check fails with it.
        uses: The transport of a preset.
    """

    name: str
    kind: str
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    answers: str = ""
    needed: bool = False
    uses: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing is missing or wrong."""
        return not self.absent and not self.problems


def check_configuration(
    *,
    live: bool = False,
    config: Annotated[str | None, Parameter(alias="-c")] = None,
    json: bool = False,
) -> int:
    """Say what is set and what is missing for each transport and each preset of yours.

    It fails if something is missing or wrong for a preset of lamella.toml, or for the one that
    LAMELLA_ENV names. Values are never shown.

    Args:
        live: Ask those that lack nothing whether they answer, and stores that are servers. No
            tokens are used.
        config: The file with presets, as for lamella run.
        json: Print one JSON object.
    """
    from lamella.cli._errors import FAILED, OK
    from lamella.cli._interrupts import run

    findings = run(lambda _: _found(config, live=live))
    _show(findings, live=live, json=json)
    return OK if all(finding.well for finding in findings if finding.needed) else FAILED


async def _found(config: str | None, *, live: bool) -> list[_Finding]:
    """All findings, presets first. Transports are asked at the same time."""
    from lamella._registry import registry

    found: dict[int, _Finding] = {}

    async def preset(index: int, name: str) -> None:
        found[index] = await _preset(name, config, live=live)

    async def transport(index: int, name: str) -> None:
        found[index] = await _transport(name, live=live)

    names, problem = _preset_names(config)
    async with anyio.create_task_group() as group:
        for index, name in enumerate(names):
            group.start_soon(preset, index, name)
        for index, name in enumerate(registry().names("transports"), len(names)):
            group.start_soon(transport, index, name)
    return [*problem, *[found[index] for index in sorted(found)]]


def _preset_names(config: str | None) -> tuple[list[str], list[_Finding]]:
    from lamella import ConfigurationError
    from lamella._configuration import read_configuration
    from lamella._presets import ENVIRONMENT_VARIABLE
    from lamella._registry import key_of

    try:
        names = list(read_configuration(config).settings.presets)
    except ConfigurationError as error:
        problems = tuple(str(error).splitlines())
        return [], [_Finding("(file)", "preset", problems=problems, needed=True)]
    asked = os.environ.get(ENVIRONMENT_VARIABLE)
    if asked and key_of(asked) not in {key_of(name) for name in names}:
        names.append(asked)
    return names, []


async def _preset(name: str, config: str | None, *, live: bool) -> _Finding:
    from lamella import ConfigurationError, Pipeline
    from lamella._layers import name_of
    from lamella.cli._part_checks import problems_of_parts

    try:
        pipeline = Pipeline.preset(name, config=config)
    except ConfigurationError as error:
        return _Finding(name, "preset", problems=tuple(str(error).splitlines()), needed=True)
    async with pipeline:
        problems = (
            *await _problems(pipeline.transport),
            *await problems_of_parts(pipeline, live=live),
        )
        answers, well = await _asked(pipeline) if live and not problems else ("", True)
    if not well:
        problems = (f"Its transport was asked, and does not answer as it should: {answers}.",)
    return _Finding(
        name,
        "preset",
        problems=problems,
        answers=answers,
        needed=True,
        uses=name_of(pipeline.transport),
    )


async def _transport(name: str, *, live: bool) -> _Finding:
    from lamella import ConfigurationError, LamellaError, Pipeline
    from lamella._registry import registry
    from lamella.cli._variables import variables_of

    variables = variables_of(name)
    present = variables.present(os.environ) if variables else ()
    absent = variables.absent(os.environ) if variables else ()
    finding = _Finding(name, "transport", present, absent)
    if absent:
        return finding
    try:
        pipeline = Pipeline([], registry().make("transports", name))
    except LamellaError as error:
        return attrs.evolve(finding, problems=(str(error),))
    async with pipeline:
        try:
            problems = await _problems(pipeline.transport, may_lack=True)
        except ConfigurationError as error:  # what its plugin alone knows that it needs
            return attrs.evolve(finding, absent=((error.hint or str(error)).rstrip("."),))
        answers = (await _asked(pipeline))[0] if live and not problems else ""
    return attrs.evolve(finding, problems=problems, answers=answers)


async def _problems(transport: Any, *, may_lack: bool = False) -> tuple[str, ...]:
    """What a transport finds wrong itself; it looks for address and key, and sends nothing.

    Args:
        transport: The transport.
        may_lack: Whether it is no problem that something is missing: that is raised then.

    Raises:
        ConfigurationError: If something is missing, and may be.
    """
    from lamella import ConfigurationError
    from lamella.cli._errors import paragraph

    check = getattr(transport, "check", None)
    if check is None:
        return ()
    with anyio.move_on_after(_CHECK_SECONDS):
        try:
            await check()
        except ConfigurationError as error:
            if may_lack and (error.code or "").startswith("no_"):
                raise
            return (paragraph(error),)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the person asks for
            return (paragraph(error),)
        return ()
    return (f"Its key could not be fetched in {_CHECK_SECONDS:g} s.",)


async def _asked(pipeline: Pipeline) -> tuple[str, bool]:
    """What came of asking the transport, and whether that is as it should be."""
    health = await pipeline.health()
    [part] = health.transports.values()
    detail = part.detail.get("error") or part.detail.get("status")
    word = {True: "yes", False: "no", None: "it cannot say"}[part.well]
    return f"{word} ({detail})" if detail else word, part.well is not False


def _show(findings: Iterable[_Finding], *, live: bool, json: bool) -> None:
    from lamella.cli._output import say, show_json

    presets = [finding for finding in findings if finding.kind == "preset"]
    transports = [finding for finding in findings if finding.kind == "transport"]
    if json:
        show_json({"presets": [*map(_form, presets)], "transports": [*map(_form, transports)]})
        return
    answers = ("answers",) if live else ()
    if presets:
        lines = [(each.name, _state(each), each.uses, each.answers) for each in presets]
        _table(("preset", "state", "transport", *answers), lines)
    _table(
        ("transport", "state", "set", "missing", *answers),
        [
            (each.name, _state(each), ", ".join(each.present), ", ".join(each.absent), each.answers)
            for each in transports
        ],
    )
    for finding in (*presets, *transports):
        for problem in finding.problems:
            say(f"{finding.kind} {finding.name}: {problem}", style="red")


def _table(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    from lamella.cli._render import show_table

    show_table(headers, [line[: len(headers)] for line in lines])


def _state(finding: _Finding) -> str:
    if finding.problems:
        return "wrong"
    return "incomplete" if finding.absent else "ready"


def _form(finding: _Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "state": _state(finding),
        "transport": finding.uses or None,
        "set": list(finding.present),
        "missing": list(finding.absent),
        "problems": list(finding.problems),
        "answers": finding.answers or None,
    }
