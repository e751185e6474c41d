"""What a class has against the options of a file, told apart and all at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypedDict, Unpack

import attrs
import pytest

from lamella import ConfigurationError, Secret
from lamella._mistakes import Misfit
from lamella._options import each_of, whole
from lamella._structuring import build, parameters_of


def _reference(value: Secret | str | None) -> Secret | None:
    return None if value is None else Secret.of(value)


@attrs.frozen
class Journal:
    """Options that need each other, as those of real layers do."""

    place: str
    key: Secret | None = attrs.field(default=None, converter=_reference)
    kept: str = "request"
    content: bool = True
    rooms: int = attrs.field(default=1, validator=whole(1))
    floors: int = attrs.field(default=1, validator=whole(1))

    def __attrs_post_init__(self) -> None:
        if self.content and self.key is None:
            raise ConfigurationError("Journal(key=None): give key='env:JOURNAL_KEY'.")
        if self.kept == "session" and self.rooms == 2:
            raise ConfigurationError("Journal(kept='session') fits no 2 rooms.")


def said(factory: Any, **options: object) -> list[str]:
    """The mistakes, a line each."""
    with pytest.raises(Misfit) as caught:
        build(factory, options)
    return str(caught.value).splitlines()


def test_what_a_given_option_supplies_is_not_missed() -> None:
    """A record that cannot be made of its required options alone is told what is wrong, only."""
    assert said(Journal, place="x", key="env:K", rooms=0) == [
        "rooms: Journal(rooms=0): give a whole number, 1 or more."
    ]
    assert said(Journal, place="x", content=False, rooms=0, floors=0) == [
        "rooms: Journal(rooms=0): give a whole number, 1 or more.",
        "floors: Journal(floors=0): give a whole number, 1 or more.",
    ]


def test_what_is_missing_is_not_laid_to_another_option() -> None:
    """What names an option that was not given stands at the record, not at what was given."""
    (line,) = said(Journal, place="x")
    assert line == "Journal(key=None): give key='env:JOURNAL_KEY'."


def test_options_wrong_together_are_told_together() -> None:
    """Two options, each of which would do without the other, are one mistake."""
    (line,) = said(Journal, place="x", key="env:K", kept="session", rooms=2)
    assert line.endswith("Journal(kept='session') fits no 2 rooms.")


def test_a_mistake_is_found_beside_one_that_hides_it() -> None:
    """A key that is none does not keep a number that is none from being told."""
    first, second = said(Journal, place="x", key="sk-raw-0123456789", rooms=0)
    assert first.startswith("key: A secret is given by reference")
    assert second.startswith("rooms: ")
    assert "sk-raw" not in first + second


def test_words_that_show_a_reference_are_not_hidden() -> None:
    """A message may have a reference in it: that is no key."""

    @attrs.frozen
    class Client:
        key: str

        def __attrs_post_init__(self) -> None:
            raise ConfigurationError("Client: give another key than key='env:CLIENT_KEY'.")

    (line,) = said(Client, key="env:CLIENT_KEY")
    assert line == "key: Client: give another key than key='env:CLIENT_KEY'."


class Rest(TypedDict, total=False):
    """Options that several functions take."""

    roles: Collection[str] | None


def ruled(size: int, **rest: Unpack[Rest]) -> tuple[int, Rest]:
    """What it was given."""
    return size, rest


def test_named_keyword_options_are_known() -> None:
    """`**options: Unpack[...]` says which options there are, and what each may be."""
    assert not parameters_of(ruled).open
    assert build(ruled, {"size": 1, "roles": ["user"]}) == (1, {"roles": ("user",)})
    assert said(ruled, size=1, role="user") == ["role: is no option. Did you mean 'roles'?"]
    assert said(ruled, size=1, roles=5) == ["roles: got 5, expected a list, each a string"]


def test_all_items_of_a_list_are_looked_at() -> None:
    """Several wrong items are one error with a path each; a single one keeps its own class."""

    class Own(ConfigurationError):
        pass

    def make(item: int) -> int:
        if item == 0:
            raise Own("nothing")
        if item < 0:
            return int(build(ruled, {"size": "x"})[0])
        return item

    assert each_of("sizes", [1, 2], make) == [1, 2]
    with pytest.raises(Own, match="nothing"):
        each_of("sizes", [1, 0], make)
    with pytest.raises(Misfit) as caught:
        each_of("sizes", [0, 1, -1], make)
    assert str(caught.value).splitlines() == [
        "sizes[0]: nothing",
        "sizes[2].size: got 'x', expected an integer",
    ]
