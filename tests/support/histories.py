"""Random histories: turns with groups of tools, pinned messages, pictures, and orphans on demand.

They are drawn from a seed by `random.Random`, ten times as fast as by a strategy; Hypothesis draws
the seed and the sizes, and a failure is shown by them: `history(seed)` gives it again.
"""

from __future__ import annotations

from random import Random
from typing import Final

from lamella import Image, Message, Reasoning, Text, ToolCall, ToolResult

WORDS: Final = (
    "the", "order", "of", "1,204", "Łódź", "日本語の文", "e\u0301te\u0301", "\r\n",
    "👩‍👩‍👧", "🇩🇪🇫🇷", "ship",
    "tomorrow", "{'city':", "Москва", "a_long_identifier", "\n", "yes",
)  # fmt: skip
_SAID: Final = Random(7).choices(WORDS, k=12_000)
PICTURE: Final = Image(url="https://example.org/a.png", detail="low")


def history(
    seed: int,
    *,
    turns: int | None = None,
    system: bool | None = None,
    pins: float = 0.05,
    tools: float = 0.4,
    orphans: int = 0,
    words: int = 40,
) -> tuple[Message, ...]:
    """A conversation that ends where a model is to answer: on a user's message or a tool's result.

    Args:
        seed: The same seed and options give the same conversation.
        turns: How many questions of the user; None draws 1 to 8.
        system: Whether it begins with instructions; None draws it.
        pins: How many of the messages are pinned.
        tools: How many of the turns use tools. Calls are parallel, ids come again in later turns,
            and some groups have sealed reasoning.
        orphans: How many results without calls, or calls without results, are put in somewhere.
        words: How many words a text has at most, up to 500; one in twelve has twenty times as many.
    """
    drawn = Random(seed)
    made = _Made(drawn, pins, words)
    if drawn.random() < 0.7 if system is None else system:
        made.say(drawn.choice(("system", "developer")))
    count = drawn.randint(1, 8) if turns is None else turns
    for turn in range(count):
        made.say("user")
        if drawn.random() < 0.1:
            made.say("user")
        last = turn == count - 1
        if drawn.random() < tools:
            for _ in range(drawn.randint(1, 3)):
                made.use_tools()
        if not last:
            made.say("assistant")
            if drawn.random() < 0.03:
                made.say("system")
    for _ in range(orphans):
        made.orphan()
    return tuple(made.messages)


class _Made:
    """A conversation in the making."""

    def __init__(self, drawn: Random, pins: float, words: int) -> None:
        self.messages: list[Message] = []
        self._drawn = drawn
        self._pins = pins
        self._words = words
        self._calls = 0

    def say(self, role: str) -> None:
        parts: list[Text | Image | Reasoning] = [Text(self.text())]
        if role == "user" and self._drawn.random() < 0.08:
            parts.append(PICTURE)
        if role == "assistant" and self._drawn.random() < 0.15:
            parts.insert(0, Reasoning(self.text(), signature=f"sealed-{self._drawn.random()}"))
        self._add(Message(role, parts))

    def use_tools(self) -> None:
        """Calls at once, and their results in any order."""
        calls = [
            ToolCall(self._id(), "look_up", '{"word": "w"}')
            for _ in range(self._drawn.choice((1, 1, 2, 3)))
        ]
        parts: list[Text | Reasoning | ToolCall] = [*calls]
        if self._drawn.random() < 0.3:
            parts.insert(0, Reasoning("", signature="sealed", redacted=True))
        if self._drawn.random() < 0.3:
            parts.insert(0, Text(self.text()))
        self._add(Message("assistant", parts))
        for call in self._drawn.sample(calls, len(calls)):
            error = self._drawn.random() < 0.1
            self._add(Message("tool", ToolResult(call.id, (Text(self.text()),), error=error)))

    def orphan(self) -> None:
        place = self._drawn.randint(0, len(self.messages))
        name = f"lost-{self._drawn.random()}"
        lost = (
            Message.tool(name, self.text())
            if self._drawn.random() < 0.5
            else Message("assistant", (ToolCall(name, "look_up", "{}"),))
        )
        self.messages.insert(place, lost)

    def text(self) -> str:
        many = self._drawn.randint(1, self._words)
        if self._drawn.random() < 0.08:
            many *= 20
        start = self._drawn.randrange(len(_SAID) - many)
        return " ".join(_SAID[start : start + many])

    def _id(self) -> str:
        """Every third id has been there before, as with providers that count anew each turn."""
        self._calls += 1
        number = self._calls if self._drawn.random() < 0.66 else self._calls % 3
        return f"call-{number}-{len(self.messages) % 2}"

    def _add(self, message: Message) -> None:
        if self._drawn.random() < self._pins:
            message = Message(message.role, message.parts, pinned=True)
        self.messages.append(message)
