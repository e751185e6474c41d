"""What Presidio calls things, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "AU_MEDICARE": "au_medicare",
        "CREDIT_CARD": "card",
        "CRYPTO": "crypto_address",
        "DE_PASSPORT": "passport",
        "EMAIL_ADDRESS": "email",
        "IBAN_CODE": "iban",
        "IN_PASSPORT": "passport",
        "IP_ADDRESS": "ip",
        "IT_DRIVER_LICENSE": "driver_licence",
        "IT_PASSPORT": "passport",
        "KR_DRIVER_LICENSE": "driver_licence",
        "KR_PASSPORT": "passport",
        "MAC_ADDRESS": "mac",
        "MEDICAL_LICENSE": "medical_licence",
        "NRP": "nationality",
        "ORGANIZATION": "organisation",
        "PHONE_NUMBER": "phone",
        "UK_DRIVING_LICENCE": "driver_licence",
        "UK_PASSPORT": "passport",
        "US_DRIVER_LICENSE": "driver_licence",
        "US_PASSPORT": "passport",
    }
)
"""Presidio's names that are not ours in capitals; all others are lower-cased."""

PATTERNS: Final = (
    "CREDIT_CARD",
    "CRYPTO",
    "EMAIL_ADDRESS",
    "IBAN_CODE",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "MEDICAL_LICENSE",
    "PHONE_NUMBER",
    "UK_NHS",
    "US_BANK_NUMBER",
    "US_DRIVER_LICENSE",
    "US_ITIN",
    "US_PASSPORT",
    "US_SSN",
)
"""What Presidio finds without a model, where it knows the language."""

NOBODYS: Final = frozenset({"DATE_TIME", "URL", "UUID"})
"""What is nobody's data by itself: looked for when it is named."""

_NO_WORD: Final = re.compile(r"[^a-z0-9]+")


def kind_of(entity: str, names: Mapping[str, str]) -> str:
    """What an entity is called here."""
    given = names.get(entity) or KINDS.get(entity)
    return given or _NO_WORD.sub("_", entity.lower()).strip("_")
