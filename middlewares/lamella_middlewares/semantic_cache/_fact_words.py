"""Words that make a fact: negations, numbers, units, and words that exclude each other.

English, with the negations of some other languages. A word that is missing here makes the check see
less; it never makes it see what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NEGATIONS: Final = (
    # English
    "not no never none nobody nothing nowhere neither nor cannot without except excluding unless "
    "lack lacks lacking non hardly "
    # German
    "nicht kein keine keinen keinem keiner keines ohne nie niemals nichts außer "
    # French, Italian, Spanish, Portuguese
    "pas sans jamais aucun aucune rien senza nessun nessuno niente sin nunca jamás ningún "
    "ninguna nada não sem nenhum nenhuma "
    # Dutch, Swedish, Polish, Russian
    "niet geen zonder nooit inte ingen utan aldrig nie bez nigdy не нет без никогда ничего"
)
NEGATING: Final = frozenset(_NEGATIONS.split())

NEGATING_PIECES: Final = ("不", "没", "沒", "无", "無", "未", "ない", "ません", "않", "없")
"""Pieces that negate where nothing separates words."""

_SMALL: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)

NUMBER_WORDS: Final[Mapping[str, str]] = {
    word: str(number)
    for number, word in enumerate(_SMALL.split())
    if word != "one"  # which one? It is a pronoun as often as a number
} | {
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70",
    "eighty": "80", "ninety": "90", "hundred": "100", "thousand": "1000",
    "million": "1000000", "billion": "1000000000", "dozen": "12", "half": "0.5",
    "twice": "2", "double": "2", "triple": "3",
}  # fmt: skip

UNITS: Final[Mapping[str, str]] = {
    name: names[0]
    for names in (
        ("%", "percent", "pct"), ("$", "dollar", "dollars", "usd"), ("€", "euro", "euros", "eur"),
        ("£", "pound", "pounds", "gbp"), ("mg", "milligram", "milligrams"),
        ("g", "gram", "grams"), ("kg", "kilogram", "kilograms", "kilo", "kilos"),
        ("ml", "millilitre", "milliliter"), ("l", "litre", "litres", "liter", "liters"),
        ("mm", "millimetres", "millimeters"), ("cm", "centimetres", "centimeters"),
        ("m", "metre", "metres", "meter", "meters"),
        ("km", "kilometre", "kilometres", "kilometer", "kilometers"),
        ("mi", "mile", "miles"), ("ft", "foot", "feet"), ("inch", "inches"), ("yd", "yards"),
        ("lb", "lbs"), ("oz", "ounce", "ounces"), ("kb", "kilobytes"), ("mb", "megabytes"),
        ("gb", "gigabytes"), ("tb", "terabytes"), ("ms", "milliseconds"),
        ("s", "sec", "second", "seconds"), ("min", "minute", "minutes"),
        ("h", "hr", "hrs", "hour", "hours"), ("day", "days"), ("week", "weeks"),
        ("month", "months"), ("year", "years"), ("am",), ("pm",), ("celsius",), ("fahrenheit",),
        ("k",), ("bn",),
    )
    for name in names
}  # fmt: skip
"""Words after a number that belong to it, and the one that stands for each."""

_PLAIN: Final = "i i'm i've i'd i'll e.g i.e a.m p.m etc ok"
PLAIN_WORDS: Final = frozenset((*_PLAIN.split(), *_PLAIN.replace("'", "\u2019").split()))
"""Words that look like names or code and are none."""

EITHER_OR: Final[tuple[frozenset[str], ...]] = tuple([
    frozenset(words.split())
    for words in (
        "monday tuesday wednesday thursday friday saturday sunday",
        "january february march april may june july august september october november december",
        "north south east west", "spring summer autumn winter", "yesterday today tomorrow",
        "first second third last", "previous current next", "daily weekly monthly yearly",
        "before after", "increase decrease", "increases decreases", "increasing decreasing",
        "raise lower", "rise fall", "more less fewer", "most least", "maximum minimum", "max min",
        "highest lowest", "higher lower", "larger smaller", "largest smallest", "best worst",
        "better worse", "pros cons", "advantages disadvantages", "benefits risks drawbacks",
        "above below", "over under", "left right", "top bottom", "up down", "inside outside",
        "on off", "open close", "opening closing", "start stop end", "begin finish",
        "enable disable", "enabled disabled", "enable off", "enabled off", "activate deactivate",
        "activate off", "allow deny forbid", "allowed forbidden denied",
        "accept reject", "add remove delete", "create delete", "insert delete", "install uninstall",
        "import export", "upload download", "send receive", "buy sell", "buying selling",
        "lock unlock", "encrypt decrypt", "encode decode", "compress decompress",
        "connect disconnect",
        "login logout", "subscribe unsubscribe", "push pull", "read write", "input output",
        "upgrade downgrade", "positive negative", "true false", "yes no", "hot cold", "warm cool",
        "fast slow", "long short", "longer shorter", "big small", "high low", "large small",
        "faster slower", "early late", "earlier later", "old new", "oldest newest",
        "cheap expensive", "legal illegal", "possible impossible", "safe unsafe dangerous",
        "public private", "internal external", "male female", "men women", "mother father",
        "adult child", "all any some none only", "always sometimes never", "must may should",
        "win lose", "winner loser", "gain loss", "profit loss", "credit debit",
        "income expense", "ascending descending", "sync async", "client server", "with without",
        "same different", "include exclude", "including excluding",
    )
])  # fmt: skip
"""Words of which two texts must not have different ones, if both have some."""
