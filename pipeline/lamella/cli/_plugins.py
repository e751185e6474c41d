"""`lamella plugins`: which distributions contribute what."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamella._plugins import Plugin


def plugins(*, json: bool = False) -> int:
    """List the plugins that are installed: what they contribute, and what is wrong with them.

    Args:
        json: Print a JSON list.
    """
    from lamella._registry import registry
    from lamella.cli._output import say, show_json
    from lamella.cli._render import show_table

    found = registry().plugins()
    if json:
        show_json([_form(plugin) for plugin in found])
        return 0
    headers = ("distribution", "version", "kind", "names")
    show_table(headers, [line for plugin in found for line in _lines(plugin)])
    for plugin in found:
        for problem in _problems(plugin):
            say(f"{plugin}: {problem}", style="red")
    return 0


def _lines(plugin: Plugin) -> list[tuple[str, str, str, str]]:
    given = [(kind, ", ".join(sorted(named))) for kind, named in sorted(plugin.contributes.items())]
    if not plugin.allowed:
        given = [("may not load", plugin.entry_point)]
    elif not given:
        given = [("failed" if plugin.problems else "nothing", plugin.entry_point)]
    return [
        (plugin.distribution, plugin.version, kind, names) if index == 0 else ("", "", kind, names)
        for index, (kind, names) in enumerate(given)
    ]


def _problems(plugin: Plugin) -> list[str]:
    from lamella.cli._app import is_built_in

    hidden = [name for name in plugin.contributes.get("commands", ()) if is_built_in(name)]
    return [
        *[str(problem) for problem in plugin.problems],
        *[f"Its command {name!r} is not reached: lamella has one itself." for name in hidden],
    ]


def _form(plugin: Plugin) -> dict[str, object]:
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "entry_point": plugin.entry_point,
        "allowed": plugin.allowed,
        "contributes": {kind: sorted(named) for kind, named in plugin.contributes.items()},
        "problems": _problems(plugin),
    }
