"""Texts of which it is known where what is."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable
from typing import Any, Final

import attrs


@attrs.frozen
class Span:
    """A place in a text.

    Attributes:
        start: The index of its first character.
        end: The index behind its last.
        kind: What it is.
    """

    start: int
    end: int
    kind: str


@attrs.frozen
class Sample:
    """A text, and what is in it.

    Attributes:
        text: The text.
        spans: What is in it, by place.
    """

    text: str
    spans: tuple[Span, ...] = ()


PRESIDIO_KINDS: Final = {
    "address": "postal_address",
    "age": "age",
    "birthday": "date_of_birth",
    "building_number": "postal_address",
    "city": "place",
    "country": "place",
    "credit_card": "card",
    "credit_card_number": "card",
    "date_of_birth": "date_of_birth",
    "date_time": "date",
    "day_of_week": "date",
    "email": "email",
    "iban": "iban",
    "ip_address": "ip",
    "job": "title",
    "nation_man": "nationality",
    "nation_plural": "nationality",
    "nation_woman": "nationality",
    "nationality": "nationality",
    "organization": "organisation",
    "person": "person",
    "phone_number": "phone",
    "postcode": "postal_address",
    "prefix": "title",
    "prefix_female": "title",
    "prefix_male": "title",
    "secondary_address": "postal_address",
    "ssn": "us_ssn",
    "state": "place",
    "state_abbr": "place",
    "street_name": "postal_address",
    "url": "url",
    "us_driver_license": "driver_licence",
    "year": "date",
    "zipcode": "postal_address",
    **dict.fromkeys(
        (
            "first_name",
            "first_name_female",
            "first_name_male",
            "first_name_nonbinary",
            "last_name",
            "last_name_female",
            "last_name_male",
            "name",
            "name_female",
            "name_male",
        ),
        "person",
    ),
}
"""What the slots of Presidio's templates are, in our words: finer than Presidio's own."""

_BETWEEN: Final = 4
"""Characters between two pieces of one address, such as a comma and a line break."""


def presidio_samples(number: int, seed: int) -> list[Sample]:
    """Sentences of presidio-evaluator's own templates, filled by its own generator."""
    theirs: Any = importlib.import_module("presidio_evaluator.data_generator")

    # It says on the standard output what it uses, and shows a bar on the other.
    with contextlib.redirect_stdout(sys.stderr):
        faker = theirs.PresidioSentenceFaker(
            locale="en_US",
            lower_case_ratio=0.05,
            entity_type_mapping=dict(PRESIDIO_KINDS),
            random_seed=seed,
        )
        made = faker.generate_new_fake_sentences(number)
    return [_sample(one) for one in made]


def _sample(made: Any) -> Sample:
    text: str = made.full_text
    spans = sorted(
        (
            Span(one.start_position, one.end_position, one.entity_type)
            for one in made.spans
            if one.start_position < one.end_position
        ),
        key=lambda span: (span.start, span.end),
    )
    for span in spans:
        assert 0 <= span.start < span.end <= len(text)
    return Sample(text, tuple(addresses_joined(spans)))


def addresses_joined(spans: Iterable[Span]) -> list[Span]:
    """The spans, pieces of one address made one.

    The templates know house number, street, flat and postcode apart; nobody masks them apart. Two
    pieces with a sign or a line break between them, or with a town, are one address.
    """
    joined: list[Span] = []
    town: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        near = last is not None and last.kind == "postal_address"
        since = town[-1].end if town else (last.end if last else 0)
        if span.kind == "place" and near and span.start - since <= _BETWEEN:
            town.append(span)
        elif span.kind == "postal_address" and near and span.start - since <= _BETWEEN:
            assert last is not None
            joined[-1] = Span(last.start, span.end, "postal_address")
            town.clear()
        else:
            joined += [*town, span]
            town.clear()
    return [*joined, *town]
