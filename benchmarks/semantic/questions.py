"""Questions in several wordings, and questions that differ from them in one fact.

They are made here, from families of wordings with slots. Each filled slot is one question with one
right answer; its wordings are paraphrases. Two of one family with another filler are near misses,
and so are those of a family's opposite.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

NUMBERS: Final = tuple([str(number) for number in range(2, 32, 2)])
YEARS: Final = tuple([str(year) for year in range(2010, 2025)])
PLACES: Final = (
    "France", "Germany", "Peru", "Kenya", "Japan", "Norway", "Chile", "Egypt", "Canada", "Poland",
    "Vietnam", "Portugal", "Ghana", "Austria", "Cuba",
)  # fmt: skip
PRODUCTS: Final = (
    "a laptop", "a bicycle", "shoes", "a sofa", "a camera", "a phone", "a dress", "headphones",
    "a printer", "a tent", "a watch", "a lamp", "a guitar", "a backpack", "a kettle",
)  # fmt: skip
TOOLS: Final = (
    "git_push", "docker-compose", "pytest", "asyncio.run", "SELECT", "numpy.dot", "systemd",
    "kubectl", "make_dirs", "ssh-keygen", "re.sub", "rsync", "INSERT", "cProfile", "grep",
)  # fmt: skip
_TOKENS: Final = "K7Q2M9XA B3N8P1WZ C5R6T4YH D9F2G7JL E1V8X3QS F6H4K2MN G8L5P9RT H2W7Z3BC"
PEOPLE: Final = tuple([f"⟦PERSON_{token}⟧" for token in _TOKENS.split()])


@attrs.frozen
class Family:
    """Wordings of one kind of question.

    Attributes:
        wordings: With `{}` for the slot, each meaning the same.
        fillers: What goes there, each making another question.
        opposites: Wordings that mean something else, as near as may be.
    """

    wordings: tuple[str, ...]
    fillers: tuple[str, ...] = ("",)
    opposites: tuple[str, ...] = ()


FAMILIES: Final = (
    Family(
        ("How do I reset my password{}?", "How can I reset my password{}?",
         "What do I do to reset my password{}?", "I want to reset my password{}, how do I do it?",
         "Tell me how to reset my password{}."),
        ("", " on version 2", " on version 3"),
        ("How do I not reset my password{}?", "How often do I reset my password{}?"),
    ),
    Family(
        ("What is the capital of {}?", "Tell me the capital of {}.",
         "Which city is the capital of {}?", "What's the capital city of {}?",
         "Name the capital of {}."),
        PLACES,
    ),
    Family(
        ("What was the revenue in {}?", "How much revenue was there in {}?",
         "What revenue did we have in {}?", "Tell me the revenue of {}.",
         "How high was the revenue in {}?"),
        YEARS,
        ("What was the revenue before {}?", "What was the revenue without {}?"),
    ),
    Family(
        ("Can I return {} after two weeks?", "May I return {} after two weeks?",
         "Is it possible to return {} after two weeks?",
         "After two weeks, can I still return {}?", "I would like to return {} after two weeks."),
        PRODUCTS,
        ("Can I return {} after three weeks?", "Can I return {} before two weeks?"),
    ),
    Family(
        ("Explain what {} does.", "What does {} do?", "Can you explain what {} does?",
         "Please explain what {} does.", "I don't understand what {} does, explain it."),
        TOOLS,
    ),
    Family(
        ("How many people live in {}?", "What is the number of people who live in {}?",
         "How many people are living in {}?", "How large is the number of people in {}?",
         "Tell me how many people live in {}."),
        PLACES,
        ("How many people do not live in {}?", "How many people left {}?"),
    ),
    Family(
        ("Convert {} miles to kilometres.", "How many kilometres are {} miles?",
         "What are {} miles in kilometres?", "{} miles in kilometres, please.",
         "Please convert {} miles to kilometres."),
        NUMBERS,
        ("Convert {} kilometres to miles.", "Convert {} miles to metres."),
    ),
    Family(
        ("Enable the dark mode{}.", "Please enable the dark mode{}.",
         "Can you enable the dark mode{}?", "I want to enable the dark mode{}.",
         "How do I enable the dark mode{}?"),
        ("", " in the app", " on the website"),
        ("Disable the dark mode{}.", "Can you disable the dark mode{}?"),
    ),
    Family(
        ("What did {} order last month?", "Which things did {} order last month?",
         "Show me what {} ordered last month.", "What has {} ordered last month?",
         "List what {} ordered last month."),
        PEOPLE,
        ("What did {} order this month?", "What did {} return last month?"),
    ),
    Family(
        ("Is {} mg of ibuprofen safe with alcohol?",
         "Is it safe to take {} mg of ibuprofen with alcohol?",
         "Can I take {} mg of ibuprofen with alcohol?", "With alcohol, is {} mg of ibuprofen safe?",
         "Is taking {} mg of ibuprofen with alcohol safe?"),
        ("200", "400", "600", "800"),
        ("Is {} mg of ibuprofen safe without alcohol?", "Is {} g of ibuprofen safe with alcohol?"),
    ),
    Family(
        ("Write a short poem about the {}.", "Please write a short poem about the {}.",
         "Can you write a short poem about the {}?", "I need a short poem about the {}.",
         "Compose a short poem about the {}."),
        ("sea", "moon", "autumn", "rain", "city", "desert", "night", "river", "forest", "snow"),
        ("Write a long poem about the {}.",),
    ),
    Family(
        ("When does the shop open on {}?", "At what time does the shop open on {}?",
         "What time does the shop open on {}?", "Tell me when the shop opens on {}.",
         "On {}, when does the shop open?"),
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        ("When does the shop close on {}?",),
    ),
)  # fmt: skip
"""The families. Fillers without a capital letter, a digit or a sign of code are the hard ones."""


@attrs.frozen
class Asked:
    """A question as somebody words it.

    Attributes:
        text: The wording.
        meaning: The same for all wordings of one question.
        kind: `"paraphrase"` or `"near miss"`.
    """

    text: str
    meaning: str
    kind: str


def kept() -> list[Asked]:
    """What is in the cache: the first wording of every other question."""
    return [
        Asked(family.wordings[0].format(filler), f"{number}:{filler}", "paraphrase")
        for number, family in enumerate(FAMILIES)
        for filler in family.fillers[::2]
    ]


def asked() -> Iterator[Asked]:
    """What is asked then: other wordings of those, and what differs from them in one fact."""
    for number, family in enumerate(FAMILIES):
        for place, filler in enumerate(family.fillers):
            kind = "near miss" if place % 2 else "paraphrase"
            for wording in family.wordings[0 if place % 2 else 1 :]:
                yield Asked(wording.format(filler), f"{number}:{filler}", kind)
            for other, wording in enumerate(family.opposites):
                meaning = f"{number}:{filler}:{other}"
                yield Asked(wording.format(filler), meaning, "near miss")
