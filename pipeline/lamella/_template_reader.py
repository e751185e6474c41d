"""Reading the messages of a prompt template, and which variables stand where in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import attrs

from lamella._checked_tables import Mistakes, Table
from lamella._errors import ConfigurationError
from lamella._messages import Message
from lamella._nothing import NOTHING
from lamella._parts import PART_TYPES, Part, Text
from lamella._template_syntax import NAME, Writer, plain_text
from lamella._templates import Inline, Insert, Pattern

ROLES: Final = ("system", "developer", "user", "assistant")
"""Who may speak in a template. What tools answer is inserted."""


@attrs.define
class Reader:
    """Reads messages, and notes which variables stand where."""

    jinja: bool
    file: bool
    mistakes: Mistakes
    inline: dict[str, str] = attrs.field(factory=dict[str, str], init=False)
    """Variables within texts, each with the first place."""
    inserted: dict[str, tuple[str, bool]] = attrs.field(
        factory=dict[str, tuple[str, bool]], init=False
    )
    """Variables that are inserted: the first place, and whether it is one of messages."""

    def patterns(self, top: Table) -> list[Pattern | Insert]:
        """The messages of a template."""
        given = top.raw("messages")
        if not isinstance(given, list | tuple) or not given:
            what = "a list of messages, which is not empty: [[messages]] with role and content"
            if given is None:
                top.missing("messages", what)
            else:
                top.wrong("messages", what)
            return []
        found: list[Pattern | Insert] = []
        for place, item in enumerate(cast("Sequence[Any]", given)):
            pattern = self._pattern(item, f"messages[{place}]")
            if pattern is not None:
                found.append(pattern)
        return found

    def _pattern(self, item: Any, path: str) -> Pattern | Insert | None:
        if isinstance(item, Message):
            return self._of_message(item, path)
        if isinstance(item, str):
            item = {"role": "user", "content": item}
        if not isinstance(item, Mapping):
            self.mistakes.note(path, item, "a table with role and content, or with insert")
            return None
        table = Table(cast("Mapping[str, object]", item), path, self.mistakes)
        if table.has("insert"):
            inserted = self._insert(table, messages=True)
            table.finish()
            return inserted
        role = table.text("role", required=True) or "user"
        self._check_role(role, table.at("role"))
        pattern = Pattern(
            role,
            tuple(self._items(table)),
            self.jinja,
            name=table.text("name"),
            extra=_mapping(table, "extra"),
            pinned=table.flag("pinned", default=False),
        )
        table.finish()
        return pattern

    def _of_message(self, message: Message, path: str) -> Pattern | None:
        if message.unwritten:
            self.mistakes.add(f"{path} is a Prompt: give the template's own messages.")
            return None
        self._check_role(message.role, f"{path}.role")
        items = [self._item(part, f"{path}.parts[{at}]") for at, part in enumerate(message.parts)]
        return Pattern(
            message.role,
            tuple([item for item in items if item is not None]),
            self.jinja,
            name=message.name,
            extra=message.extra,
            pinned=message.pinned,
        )

    def _check_role(self, role: str, path: str) -> None:
        if role not in ROLES:
            self.mistakes.note(path, role, f"one of {', '.join(map(repr, ROLES))}")

    def _items(self, table: Table) -> Iterator[Inline | Insert | Part]:
        given, path = table.raw("content"), table.at("content")
        if given is None or (isinstance(given, list | tuple) and not given):
            table.missing("content", "text, or a list of texts, parts and { insert = ... }")
            return
        several = isinstance(given, list | tuple)
        items = cast("Sequence[Any]", given if several else [given])
        for place, item in enumerate(items):
            found = self._item(item, f"{path}[{place}]" if several else path)
            if found is not None:
                yield found

    def _item(self, item: Any, path: str) -> Inline | Insert | Part | None:
        if isinstance(item, Mapping):
            table = Table(cast("Mapping[str, object]", item), path, self.mistakes)
            if table.has("insert"):
                inserted = self._insert(table, messages=False)
                table.finish()
                return inserted
            item = self._part(table)
        if isinstance(item, str):
            item = Text(item)
        if isinstance(item, Text):
            writer = self._text(item.text, path)
            return None if writer is None else Inline(writer, item.extra)
        if isinstance(item, PART_TYPES):
            return cast("Part", item)
        if item is not None:
            self.mistakes.note(path, item, "text, a part, or { insert = ... }")
        return None

    def _part(self, table: Table) -> Part | None:
        from lamella._message_dicts import part_from_dict

        try:
            return part_from_dict(table.values)
        except (TypeError, ValueError) as error:
            self.mistakes.add(f"{table.path}: {error}")
            return None

    def _insert(self, table: Table, *, messages: bool) -> Insert | None:
        name = table.text("insert")
        if name is None or not is_variable(name):
            table.wrong("insert", "the name of a variable")
            return None
        self.inserted.setdefault(name, (table.at("insert"), messages))
        return Insert(name)

    def _text(self, source: str, path: str) -> Writer | None:
        # Whoever writes a text between lines of quotes does not mean the end of its last line.
        source = source.removesuffix("\n") if self.file else source
        writer: Writer | None
        if self.jinja:
            from lamella._template_jinja import jinja_text

            try:
                writer, wrong = jinja_text(source)
            except ConfigurationError as error:
                self.mistakes.add(str(error))
                return None
        else:
            writer, wrong = plain_text(source)
        for sentence in wrong:
            self.mistakes.add(f"{path}, {sentence.rstrip('.')}.")
        if writer is not None:
            for name in sorted(writer.names):
                self.inline.setdefault(name, path)
        return writer


def _mapping(table: Table, key: str) -> Mapping[str, Any]:
    found = table.table(key)
    return NOTHING if found is None else dict(found.values)


def is_variable(name: object) -> bool:
    """Whether a variable can be called so."""
    return isinstance(name, str) and NAME.match(name) is not None
