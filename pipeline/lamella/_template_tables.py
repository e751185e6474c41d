"""Reading prompt templates: tables of a file or of code, all mistakes of which are told at once.

::

    version = "2"
    description = "Answers a customer."

    [variables]
    name = "text"
    history = { type = "messages", default = [] }

    [defaults]                       # options of the request that the caller leaves open
    temperature = 0.2

    [[messages]]
    role = "system"
    content = "You help customers of {name}."

    [[messages]]
    insert = "history"
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from lamella._checked_tables import Mistakes, Table, close_to
from lamella._nothing import NOTHING
from lamella._template_reader import Reader, is_variable
from lamella._template_variables import Variable, read_variable
from lamella._templates import VERSION, PromptTemplate, Source

ENGINES: Final = ("plain", "jinja2")

DEFAULTS: Final = (
    "extra",
    "frequency_penalty",
    "logprobs",
    "max_output_tokens",
    "model",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "service_tier",
    "stop",
    "temperature",
    "tool_choice",
    "top_p",
)
"""Options of a request that a template may have defaults for."""

_DECIDES: Final = ("engine", "variables", "defaults", "messages")
"""What decides what is sent."""

_TAKEN: Final = frozenset({"version"})
"""Names that a call of `Prompt` has a meaning for."""


def read_template(source: Source) -> PromptTemplate:
    """The template that a table describes.

    Raises:
        ConfigurationError: If anything is wrong with it; all mistakes at once.
    """
    mistakes = Mistakes(source.place)
    top = Table(source.table, "", mistakes)
    version = _version(top)
    description, draft = top.text("description") or "", top.flag("draft", default=False)
    engine = top.text("engine") or "plain"
    if engine not in ENGINES:
        top.wrong("engine", f"one of {', '.join(map(repr, ENGINES))}")
        engine = "plain"
    reader = Reader(jinja=engine == "jinja2", file=source.file, mistakes=mistakes)
    patterns = reader.patterns(top)
    variables = _variables(top, reader)
    defaults = _defaults(top)
    top.finish()
    digest = _digest(source.table, mistakes)
    mistakes.raise_any()
    return PromptTemplate(
        name=source.name,
        version=version,
        description=description,
        draft=draft,
        engine=engine,
        variables=variables,
        defaults=defaults,
        digest=digest,
        patterns=tuple(patterns),
        source=source,
    )


def _version(top: Table) -> str:
    version = top.text("version") or "1"
    if not VERSION.match(version):
        top.wrong("version", "numbers with dots between, such as '2' or '1.4'")
        return "1"
    return version


def _digest(table: Mapping[str, Any], mistakes: Mistakes) -> str:
    """What decides the messages and the request, in 16 digits: not the version, nor words on it."""
    from lamella._canonical import form
    from lamella._fingerprints import digest

    try:
        decides = [[name, _plain(table.get(name))] for name in _DECIDES]
        return digest(form(decides))[:16]
    except (OverflowError, RecursionError, TypeError, UnicodeEncodeError) as error:
        mistakes.add(f"it holds what cannot be sent: {type(error).__name__}.")
        return ""


def _plain(value: Any) -> Any:
    """Tables as lists of pairs, and what only TOML knows (dates) as text."""
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value)
        return ["table", *[[str(name), _plain(pairs[name])] for name in sorted(pairs, key=str)]]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("Iterable[Any]", value)]
    return value.isoformat() if isinstance(value, dt.date | dt.time) else value


# --- variables -------------------------------------------------------------------------------


def _variables(top: Table, reader: Reader) -> Mapping[str, Variable]:
    if not top.has("variables"):
        found = {name: Variable(name) for name in reader.inline}
        for name, (_, messages) in reader.inserted.items():
            found[name] = Variable(name, "messages" if messages else "parts")
    else:
        found = dict(_declared(top))
        _check_use(found, top, reader)
    for name in found:
        _check_name(name, top, jinja=reader.jinja)
    for name, (path, messages) in reader.inserted.items():
        variable = found.get(name)
        if variable is not None:
            _check_insert(variable, path, reader, messages=messages)
    for name, path in reader.inline.items():
        variable = found.get(name)
        if variable is not None and not variable.inline:
            top.mistakes.add(
                f"{path}: {name} is of the type {variable.type!r}, which is no text: place it "
                f'by {{ insert = "{name}" }}.'
            )
    return found


def _declared(top: Table) -> Iterator[tuple[str, Variable]]:
    given = top.table("variables")
    if given is None:
        return
    for name, value in given.values.items():
        path = given.at(name)
        described = {"type": value} if isinstance(value, str) else value
        if isinstance(described, Mapping):
            table = Table(cast("Mapping[str, object]", described), path, top.mistakes)
            variable = read_variable(name, table)
            table.finish()
            yield name, variable
        else:
            top.mistakes.note(path, value, "a type such as 'text', or a table with type")


def _check_name(name: str, top: Table, *, jinja: bool) -> None:
    from lamella._template_jinja import RESERVED

    if not is_variable(name):
        top.mistakes.add(f"variables: {name!r} is no name: letters, digits and _, no digit first.")
    elif name in _TAKEN or (jinja and name in RESERVED):
        top.mistakes.add(f"variables.{name}: this name has a meaning of its own; take another.")


def _check_use(found: Mapping[str, Variable], top: Table, reader: Reader) -> None:
    used = {**{name: path for name, (path, _) in reader.inserted.items()}, **reader.inline}
    for name, path in used.items():
        if name not in found:
            offer = close_to(name, found) or "Add it there."
            top.mistakes.add(f"{path}: {name!r} is not among the variables. {offer}")
    for name in found:
        if name not in used:
            top.mistakes.add(f"variables.{name} is used nowhere: take it out, or use it.")


def _check_insert(variable: Variable, path: str, reader: Reader, *, messages: bool) -> None:
    name, kind = variable.name, variable.type
    if messages and kind != "messages":
        reader.mistakes.add(
            f"{path}: {name} is of the type {kind!r}, and only 'messages' come between messages."
        )
    elif not messages and (kind == "messages" or variable.inline):
        reader.mistakes.add(
            f"{path}: {name} is of the type {kind!r}, and only 'parts', 'image', 'audio' and "
            "'file' are inserted into a message."
        )


# --- defaults --------------------------------------------------------------------------------


def _defaults(top: Table) -> Mapping[str, Any]:
    table = top.table("defaults")
    if table is None:
        return NOTHING
    from lamella._chat import ChatRequest
    from lamella._mistakes import Misfit
    from lamella._structuring import fit, parameters_of

    types, blank = parameters_of(ChatRequest).types, ChatRequest(messages=())
    found: dict[str, Any] = {}
    for name in DEFAULTS:
        value = table.raw(name)
        if value is None:
            continue
        try:
            fit(value, types[name])
            found[name] = getattr(blank.evolve(**{name: value}), name)
        except Misfit as misfit:
            for finding in misfit.findings:
                table.mistakes.add(f"{table.at(name)}: {finding.sentence((name,))}.")
        except (TypeError, ValueError) as error:
            table.mistakes.add(f"{table.at(name)}: {error}")
    table.finish()
    return found
