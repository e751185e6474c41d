"""Prompt templates: messages with variables in them, as a file or code describes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import attrs

from lamella._errors import TemplateError
from lamella._messages import Message
from lamella._nothing import NOTHING
from lamella._parts import Part, Text
from lamella._template_syntax import NAME, TooLong, WriteFailed, Writer
from lamella._template_values import MOST_CHARACTERS, Unfit
from lamella._template_variables import REQUIRED, Variable

if TYPE_CHECKING:
    from lamella._parts import JSONObject

VERSION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}\Z")
"""What a version looks like: numbers with dots between, so that one of them is the latest."""

_TOLD: Final = 10
"""Of how many names that are no variable's is told: they may be the keys of anybody's JSON."""

_LONG: Final = 60
"""How much of such a name is told."""

Described: TypeAlias = str | Message | Mapping[str, Any]
"""A message of a template: text (a user's), a Message, or a table as in a file."""


@attrs.frozen
class Insert:
    """Where the parts or the messages of a variable come."""

    name: str


@attrs.frozen
class Inline:
    """A text with variables in it, and what only one provider knows of that part."""

    writer: Writer
    extra: JSONObject = NOTHING


@attrs.frozen
class Pattern:
    """One message of a template.

    Attributes:
        role: Who says it.
        items: Its content, in order: texts with variables, variables to insert, parts as they are.
        jinja: Whether its texts are in Jinja2's language, where an empty one is nothing.
        name: As for `Message`.
        extra: As for `Message`.
        pinned: As for `Message`.
    """

    role: str
    items: tuple[Inline | Insert | Part, ...]
    jinja: bool = False
    name: str | None = None
    extra: JSONObject = NOTHING
    pinned: bool = False


@attrs.frozen
class Source:
    """What a template was described with, from which it can be made again.

    Attributes:
        table: The table, as in a file.
        name: The template's name.
        place: Where the table stands, for messages.
        file: Whether it is a file's, whose texts end with a line that nobody means.
    """

    table: Mapping[str, Any] = attrs.field(hash=False)
    name: str = ""
    place: str = "PromptTemplate"
    file: bool = False


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PromptTemplate:
    """Messages with variables in them, under a name and in a version.

    Made by `PromptTemplate.of(...)`, or of a file by `PromptLibrary` and the layer `Template`. It
    is a value: it can be shared, copied and pickled.

    Attributes:
        name: What it is called; may be empty in code.
        version: Numbers with dots between.
        description: What it is for.
        draft: Whether it is only taken where its version is named.
        engine: `"plain"` or `"jinja2"`.
        variables: Its variables by name.
        defaults: Options of the request that hold where the caller sets none, such as `model`.
        digest: 16 hexadecimal digits that change with whatever decides what is sent.
        patterns: Its messages, taken apart.
        source: What it was made of.
    """

    name: str
    version: str
    description: str
    draft: bool
    engine: str
    variables: Mapping[str, Variable] = attrs.field(hash=False)
    defaults: Mapping[str, Any] = attrs.field(hash=False)
    digest: str
    patterns: tuple[Pattern | Insert, ...] = attrs.field(repr=False)
    source: Source = attrs.field(repr=False)

    @classmethod
    def of(
        cls,
        messages: Described | Iterable[Described],
        *,
        variables: Mapping[str, str | Mapping[str, Any]] | None = None,
        name: str = "",
        **options: Any,
    ) -> PromptTemplate:
        """A template in code; everything is as in a file.

        Args:
            messages: Text (a user's message), messages, or tables such as `{"role": "system",
                "content": "You help {name}."}` and `{"insert": "history"}`.
            variables: The type of each variable, or a table with `type`, `default`, `description`,
                `one_of`, `roles`. None lets each be a text that must be given; what is inserted is
                of the type `"messages"`, or within a message `"parts"`.
            name: What it is called.
            **options: `version`, `description`, `draft`, `engine`, `defaults`.

        Raises:
            ConfigurationError: If anything is wrong; all mistakes at once.
        """
        from lamella._template_tables import read_template

        single = isinstance(messages, str | Message | Mapping)
        given: list[Any] = [messages] if single else list(messages)  # type: ignore[arg-type]
        table: dict[str, Any] = {"messages": given, **options}
        if variables is not None:
            table["variables"] = variables
        place = f"PromptTemplate {name!r}" if name else "PromptTemplate"
        return read_template(Source(table, name, place))

    def messages(self, /, **variables: Any) -> tuple[Message, ...]:
        """Its messages with these variables.

        Raises:
            TemplateError: If one is missing, is none of the template's, or is of another type; all
                mistakes at once.
        """
        return self.written(variables)

    def written(
        self, variables: Mapping[str, Any], *, most: int = MOST_CHARACTERS
    ) -> tuple[Message, ...]:
        """Its messages with these variables.

        Args:
            variables: By name.
            most: How many characters all its texts together may have.

        Raises:
            TemplateError: As for `messages`, or if it becomes longer.
        """
        values = self._filled(variables, most)
        found: list[Message] = []
        for place, pattern in enumerate(self.patterns):
            if isinstance(pattern, Insert):
                found += values[pattern.name]
                continue
            try:
                message, most = _message(pattern, values, most)
            except TooLong:
                raise self._refusal(["becomes longer than it may"]) from None
            except WriteFailed as error:
                raise self._refusal([f"messages[{place}], {error}"]) from None
            if message is not None:
                found.append(message)
        return tuple(found)

    def _filled(self, given: Mapping[str, Any], most: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        problems: list[str] = []
        written = self.engine == "plain"
        for name, variable in self.variables.items():
            value = given.get(name, REQUIRED)
            if value is REQUIRED:
                value = variable.default
                if value is REQUIRED:
                    problems.append(f"{name} is missing, expected {variable.type}")
                    continue
            else:
                try:
                    value = variable.value(value, most)
                except Unfit as error:
                    problems.append(f"{name} {error}")
                    continue
            values[name] = variable.written(value) if written and variable.inline else value
        extra = [name for name in given if name not in self.variables]
        problems += [self._extra(name) for name in extra[:_TOLD]]
        if len(extra) > _TOLD:
            problems.append(f"and so are {len(extra) - _TOLD} more")
        if problems:
            raise self._refusal(problems)
        return values

    def _extra(self, name: str) -> str:
        from lamella._checked_tables import close_to

        offer = close_to(name, self.variables)
        shown = name if NAME.match(name) and len(name) <= _LONG else repr(name[:_LONG])
        return f"{shown} is none of its variables{f'. {offer}' if offer else ''}"

    def _refusal(self, problems: Iterable[str]) -> TemplateError:
        found = tuple(problems)
        listed = ", ".join(map(str, self.variables.values())) or "none"
        error = TemplateError(
            f"The prompt template {self} cannot be written: {_sentence(found)}",
            hint=f"Its variables are: {listed}.",
            layer="template",
        )
        error.template, error.version, error.problems = self.name, self.version, found
        return error

    @property
    def label(self) -> str:
        """`name@version`, or `@digest` where it has no name."""
        return f"{self.name}@{self.version}" if self.name else f"@{self.digest}"

    @property
    def fingerprint(self) -> str:
        """What tells it from others, for the keys of caches."""
        return f"{self.label}:{self.digest}"

    def __str__(self) -> str:
        return f"{self.name!r}, version {self.version}," if self.name else "without a name"

    def __repr__(self) -> str:
        return f"<PromptTemplate {self.label}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PromptTemplate):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> Any:
        from lamella._template_tables import read_template

        return read_template, (self.source,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self


def _sentence(problems: Iterable[str]) -> str:
    text = "; ".join(problems)
    return text if text.endswith("?") else f"{text}."


def _message(pattern: Pattern, values: Mapping[str, Any], most: int) -> tuple[Message | None, int]:
    """A message, or None where nothing is left of it; and how long the rest may become."""
    parts: list[Part] = []
    for item in pattern.items:
        if isinstance(item, Inline):
            text = item.writer.write(values, most)
            most -= len(text)
            if text or not pattern.jinja:
                parts.append(Text(text, item.extra))
        elif isinstance(item, Insert):
            value = values[item.name]
            parts += value if isinstance(value, tuple) else (value,)
        else:
            parts.append(item)
    if not parts:
        return None, most
    message = Message(
        pattern.role,
        tuple(parts),
        name=pattern.name,
        extra=pattern.extra,
        pinned=pattern.pinned,
    )
    return message, most


def version_key(version: str) -> tuple[int, ...]:
    """A version as versions are compared: `1.10` is after `1.9`, and `1` is `1.0`."""
    numbers = [int(number) for number in version.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
