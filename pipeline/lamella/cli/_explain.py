"""`lamella explain`: a preset's layers, as they will run."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lamella.cli._stack import Stack


def explain(
    preset: str | None = None,
    /,
    *,
    transport: Annotated[str | None, Parameter(alias="-t")] = None,
    config: Annotated[str | None, Parameter(alias="-c")] = None,
    json: bool = False,
) -> int:
    """Show a preset's layers, outermost first, and where it comes from.

    Args:
        preset: The named stack. Without it the one that lamella run takes.
        transport: Replaces the preset's transport.
        config: The file with presets, as for lamella run.
        json: Print one JSON object.
    """
    from lamella.cli._json_forms import explanation_form
    from lamella.cli._output import show_json
    from lamella.cli._render import show_explanation

    stack = Stack(preset=preset, transport=transport, config=config)
    explanation = stack.pipeline().explain()
    if json:
        show_json({**explanation_form(explanation), "preset": stack.name, "from": stack.origin})
    else:
        show_explanation(explanation, stack.name, stack.origin)
    return 0
