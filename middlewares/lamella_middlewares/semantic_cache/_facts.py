"""What two questions must have in common besides sounding alike: numbers, names, "not".

To an embedding "the revenue of 2023" and "the revenue of 2024" are nearly the same text. This looks
at what a vector is blind to. It errs on the side of difference: then the model is asked, and no
harm is done. It is no proof of the opposite: what it does not know (two towns in lower case, a
direction from A to B) it does not see.
"""

from __future__ import annotations

# ruff: noqa: RUF001 - typographic signs look like others, and are meant
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

import attrs

from lamella_middlewares.semantic_cache._fact_words import (
    EITHER_OR,
    NEGATING,
    NEGATING_PIECES,
    NUMBER_WORDS,
    PLAIN_WORDS,
    UNITS,
)

_NUMBER: Final = re.compile(
    r"(?=[-−+$€£¥₹\d])"  # which most places are not, so that they are passed soon
    r"(?:(?<!\w)([-−+]))?([$€£¥₹]\s?)?(\d+(?:[.,:]\d+)*)(?:\s?(%|‰|°))?([^\W\d_]{1,12})?"
)
_GROUPED: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_PLACEHOLDER: Final = re.compile(r"⟦[^⟦⟧]{1,100}⟧|\[[A-Z][A-Z_]{1,40}(?::[0-9a-f]{1,64})?\]")
_QUOTED: Final = re.compile(
    r'"([^"\n]{1,200})"|“([^”\n]{1,200})[”“]|„([^“”\n]{1,200})[“”]|«([^»\n]{1,200})»'
    r"|`([^`\n]{1,200})`|‘([^’\n]{1,200})’|(?<!\w)'([^'\n]{1,200})'(?!\w)"
)
_SIGN: Final = re.compile(
    r"(?<=[\s\d)])[<>=≤≥≠≈~^|&×÷*+]+(?=[\s\w(]|$)|(?<=\w)[<>=≤≥≠≈^|&×÷*+]+(?=[\w(])"
    r"|(?<=\w)[<>=≤≥≠≈×÷]+(?=\s)"
)
_SIGNS: Final = frozenset("<>=≤≥≠≈~^|&×÷*+")
_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NUMBER_WORD: Final = re.compile(rf"\b(?:{'|'.join(NUMBER_WORDS)})\b", re.IGNORECASE)
_EDGES: Final = ".,;:!?()[]{}\"'`“”„‘’«»…¿¡*$€£¥₹%"
_INNER: Final = frozenset("_/\\@#=.:<>{}()[]$&|~^")
_ENDS: Final = (".", "!", "?", ":", "…", ".”", '."', '?"', '!"')
_EITHER_OF: Final = {
    word: [words for words in EITHER_OR if word in words] for words in EITHER_OR for word in words
}
_EITHER: Final = frozenset(_EITHER_OF)
_MANY_QUOTED: Final = 16
_ORDINALS: Final = frozenset({"st", "nd", "rd", "th"})


@attrs.frozen
class Facts:
    """What a text states that an embedding hardly sees.

    Attributes:
        numbers: Its numbers in order, each with its unit.
        placeholders: What stands for masked values, in order.
        quoted: Its quoted texts, in order.
        named: Its names and code-like words.
        negations: How many words negate something.
        signs: Its signs of arithmetic and comparison, in order.
        words: All its words and tokens, to find what another text names.
        whole: All of it, to find what another text quotes.
    """

    numbers: tuple[str, ...]
    placeholders: tuple[str, ...]
    quoted: tuple[str, ...]
    named: frozenset[str]
    negations: int
    signs: tuple[str, ...]
    words: frozenset[str]
    whole: str


def different_facts(one: str, other: str) -> str:
    """In which kind of fact two texts differ; empty if in none that can be told.

    Returns:
        `"placeholders"`, `"numbers"`, `"quotes"`, `"names"`, `"negations"`, `"signs"`,
        `"opposites"`, or nothing.
    """
    return "" if one == other else difference(facts_of(one), facts_of(other))


def difference(first: Facts, second: Facts) -> str:
    """Likewise of two texts whose facts are known."""
    if first.placeholders != second.placeholders:
        return "placeholders"
    if first.numbers != second.numbers:
        return "numbers"
    if not (_quotes(first, second) and _quotes(second, first)):
        return "quotes"
    if not (first.named <= second.words and second.named <= first.words):
        return "names"
    if first.negations != second.negations:
        return "negations"
    if first.signs != second.signs:
        return "signs"
    return "opposites" if _opposed(first.words, second.words) else ""


def facts_of(text: str) -> Facts:
    """The facts of one text."""
    text = unicodedata.normalize("NFKC", text).replace("−", "-").strip()
    placeholders = tuple(_PLACEHOLDER.findall(text))
    text = _PLACEHOLDER.sub(" ", text)
    folded = text.casefold()
    plain = _WORD.findall(folded)
    odd = [_bare(token) for token in folded.split() if not token.isalpha()]
    return Facts(
        numbers=tuple(_numbers(text, without_words=NUMBER_WORDS.keys().isdisjoint(plain))),
        placeholders=placeholders,
        quoted=tuple([_line(next(filter(None, found))) for found in _QUOTED.findall(text)]),
        named=frozenset(_named(text)),
        negations=_negations(plain, folded),
        signs=() if _SIGNS.isdisjoint(text) else tuple(_SIGN.findall(text)),
        words=frozenset((*odd, *plain)),
        whole=f" {_line(folded)} ",
    )


def _numbers(text: str, *, without_words: bool) -> Iterator[str]:
    """Digits and number words in the order in which they stand."""
    found: list[tuple[int, str]] = []
    for match in _NUMBER.finditer(text):
        sign, currency, digits, percent, attached = match.groups()
        digits = "".join([str(unicodedata.digit(one, one)) for one in digits])
        if _GROUPED.fullmatch(digits):
            digits = digits.replace(",", "")
        unit = (attached or "").casefold()
        if unit in _ORDINALS:
            unit = ""
        if not unit and not percent and currency is None:
            after = _WORD.match(text, match.end() + 1) if text[match.end() :][:1] == " " else None
            unit = after.group().casefold() if after is not None else ""
            unit = unit if unit in UNITS else ""
        words = (sign if sign == "-" else "", digits, UNITS.get(unit, unit), percent or "")
        found.append((match.start(), "".join([*words, (currency or "").strip()])))
    if not without_words:
        found += [
            (match.start(), NUMBER_WORDS[match.group().lower()])
            for match in _NUMBER_WORD.finditer(text)
        ]
    return iter([number for _, number in sorted(found)])


def _named(text: str) -> Iterator[str]:
    """Code-like words, and words with a capital letter that begin no sentence."""
    shouted = text == text.upper()
    begins = True
    for token in text.split():
        if token.isalpha() and token.islower():  # most are
            begins = False
            continue
        bare, name = _bare(token), _bare(token.casefold())
        if bare and name not in PLAIN_WORDS:
            capital = bare[0].isupper() and not shouted and not begins
            if capital or _is_code(token, bare, shouted=shouted):
                yield name
        begins = token.endswith(_ENDS) or (begins and not bare)


def _is_code(token: str, bare: str, *, shouted: bool) -> bool:
    if bare[0].isdigit():
        return False  # a number
    if token[0] == "-" and len(token) > 2 and token.lstrip("-")[:1].isalpha():
        return True  # an option of a command
    inner = bare[1:]
    if not _INNER.isdisjoint(inner) or (bare[-1] in "+#" and bare[0].isalpha()):
        return True
    if any(letter.isdigit() for letter in inner):
        return True
    return not shouted and any(letter.isupper() for letter in inner)


def _negations(words: list[str], folded: str) -> int:
    count = sum(map(NEGATING.__contains__, words)) + folded.count("n't") + folded.count("n’t")
    if folded.isascii():
        return count
    return count + sum([folded.count(piece) for piece in NEGATING_PIECES])


def _quotes(one: Facts, other: Facts) -> bool:
    """Whether what the one quotes is in the other, quoted or not.

    Of texts that quote a lot, the quotations are compared among themselves: looking for each of
    them in all of the other text would take long.
    """
    quoted = {quoted.casefold() for quoted in one.quoted}
    if len(quoted) > _MANY_QUOTED:
        return quoted <= {quoted.casefold() for quoted in other.quoted}
    return all(
        text in other.whole and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", other.whole)
        for text in quoted
    )


def _opposed(first: frozenset[str], second: frozenset[str]) -> bool:
    """Whether the two have different words of those that exclude each other."""
    for word in first & _EITHER:
        for words in _EITHER_OF[word]:
            there = second & words
            if there and there != first & words:
                return True
    return False


def _bare(token: str) -> str:
    bare = token.strip(_EDGES)
    return bare.removesuffix("'s").removesuffix("’s")


def _line(text: str) -> str:
    return " ".join(text.split())
