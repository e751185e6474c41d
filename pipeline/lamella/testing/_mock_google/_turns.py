"""What Google's API demands of a conversation: who speaks when, and the seals on thoughts.

A model that thinks seals its answer: the first function call of a step, or the text. The seal of a
call must come back with it while the turn goes on; whatever seal comes back must be the one that
was given.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from lamella._mock_rejections import Rejection
from lamella._mock_tokens import Draw
from lamella.testing._mock_google._fields import UNKNOWN
from lamella.testing._mock_google._json import as_list, decoded
from lamella.testing._mock_openai._requests import JSON

DATA = ("text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
        "codeExecutionResult", "toolCall", "toolResponse", UNKNOWN)  # fmt: skip
"""The fields of a part of which exactly one is set."""

BYPASSES = ("context_engineering_is_the_way_to_go", "skip_thought_signature_validator")
"""What stands for the seal of a call that this API has not made, as Google documents it."""


def call_seal(call: JSON) -> str:
    """The seal of a thinking model on a function call, in base64."""
    return _seal("call", [call.get("name"), call.get("args") or {}])


def text_seal(text: str) -> str:
    """The seal of a thinking model on the text of its answer, in base64."""
    return _seal("text", text)


def _seal(what: str, said: Any) -> str:
    return b64encode(bytes.fromhex(Draw.of("google", what, said).word("seal", 64))).decode()


@attrs.frozen
class _Turn:
    """What one side says until the other does."""

    role: str
    contents: list[list[JSON]]

    @property
    def parts(self) -> list[JSON]:
        return [part for parts in self.contents for part in parts]

    def of(self, kind: str) -> list[JSON]:
        """What its parts of one kind hold."""
        return [part[kind] for part in self.parts if kind in part]

    @property
    def begins(self) -> bool:
        """Whether the user asks for something new, besides giving results."""
        return self.role == "user" and any("functionResponse" not in part for part in self.parts)


def check_contents(contents: Sequence[JSON], *, seals_needed: bool) -> None:
    """Refuse a conversation that Google's API would not take.

    Args:
        contents: The conversation, with its fields checked.
        seals_needed: Whether the model demands the seals of the current turn's calls.

    Raises:
        Rejection: If it is empty, the turns are out of order, or a seal is missing or wrong.
    """
    if not contents:
        raise _wrong("contents is not specified", "contents")
    for place, content in enumerate(contents):
        check_content(content, f"contents[{place}]")
        if content.get("role", "user") not in {"user", "model"}:
            raise _wrong("Please use a valid role: user, model.", f"contents[{place}].role")
    turns = list(_turns(contents))
    if len(contents) == 1 and turns[0].role == "model":
        raise _wrong("A request of a single turn ends with the role 'user', or with none.", None)
    before = None
    for turn in turns:
        _check_order(turn, before)
        before = turn
    for turn in turns:
        if turn.role == "model":
            _check_seals(turn)
    if seals_needed:
        _check_presence(turns)


def check_content(content: JSON, path: str) -> None:
    """Refuse a content without parts, or with a part that is not exactly one thing.

    Raises:
        Rejection: If it is so.
    """
    parts = as_list(content.get("parts"))
    if not parts:
        raise _wrong("contents.parts must not be empty.", f"{path}.parts")
    for place, part in enumerate(parts):
        where = f"{path}.parts[{place}]"
        kinds = [kind for kind in DATA if kind in part]
        if not kinds:
            message = "required oneof field 'data' must have one initialized field"
            raise _wrong(message, f"{where}.data")
        if len(kinds) > 1:
            message = f"oneof field 'data' is already set. Cannot set '{kinds[1]}'"
            raise _wrong(message, where)
        for kind, needed in (
            ("inlineData", ("mimeType", "data")),
            ("fileData", ("fileUri",)),
            ("functionCall", ("name",)),
            ("functionResponse", ("name", "response")),
        ):
            for name in needed if kind in part else ():
                if name not in part[kind]:
                    raise _wrong(f"{kind}.{name} is required.", f"{where}.{kind}")


def _turns(contents: Sequence[JSON]) -> Iterator[_Turn]:
    current: _Turn | None = None
    for content in contents:
        role = content.get("role", "user")
        if current is None or current.role != role:
            if current is not None:
                yield current
            current = _Turn(role, [])
        current.contents.append(content["parts"])
    if current is not None:
        yield current


def _check_order(turn: _Turn, before: _Turn | None) -> None:
    calls, results = turn.of("functionCall"), turn.of("functionResponse")
    asked = before.of("functionCall") if before is not None else []
    if (calls and turn.role == "user") or (results and turn.role == "model"):
        message = "Function calls are the model's, and function responses the user's."
        raise _wrong(message, None)
    if calls and before is None:
        raise _wrong(
            "Please ensure that function call turn comes immediately after a user turn or after a "
            "function response turn.",
            None,
        )
    if results and not asked:
        raise _wrong(
            "Please ensure that function response turn comes immediately after a function call "
            "turn.",
            None,
        )
    if len(results) != len(asked):
        raise _wrong(
            "Please ensure that the number of function response parts is equal to the number of "
            "function call parts of the function call turn.",
            None,
        )
    ids = {call.get("id") for call in asked}
    names = sorted(call["name"] for call in asked)
    strange = [each for each in results if each.get("id") is not None and each["id"] not in ids]
    if strange or sorted(each["name"] for each in results) != names:
        raise _wrong("A function response belongs to no function call of the turn before.", None)


def _check_seals(turn: _Turn) -> None:
    texts: list[str] = []
    for parts in turn.contents:
        texts.append("")
        for part in parts:
            if "text" in part and not part.get("thought"):
                texts[-1] += part["text"]
            if "thoughtSignature" in part and not _is_seal(part, texts):
                raise _wrong("Corrupted thought signature.", None)


def _is_seal(part: JSON, texts: Sequence[str]) -> bool:
    """Whether the mock can have given this seal with this part, after these texts."""
    given = part["thoughtSignature"]
    if "functionCall" in part:
        seals = {call_seal(part["functionCall"])}
        if _is_bypass(given):
            return True
    elif "text" in part and not part.get("thought"):
        # A stream gives the seal after the text, in a content of its own.
        seals = {text_seal("".join(texts[start:])) for start in range(len(texts))}
    else:
        return False
    return any(decoded(given) == decoded(seal) for seal in seals)


def _is_bypass(given: str) -> bool:
    return given in BYPASSES or decoded(given) in {text.encode() for text in BYPASSES}


def _check_presence(turns: Sequence[_Turn]) -> None:
    start = max((place for place, turn in enumerate(turns) if turn.begins), default=0)
    for turn in turns[start:]:
        first = next((part for part in turn.parts if "functionCall" in part), None)
        if first is not None and "thoughtSignature" not in first:
            name = first["functionCall"]["name"]
            message = (
                f"Function call is missing a thought_signature in functionCall parts: `{name}`."
            )
            raise _wrong(message, None)


def _wrong(message: str, path: str | None) -> Rejection:
    return Rejection(400, None, message if path is None else f"{path}: {message}", path)
