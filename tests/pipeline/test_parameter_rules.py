"""Rules that hold only beside other parameters."""

from __future__ import annotations

from typing import Any

import pytest

from lamella._cards import ModelCard
from lamella._errors import UnsupportedError
from lamella._parameter_rules import ParameterRule, RuleNote, apply_rules

ONE_OF_TWO = ParameterRule("top_p", "drop", beside=("temperature", "top_k"), hint="one is enough")


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_p": 0.5}, True),
        ({"top_p": 0.5, "temperature": None}, True),
        ({"top_p": 0.5, "temperature": 0.0}, False),
        ({"top_p": 0.5, "top_k": 4}, False),
        ({"temperature": 0.5}, None),
    ],
)
def test_a_rule_holds_beside_a_stated_parameter(params: dict[str, Any], kept: bool | None) -> None:
    """One of the named parameters has to be stated; a default of the card is not."""
    model = ModelCard("one", "acme", rules=(ONE_OF_TWO,), defaults={"temperature": 1})
    sent, notes = apply_rules(model, "chat", params)
    assert sent.get("top_p") == (0.5 if kept else None)
    assert notes == ((RuleNote("top_p", "drop", "one is enough"),) if kept is False else ())


def test_what_the_rules_look_at_is_the_request() -> None:
    """A parameter that another rule leaves out was stated all the same."""
    model = ModelCard("one", "acme", rules=(ParameterRule("temperature", "drop"), ONE_OF_TWO))
    assert apply_rules(model, "chat", {"temperature": 1, "top_p": 1})[0] == {}


def test_a_refusal_names_what_stands_beside() -> None:
    """The message says which parameters do not go together."""
    rule = ParameterRule("top_p", "refuse", beside=("temperature", "top_k"))
    with pytest.raises(UnsupportedError, match="'top_p' together with temperature or top_k"):
        apply_rules(ModelCard("one", "acme", rules=(rule,)), "chat", {"top_p": 1, "top_k": 1})
