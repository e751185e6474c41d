"""Reading from a card file how a model's provider counts pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lamella._checked_tables import Table
from lamella._image_tokens import CropRule, ImageRule, LevelRule, PatchRule, TileRule

_NUMBERS: Final[Mapping[str, tuple[type[Any], Mapping[str, int]]]] = {
    "tiles": (TileRule, {"base": 0, "tile": 1}),
    "patches": (
        PatchRule,
        dict.fromkeys(("most", "longest", "original", "original_side", "low_side"), 0)
        | {"side": 1},
    ),
    "crops": (CropRule, {"tokens_each": 1, "small": 0, "least": 1, "largest": 1}),
    "levels": (LevelRule, {}),
}
"""The rules by name, and the whole numbers that each takes, with the least value of each."""


def read_image_rule(outer: Table, key: str) -> ImageRule | None:
    """The rule that a card states; mistakes are written down."""
    table = outer.table(key)
    if table is None:
        return None
    name = table.text("rule", required=True)
    if name is None:
        return None
    if name not in _NUMBERS:
        table.wrong("rule", f"one of {', '.join(map(repr, _NUMBERS))}")
        return None
    rule, numbers = _NUMBERS[name]
    fields: dict[str, Any] = {
        key: table.whole(key, least=least) for key, least in numbers.items() if table.has(key)
    }
    if rule is PatchRule and table.has("multiplier"):
        fields["multiplier"] = table.number("multiplier")
        if isinstance(fields["multiplier"], int | float) and fields["multiplier"] <= 0:
            table.wrong("multiplier", "a number above 0")
    if rule in {PatchRule, LevelRule} and table.has("default"):
        fields["default"] = table.text("default")
    if rule is LevelRule:
        fields["levels"] = _levels(table)
        default = fields.get("default", LevelRule().default)
        if default not in fields["levels"]:
            table.mistakes.add(f"{table.at('levels')}: expected the tokens of {default!r} too.")
    table.finish()
    stated = {field: value for field, value in fields.items() if value is not None}
    made: ImageRule = rule(**stated)
    return made


def _levels(table: Table) -> dict[str, int]:
    inner = table.table("levels")
    if inner is None:
        table.missing("levels", "the tokens of each detail: { low = 280, high = 1120 }")
        return {}
    return {name: inner.whole(name) or 1 for name in inner.values}
