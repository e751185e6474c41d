"""What the embedded provider says: honest sentences about the question, and no answer to it."""

from __future__ import annotations

from lamella._mock_tokens import Draw

QUOTED = 240
"""How many characters of the question are repeated at most."""

_ASKED = ("You asked: “{0}”", "Your question was: “{0}”", "The question is: “{0}”")
_WROTE = ("You wrote: “{0}”", "Your message was: “{0}”", "This is what came in: “{0}”")
_WHO = (
    "Lamella's embedded provider says this; no language model has read it.",
    "I am Lamella's embedded provider, not a language model, so I know nothing about it.",
    "There is no language model behind this: Lamella's embedded provider makes its words of yours.",
)
_BUT = (
    "All that the answer travels through is real, from the first token to the last.",
    "It is streamed and counted token by token, as the answer of a model would be.",
    "The same request gets these same words each time, which is what tests are glad of.",
)
_NEXT = 'To ask a model, choose another transport, such as transport="openai".'
_THOUGHTS = (
    "The question has to be read first: “{0}”",
    "There is no model here that could know more than what was written.",
    "An honest answer says where it comes from and repeats what was asked.",
    "Nothing else needs to be looked up, so it can be written down now.",
)
REFUSAL = "I'm sorry, but I can't help with that. The message told the embedded provider to refuse."


def quoted(text: str) -> str:
    """A text on one line, shortened at a word to what may be repeated."""
    line = " ".join(text.split())
    if len(line) <= QUOTED:
        return line
    return f"{line[:QUOTED].rpartition(' ')[0] or line[:QUOTED]}…"


def about_question(question: str, draw: Draw) -> str:
    """The answer to a user's message."""
    line = quoted(question)
    if not line:
        opening = "Your message has no text in it."
    else:
        opening = draw.pick("opening", _ASKED if line.endswith("?") else _WROTE).format(line)
    return " ".join((opening, draw.pick("who", _WHO), draw.pick("but", _BUT), _NEXT))


def about_results(results: list[tuple[str, str]], draw: Draw) -> str:
    """The answer to what tools have said: pairs of tool and result."""
    said = [
        f"The tool {name or 'that was called'} answered: “{quoted(text)}”" for name, text in results
    ]
    return " ".join((*said, draw.pick("who", _WHO)))


def thoughts(question: str, sentences: int) -> str:
    """What the reasoning model thinks first."""
    return " ".join(_THOUGHTS[:sentences]).format(quoted(question))


def filled(text: str, words: int) -> str:
    """A text brought to so many words, by repeating it or cutting it."""
    given = text.split() or ["word"]
    return " ".join((given * (words // len(given) + 1))[:words])
