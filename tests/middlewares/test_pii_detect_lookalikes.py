"""What is told apart by what stands before it."""

from __future__ import annotations

import pytest

from lamella import Detector
from lamella_middlewares.pii._detect._builtin import BUILTIN, DEFAULT_KINDS
from lamella_middlewares.pii._detect._scanner import Scanner


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    """All kinds that are looked for by default."""
    detectors: list[Detector] = [BUILTIN[kind]() for kind in DEFAULT_KINDS]
    return Scanner(detectors)


def found(scanner: Scanner, text: str) -> list[tuple[str, str]]:
    """Kinds and values, from left to right."""
    return [(one.kind, text[one.start : one.end]) for one in scanner.scan(text)]


@pytest.mark.parametrize(
    "text",
    [
        "postgres://app:kku7Tow88H5s@db.example.com:5432/app",
        "Use https://bob:kku7Tow88H5s@git.example.com/repo.git to clone.",
        "(amqp://u:kku7Tow88H5s@mq.example.com)",
    ],
)
def test_the_password_of_a_url_with_its_host_is_no_email_address(
    scanner: Scanner, text: str
) -> None:
    """It is a password: what the address of the server is may be known."""
    assert found(scanner, text) == [("url_credentials", "kku7Tow88H5s")]


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com:8080/ ada@example.com",
        "https://example.com/?to=ada@example.com",
        "https://example.com:8080,ada@example.com",
        "mailto:ada@example.com",
    ],
)
def test_an_email_address_behind_a_url_is_found(scanner: Scanner, text: str) -> None:
    """Only what stands where a password would is taken for one."""
    assert any(value.startswith(("ada@", "8080,ada")) for _, value in found(scanner, text))


@pytest.mark.parametrize(
    "part", ["section", "Chapter", "sec.", "Abschnitt", "sección", "§ Kapitel"]
)
def test_parts_of_documents_are_no_network_addresses(scanner: Scanner, part: str) -> None:
    """They are numbered with points too."""
    assert found(scanner, f"see {part} 4.3.2.1 of it") == []
    assert found(scanner, "see host 4.3.2.1 of it") == [("ip", "4.3.2.1")]


def test_an_abbreviation_before_a_licence_is_no_initials(scanner: Scanner) -> None:
    """`DL` says what the number is, and is not a part of it; initials are."""
    assert found(scanner, "DL 204505331 (California)") == [("driver_licence", "204505331")]
    assert found(scanner, "driving licence AB 2045053") == [("driver_licence", "AB 2045053")]


def test_a_slash_between_spaces_ties_an_area_to_its_number(scanner: Scanner) -> None:
    """As it is written in Germany."""
    assert found(scanner, "030 / 25013948, bitte") == [("phone", "030 / 25013948")]
