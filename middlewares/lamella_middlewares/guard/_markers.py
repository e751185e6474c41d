"""What text looks like that speaks to the model instead of informing it."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from lamella._normal_text import normal_text
from lamella._safe_patterns import SafePattern, compile_pattern
from lamella_middlewares.guard._phrases import PHRASES

KINDS: Final = ("instructions", "role_tags", "hidden_text", "bidi")

_ROLE_TAGS: Final = (
    (
        r"<\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|eot_id|start_header_id|"
        r"end_header_id|begin_of_text|channel|start|end|message|tool_call)\|>"
    ),
    r"\[/?(?:inst|sys|system_prompt|available_tools|tool_results)\]",
    r"<</?sys>>",
    r"</?(?:system|assistant|human|developer|system[-_ ]prompt|system[-_ ]message|instructions)>",
    r"<(?:start|end)_of_turn>",
    (
        r"(?:^|\n) *#{2,4} *(?:system|instructions?|assistant|human|user|developer)"
        r"(?: +prompt| +message)? *(?::|\n|$)"
    ),
    (
        r"(?:^|\n) *(?:system|assistant|developer) *(?:prompt|message|instructions?)? *: *"
        r"(?:you|ignore|new|important|override|do +not)"
    ),
    r"\n\n(?:human|assistant): ",
    (
        r"end +of +(?:the +)?(?:untrusted +)?(?:data|document|tool +(?:result|output)|context|"
        r"input)\b(?: +[0-9a-f]+)? *[-\]>\n:]"
    ),
)
"""The marks by which chat templates tell who speaks, and what pretends to end a quotation."""

_TAGS: Final = re.compile("[\U000e0020-\U000e007e]+\U000e007f?")
_FLAG: Final = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
_ZERO_WIDTH: Final = re.compile("[\u200b\u200c\u200d\u2060-\u2064\ufeff\u180e]{8,}")
_SELECTORS: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_BIDI: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
_OVERRIDES: Final = re.compile("[\u202d\u202e]")
_BLANKS: Final = re.compile(r"[ \t\r\f\v\u2028\u2029]+")
_LINES: Final = re.compile(r"\s+")


def prepare() -> None:
    """Compile what is looked for, which takes some hundredths of a second once."""
    _phrases()
    _role_tags()


def markers(text: str) -> tuple[str, ...]:
    """Of which kinds there are markers in a text, in alphabetical order."""
    found: set[str] = set()
    if not text.isascii():
        found.update(_hidden(text))
    view = normal_text(text, fold_case=True).text
    if _role_tags().search(_BLANKS.sub(" ", view)):
        found.add("role_tags")
    if _phrases().search(_LINES.sub(" ", view)):
        found.add("instructions")
    return tuple(sorted(found))


def without_hidden(text: str) -> str:
    """A text without what is written in characters that nobody sees; flags of regions stay."""
    if text.isascii():
        return text
    flags: list[str] = []

    def aside(match: re.Match[str]) -> str:
        flags.append(match[0])
        return "\U0001f3f4\ue000"

    if "\ue000" not in text and _FLAG.search(text):
        text = _FLAG.sub(aside, text)
    text = _TAGS.sub("", text)
    text = _SELECTORS.sub("", _ZERO_WIDTH.sub("", text))
    if _OVERRIDES.search(text):
        text = _BIDI.sub("", text)
    left = iter(flags)
    return re.sub("\U0001f3f4\ue000", lambda _: next(left), text) if flags else text


def _hidden(text: str) -> set[str]:
    found: set[str] = set()
    plain = _FLAG.sub("", text)
    if _TAGS.search(plain) or _ZERO_WIDTH.search(text) or _SELECTORS.search(text):
        found.add("hidden_text")
    if _OVERRIDES.search(text):
        found.add("bidi")
    return found


@cache
def _phrases() -> SafePattern:
    return compile_pattern("|".join(_folded(one) for one in PHRASES))


@cache
def _role_tags() -> SafePattern:
    return compile_pattern("|".join(_ROLE_TAGS))


def _folded(expression: str) -> str:
    """The expression as it must be for folded text, where letters may be written otherwise."""
    return "".join([c if c.isascii() else normal_text(c, fold_case=True).text for c in expression])
