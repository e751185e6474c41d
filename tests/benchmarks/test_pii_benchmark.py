"""The benchmark of detectors counts what it says that it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchmarks.pii.gold import Sample, Span
    from benchmarks.pii.metrics import Score


def spans(*given: tuple[int, int, str]) -> tuple[Span, ...]:
    """Spans, by start, end and kind."""
    from benchmarks.pii.gold import Span

    return tuple(Span(*one) for one in given)


def scored(there: tuple[Span, ...], found: tuple[Span, ...], **options: Any) -> dict[str, Score]:
    """What becomes of each kind in one text."""
    from benchmarks.pii.gold import Sample
    from benchmarks.pii.metrics import scores

    kinds = {one.kind for one in (*there, *found)}
    return scores([Sample("x" * 100, there)], [found], sorted(kinds), **options)


def test_any_overlap_of_the_same_kind_is_found() -> None:
    """One character in common is enough for recall, and the finding is right."""
    [score] = scored(spans((10, 20, "email")), spans((19, 30, "email"))).values()
    assert (score.gold, score.found, score.right, score.wrong, score.covered) == (1, 1, 1, 0, 0)


def test_touching_is_no_overlap() -> None:
    """A finding that ends where the value begins has nothing of it."""
    [score] = scored(spans((10, 20, "email")), spans((0, 10, "email"))).values()
    assert (score.found, score.right, score.wrong) == (0, 0, 1)


def test_strictly_places_have_to_agree() -> None:
    """Nine tenths of both together must be common."""
    there = spans((0, 10, "card"))
    assert scored(there, spans((0, 11, "card")), strict=True)["card"].found == 1
    loose = scored(there, spans((0, 12, "card")), strict=True)["card"]
    assert (loose.found, loose.right, loose.wrong) == (0, 0, 1)


def test_another_kind_covers_but_is_wrong() -> None:
    """Masked as something else is masked, and still a mistake of that kind."""
    table = scored(spans((5, 16, "us_ssn")), spans((0, 8, "phone"), (8, 20, "phone")))
    assert (table["us_ssn"].found, table["us_ssn"].covered) == (0, 1)
    assert table["phone"].wrong == 2


def test_what_is_both_is_neither_right_nor_wrong() -> None:
    """The address of a page around a password is an address of a page."""
    table = scored(spans((10, 16, "url_credentials")), spans((0, 30, "url")))
    assert (table["url"].right, table["url"].wrong) == (0, 0)


def test_f2_is_nearer_to_recall() -> None:
    """Recall counts twice: half the recall costs more than half the precision."""
    from benchmarks.pii.metrics import Score

    half_found = Score(gold=10, found=5, right=5)
    half_right = Score(gold=10, found=10, right=10, wrong=10)
    assert half_found.f2 == pytest.approx(5 / 9)
    assert half_right.f2 == pytest.approx(5 / 6)
    assert Score(gold=3).f2 == 0.0
    assert Score().recall is None
    assert Score().f2 is None


def test_pieces_of_one_address_are_one() -> None:
    """Street, town and postcode with little between are one address; a far town is none of it."""
    from benchmarks.pii.gold import addresses_joined

    near = spans((0, 10, "postal_address"), (12, 18, "place"), (20, 25, "postal_address"))
    assert addresses_joined(near) == list(spans((0, 25, "postal_address")))
    far = spans((0, 10, "postal_address"), (12, 18, "place"), (40, 45, "postal_address"))
    assert addresses_joined(far) == list(far)


def test_values_are_where_the_texts_say() -> None:
    """Every kind is planted, at its place; the same seed gives the same texts."""
    from benchmarks.pii.chat import labelled
    from benchmarks.pii.values import VALUES

    samples: list[Sample] = labelled(600, 3)
    kinds = {span.kind for sample in samples for span in sample.spans}
    assert kinds == set(VALUES)
    assert any(not sample.spans for sample in samples)
    for sample in samples:
        for span in sample.spans:
            value = sample.text[span.start : span.end]
            assert value == value.strip()
            assert len(value) >= 5
    assert samples == labelled(600, 3)


@pytest.mark.parametrize(
    ("number", "digit"), [("7992739871", "3"), ("411111111111111", "1"), ("37828224631000", "5")]
)
def test_check_digits_are_those_of_published_examples(number: str, digit: str) -> None:
    """Cards are made with a check digit that is computed here."""
    from benchmarks.pii.values import luhn_digit

    assert luhn_digit(number) == digit
