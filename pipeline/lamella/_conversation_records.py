"""A conversation as it is kept: as a record, and as JSON.

What was said, and who said it, is kept. How the model is to answer (its name, its parameters, the
tools, the limits) is the program's, which says it again when it loads one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, cast

import attrs

from lamella._conversation_entries import ConversationEntry, Line, Lines, answers
from lamella._errors import ConfigurationError, MisuseError
from lamella._messages import Message
from lamella._nothing import NOTHING

FORMAT: Final = "lamella.conversation"
VERSION: Final = 1
"""Of the JSON. What a later version wrote is refused: it may mean something else."""


@attrs.frozen(kw_only=True)
class ConversationRecord:
    """All that is kept of a conversation.

    Attributes:
        session: Its name; with the tenant's it is one of a kind.
        tenant: Whose data it is; None for nobody's in particular.
        user: Who talks in it.
        tags: Free labels.
        system: The instructions that all its requests begin with.
        entries: What was said on all its lines, each after its parent.
        head: The id of the last entry of the line that it is on; None before the first.
        pinned: The ids of the entries that are kept whatever is shortened.
        created: When it began, in seconds since the epoch.
        updated: When it was changed last.
    """

    session: str
    tenant: str | None = None
    user: str | None = None
    tags: Mapping[str, str] = attrs.field(default=NOTHING, hash=False)
    system: Message | None = attrs.field(default=None, repr=False)
    entries: tuple[ConversationEntry, ...] = attrs.field(default=(), repr=False)
    head: str | None = None
    pinned: frozenset[str] = frozenset()
    created: float = 0.0
    updated: float = 0.0


def entries_of(lines: Lines) -> tuple[ConversationEntry, ...]:
    """What was said on all lines, each once, after its parent."""
    found: dict[str, ConversationEntry] = {}
    for line in (*lines.others, lines.line):
        known = len(line)
        while known and line[known - 1].id not in found:
            known -= 1  # what comes before a known one is known
        found.update([(entry.id, entry) for entry in line[known:]])
    return tuple(found.values())


def joined(record: ConversationRecord, before: ConversationRecord) -> ConversationRecord:
    """A record with what was kept before of the same conversation, by whomever."""
    ours = {entry.id for entry in record.entries}
    others = [entry for entry in before.entries if entry.id not in ours]
    if not others:
        return record
    # What others have added comes after its parent, which may be one of ours.
    entries = (*record.entries, *others)
    return attrs.evolve(record, entries=entries, pinned=record.pinned | (before.pinned - ours))


def lines_of(record: ConversationRecord) -> Lines:
    """The lines that the entries of a record make.

    Raises:
        ConfigurationError: If they make none.
    """
    known: dict[str, ConversationEntry] = {}
    parents: set[str] = set()
    for entry in record.entries:
        if entry.id in known:
            raise _wrong(f"the entry {entry.id!r} stands there twice")
        if entry.parent is not None and entry.parent not in known:
            raise _wrong(f"the entry {entry.id!r} comes before what it follows, {entry.parent!r}")
        known[entry.id] = entry
        if entry.parent is not None:
            parents.add(entry.parent)
    if record.head is not None and record.head not in known:
        raise _wrong(f"there is no entry {record.head!r}, which is said to be the last")
    others = tuple([_line(known, one) for one in known if one not in parents])
    line = () if record.head is None else _line(known, record.head)
    return Lines((), others, record.pinned & known.keys()).moved(line)


def _line(known: Mapping[str, ConversationEntry], last: str) -> Line:
    found: list[ConversationEntry] = []
    place: str | None = last
    while place is not None:
        found.append(known[place])
        place = found[-1].parent
    return tuple(reversed(found))


# --- messages ------------------------------------------------------------------------------------


def message_text(message: Message) -> str:
    """A message as JSON.

    Raises:
        MisuseError: If it holds what JSON cannot say.
    """
    return _text(_message_dict(message), message)


def message_of(text: str) -> Message:
    """The message that JSON stands for.

    Raises:
        ValueError: If it stands for none.
    """
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("a message is a JSON object")  # noqa: TRY004 - as all that is no message
    return Message.of(cast("dict[str, Any]", found))


def _message_dict(message: Message) -> dict[str, Any]:
    try:
        return message.to_dict()
    except ValueError as error:
        raise _unsayable(message, error) from None


def _text(value: Any, of: Message | None) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: it is written as an escape
        return json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise _unsayable(of, error) from None
    return text


def _unsayable(message: Message | None, error: Exception) -> MisuseError:
    who = "A conversation" if message is None else f"A message of role {message.role!r}"
    return MisuseError(
        f"{who} cannot be kept: {error}",
        hint="Keep text, numbers, lists and tables in `extra`, and bytes in parts, nothing else.",
    )


# --- the whole -----------------------------------------------------------------------------------


def record_text(record: ConversationRecord) -> str:
    """A record as JSON.

    Raises:
        MisuseError: If a message holds what JSON cannot say.
    """
    out: dict[str, Any] = {"format": FORMAT, "version": VERSION, "session": record.session}
    out["tenant"], out["user"], out["tags"] = record.tenant, record.user, dict(record.tags)
    out["system"] = None if record.system is None else _message_dict(record.system)
    out["created"], out["updated"] = record.created, record.updated
    out["head"], out["pinned"] = record.head, sorted(record.pinned)
    out["entries"] = [_entry_dict(entry) for entry in record.entries]
    return _text(out, None)


def _entry_dict(entry: ConversationEntry) -> dict[str, Any]:
    out: dict[str, Any] = {"id": entry.id, "parent": entry.parent, "at": entry.at}
    out.update({name: True for name in _FLAGS if getattr(entry, name)})
    return {**out, "message": _message_dict(entry.message)}


_END_OF_TIME: Final = 1e15
"""Seconds. What is later was not written by a clock."""
_FLAGS: Final = ("begins", "answer", "partial")


def record_of(text: str | bytes, *, place: str | None = None) -> ConversationRecord:
    """The record that JSON stands for.

    Args:
        text: The JSON: what was kept of a conversation.
        place: Where it stands; then a list of messages will do, and is that place's. None refuses
            one: two programs with the same list would have the same conversation.

    Raises:
        ConfigurationError: If it stands for none, or a later version of the library wrote it.
    """
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong("it is no JSON, or only the beginning of some") from None
    if isinstance(found, list):
        listed: list[Any] = found  # pyright: ignore[reportUnknownVariableType]
        if place is not None and listed:
            return _record_of_list(listed, f"{place}\n{text!r}")
        raise _wrong(
            "it is a list of messages" if listed else "it is an empty list",
            "Begin with it: Conversation(pipeline, messages=json.loads(text)).",
        )
    if not isinstance(found, dict) or found.get("format") != FORMAT:  # pyright: ignore[reportUnknownMemberType]
        raise _wrong(f"it does not say that its format is {FORMAT!r}")
    given = cast("dict[str, Any]", found)
    version = given.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _wrong(f"its version is {version!r}")
    if version > VERSION:
        msg = f"The conversation is of version {version}, and this version of Lamella reads "
        raise ConfigurationError(
            f"{msg}up to {VERSION}.",
            hint="Install a newer lamella; what is kept was left as it is.",
        )
    return _record(given)


def _record_of_list(given: Sequence[Any], what: str) -> ConversationRecord:
    """The record of a list of messages. The same list at the same place makes the same one.

    So a file is known to be its own until a turn is saved there.
    """
    data = what.encode("utf-8", "surrogatepass")
    session = f"list-{blake2b(data, digest_size=12, person=b'lamella-messages').hexdigest()}"
    messages = [_message(each, f"[{place}]") for place, each in enumerate(given)]
    system = messages.pop(0) if messages[0].role == "system" else None
    entries: list[ConversationEntry] = []
    for place, message in enumerate(messages):
        last = entries[-1] if entries else None
        answer = answers(message)
        entry = ConversationEntry(
            id=f"{session}-{place}",
            parent=last.id if last else None,
            message=message,
            begins=not answer and (last is None or last.answer),
            answer=answer,
        )
        entries.append(entry)
    return ConversationRecord(
        session=session,
        system=system,
        entries=tuple(entries),
        head=entries[-1].id if entries else None,
    )


def _record(given: Mapping[str, Any]) -> ConversationRecord:
    system = given.get("system")
    return ConversationRecord(
        session=_of(given, "session", str),
        tenant=_maybe(given, "tenant", str),
        user=_maybe(given, "user", str),
        tags=_of(given, "tags", dict) or NOTHING,
        system=None if system is None else _message(system, "system"),
        entries=tuple(
            [_entry(each, place) for place, each in enumerate(_of(given, "entries", list))]
        ),
        head=_maybe(given, "head", str),
        pinned=frozenset(map(str, _of(given, "pinned", list))),
        created=_time(given, "created"),
        updated=_time(given, "updated"),
    )


def _entry(given: Any, place: int) -> ConversationEntry:
    where = f"entries[{place}]"
    if not isinstance(given, dict):
        raise _wrong(f"{where} is no table")
    table = cast("dict[str, Any]", given)
    return ConversationEntry(
        id=_of(table, "id", str, where),
        parent=_maybe(table, "parent", str, where),
        at=_time(table, "at", where),
        message=_message(table.get("message"), f"{where}.message"),
        **{name: table.get(name) is True for name in _FLAGS},
    )


def _message(given: Any, where: str) -> Message:
    try:
        return Message.of(given)
    except (TypeError, ValueError):
        raise _wrong(f"{where} is no message") from None


def _of(given: Mapping[str, Any], name: str, kind: Any, where: str = "") -> Any:
    value = given.get(name)
    place = f"{where}.{name}" if where else name
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _wrong(f"{place} is of the type {type(value).__name__}")
    if isinstance(value, str) and not is_text(value):
        raise _wrong(f"{place} is no Unicode")
    return value


def _time(given: Mapping[str, Any], name: str, where: str = "") -> float:
    value = _of(given, name, (int, float), where)
    if not abs(value) < _END_OF_TIME:  # nor is it NaN, then
        raise _wrong(f"{where + '.' if where else ''}{name} is no time")
    return float(value)


def is_text(value: object) -> bool:
    """Whether it is text that can be written: half of a surrogate pair cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _maybe(given: Mapping[str, Any], name: str, kind: Any, where: str = "") -> Any:
    return None if given.get(name) is None else _of(given, name, kind, where)


_HINT: Final = "Give what conversation.to_json() or conversation.save() has written."


def _wrong(what: str, hint: str = _HINT) -> ConfigurationError:
    return ConfigurationError(
        f"What was given is no conversation that was kept: {what}.", hint=hint
    )
