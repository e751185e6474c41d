"""Addresses of crypto currencies, by their checksums.

Bitcoin and its relatives (Litecoin, Dogecoin, Dash, Zcash's transparent ones), Bitcoin Cash,
Ethereum and what shares its addresses, Tron, Ripple, Stellar, Cardano, Cosmos. Not found: Solana
and others whose addresses have no checksum, and Monero.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final

import attrs

from lamella import Finding
from lamella_middlewares.pii._detect._coin_checksums import (
    RIPPLE,
    base58check,
    bech32,
    cash_address,
    ethereum,
    stellar,
)
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._open import last_word
from lamella_middlewares.pii._detect._pattern import Pattern
from lamella_middlewares.pii._detect._signs import LONG_WORD

_WORD: Final = "0-9A-Za-z"
_PREFIXES: Final = (
    "bc",
    "tb",
    "bcrt",
    "ltc",
    "tltc",
    "addr",
    "addr_test",
    "stake",
    "cosmos",
    "osmo",
)
_VERSIONS: Final = frozenset(
    {
        b"\x00", b"\x05",  # Bitcoin
        b"\x6f", b"\xc4",  # its test network
        b"\x30", b"\x32",  # Litecoin
        b"\x1e", b"\x16",  # Dogecoin
        b"\x4c", b"\x10",  # Dash
        b"\x41",  # Tron
        b"\x1c\xb8", b"\x1c\xbd",  # Zcash
    }
)  # fmt: skip
"""What comes before the 20 bytes of a hash, by currency."""

_BASE58: Final = Pattern("[1-9A-HJ-NP-Za-km-z]{25,35}", before=_WORD, after=_WORD)
_BECH32: Final = Pattern(
    f"(?:{'|'.join(_PREFIXES)})1[02-9ac-hj-np-z]{{11,110}}",
    before=_WORD,
    after=_WORD,
    ignore_case=True,
)
_CASH: Final = Pattern(
    "(?:(?:bitcoincash|bchtest):)?[qp][02-9ac-hj-np-z]{41}", before=_WORD, after=_WORD
)
_ETHEREUM: Final = Pattern("0x[0-9A-Fa-f]{40}", before=_WORD, after=_WORD)
_STELLAR: Final = Pattern("G[A-Z2-7]{55}", before=_WORD, after=_WORD)


MOST_MIXED: Final = 200
"""How many mixed-case addresses of one text have their checksum worked out, 0.3 ms each.

Behind these an address is taken for one unchecked, so that a text full of them costs no more.
"""


def _base58(text: str) -> bool:
    payload = base58check(text)
    if payload is not None:
        return payload[:-20] in _VERSIONS
    payload = base58check(text, RIPPLE) if text[0] == "r" else None
    return payload is not None and len(payload) == 21 and payload[0] == 0


@attrs.frozen
class CryptoDetector:
    """Finds `crypto_address`."""

    reach: int = 128
    kinds: tuple[str, ...] = ("crypto_address",)
    sign: Sign = LONG_WORD

    def opens(self, text: str) -> int:
        """Addresses are made of visible ASCII characters."""
        return last_word(text, self.reach)

    def find(self, text: str, /) -> Iterable[Finding]:
        """What is in the text, by family."""
        checked = (
            (_BASE58, _base58),
            (_BECH32, bech32),
            (_CASH, cash_address),
            (_STELLAR, stellar),
        )
        found = [
            (start, end)
            for pattern, holds in checked
            for start, end in pattern.finditer(text)
            if holds(text[start:end])
        ]
        return [Finding(start, end, "crypto_address") for start, end in chain(found, _ethers(text))]


def _ethers(text: str) -> Iterable[tuple[int, int]]:
    mixed = 0
    for start, end in _ETHEREUM.finditer(text):
        address = text[start:end]
        digits = address[2:]
        if digits.lower() != digits and digits.upper() != digits:
            mixed += 1
            if mixed <= MOST_MIXED and not ethereum(address):
                continue
        if len(set(digits)) > 1:  # the zero address is nobody's
            yield start, end


CRYPTO_ADDRESS: Final = CryptoDetector()
"""Finds `crypto_address`."""
