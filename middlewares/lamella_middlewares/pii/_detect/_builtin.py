"""The kinds that are found without anything being configured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import Final, cast

from lamella import Detector

PLACES: Final = {
    "email": ("_email", "EMAIL"),
    "phone": ("_phone", "PHONE"),
    "card": ("_card", "CARD"),
    "iban": ("_bank", "IBAN"),
    "us_ssn": ("_identity", "US_SSN"),
    "us_itin": ("_identity", "US_ITIN"),
    "uk_nhs": ("_identity", "UK_NHS"),
    "uk_nino": ("_identity", "UK_NINO"),
    "passport": ("_documents", "PASSPORT"),
    "driver_licence": ("_documents", "DRIVER_LICENCE"),
    "ip": ("_ip", "IP"),
    "mac": ("_mac", "MAC"),
    "url_credentials": ("_url_credentials", "URL_CREDENTIALS"),
    "api_key": ("_api_key", "API_KEY"),
    "jwt": ("_jwt", "JWT"),
    "crypto_address": ("_crypto", "CRYPTO_ADDRESS"),
    "date_of_birth": ("_dates", "DATE_OF_BIRTH"),
    "postal_address": ("_address", "POSTAL_ADDRESS"),
    "url": ("_url", "URL"),
}
"""Each kind's module and detector. Of two findings as long and as sure, the first holds."""


def _detector(kind: str) -> Detector:
    module, name = PLACES[kind]
    return cast("Detector", getattr(import_module(f"{__package__}.{module}"), name))


BUILTIN: Final = MappingProxyType[str, Callable[[], Detector]](
    {kind: partial(_detector, kind) for kind in PLACES}
)
"""What gives the detector of each kind; its module is imported by then, not before."""

DEFAULT_KINDS: Final = tuple(kind for kind in PLACES if kind != "url")
"""All kinds that are personal or secret by themselves. A link is neither, but may name somebody."""
