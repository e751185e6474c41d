"""`lamella prompts`: which prompt templates there are, whether they are sound, what they say.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | a variable is missing or wrong, or there is no such template |
| 2 | the command line, a folder, a file or a plugin is wrong |
"""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from lamella import Message, PromptLibrary, PromptTemplate, Text
from lamella.cli._errors import UsageError, exit_code

FOLDER: Final = "prompts"

Folder = Annotated[str, Parameter(alias="-f")]
Given = Annotated[str, Parameter(name="VARIABLE")]


def list_templates(*, folder: Folder = FOLDER, json: bool = False) -> int:
    """List the templates of a folder, and those of plugins: versions and variables.

    Args:
        folder: The folder; "prompts" unless it is said. Without one, plugins' are listed.
        json: Print a JSON list.
    """
    from lamella.cli._output import say, show_json
    from lamella.cli._render import show_table

    there = folder != FOLDER or Path(folder).is_dir()
    library = PromptLibrary(folder if there else ())
    found = library.templates()
    if json:
        show_json([_form(template) for template in found])
    else:
        headers = ("template", "version", "digest", "variables", "description")
        show_table(headers, [_line(template) for template in found])
    broken = library.broken()
    for error in broken.values():
        say(f"lamella: {error}", style="red")
    return exit_code(next(iter(broken.values()))) if broken else 0


def show(
    name: str,
    *variables: Given,
    folder: Folder = FOLDER,
    version: str | None = None,
    json: bool = False,
) -> int:
    """Show the messages that a template makes of variables.

    Args:
        name: The template, such as support/reply.
        variables: Its variables, such as name=Ada; name=@FILE reads a file. What is no text is
            given as JSON: count=3, history='[{"role": "user", "content": "hi"}]'.
        folder: The folder; "prompts" unless it is said.
        version: Which version. Without it, the latest that is no draft.
        json: Print the messages as a JSON list, as they would be sent.
    """
    from lamella.cli._output import show_json

    there = folder != FOLDER or Path(folder).is_dir()
    template = PromptLibrary(folder if there else ()).get(name, version)
    messages = template.messages(**_values(template, variables))
    if json:
        show_json([message.to_dict() for message in messages])
    else:
        _print(messages)
    return 0


def check(*, folder: Folder = FOLDER) -> int:
    """Check all templates of a folder, and tell all that is wrong with them at once.

    Args:
        folder: The folder; "prompts" unless it is said.
    """
    from lamella.cli._output import say

    count = len(PromptLibrary(folder).own())
    say(f"{count} {'template is' if count == 1 else 'templates are'} sound.")
    return 0


def _values(template: PromptTemplate, given: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in given:
        name, sign, value = word.partition("=")
        if not sign or not name or name in found:
            msg = f"{word!r} gives no variable."
            raise UsageError(msg, hint="Write name=value, each name once.")
        if value.startswith("@"):
            value = _content(Path(value[1:]))
        variable = template.variables.get(name)
        found[name] = value if variable is None or variable.type == "text" else _json(name, value)
    return found


def _content(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{file} is not text in UTF-8 ({error.reason} at byte {error.start})."
        raise UsageError(msg, hint="Save it as UTF-8.") from None


def _json(name: str, value: str) -> Any:
    try:
        return json_text.loads(value)
    except (ValueError, RecursionError):
        msg = f"{name} is no text, and what is given is no JSON."
        raise UsageError(msg, hint=f"Write {name}=3, {name}=true or {name}='[...]'.") from None


def _print(messages: Sequence[Message]) -> None:
    from lamella.cli._output import Page

    page = Page()
    for place, message in enumerate(messages):
        if place:
            page.end_paragraph()
        page.write(f"{message.role}:\n", dim=page.terminal)
        for part in message.parts:
            page.write(part.text if isinstance(part, Text) else f"[{part.type}]")
            page.end_line()


def _line(template: PromptTemplate) -> tuple[str, ...]:
    return (
        template.name,
        f"{template.version} (draft)" if template.draft else template.version,
        template.digest,
        ", ".join(map(str, template.variables.values())) or "-",
        template.description or "-",
    )


def _form(template: PromptTemplate) -> dict[str, Any]:
    return {
        "name": template.name,
        "version": template.version,
        "draft": template.draft,
        "digest": template.digest,
        "engine": template.engine,
        "description": template.description,
        "variables": {
            name: {"type": variable.type, "required": variable.required}
            for name, variable in template.variables.items()
        },
        "defaults": dict(template.defaults),
    }


COMMANDS: Final[Mapping[str, Any]] = {"list": list_templates, "show": show, "check": check}
"""The commands of `lamella prompts`."""
