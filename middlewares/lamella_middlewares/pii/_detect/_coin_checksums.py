"""The checksums in addresses of crypto currencies.

Base58Check: the Bitcoin wiki; the Ripple ledger has an alphabet of its own. Bech32 and bech32m: BIP
173 and BIP 350. CashAddr: the Bitcoin Cash specification. Stellar: SEP-23. Ethereum: EIP-55.
"""

from __future__ import annotations

import base64
from binascii import Error, crc_hqx
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from lamella_middlewares.pii._detect._keccak import keccak_256

BITCOIN: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
RIPPLE: Final = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
_VALUES: Final = {
    alphabet: {character: value for value, character in enumerate(alphabet)}
    for alphabet in (BITCOIN, RIPPLE)
}
_BECH32: Final = {c: value for value, c in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_BECH32_STEPS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CASH_STEPS: Final = (0x98F2BC8E61, 0x79B76D99E2, 0xF33E5FB3C4, 0xAE2EABE2A8, 0x1E4F43E470)


def base58check(text: str, alphabet: str = BITCOIN) -> bytes | None:
    """The payload with its version, or None where the checksum does not hold."""
    values = _VALUES[alphabet]
    number = 0
    for character in text:
        value = values.get(character)
        if value is None:
            return None
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip(alphabet[0]))
    data = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(data) < 5:
        return None
    payload, check = data[:-4], data[-4:]
    return payload if sha256(sha256(payload).digest()).digest()[:4] == check else None


def _remainder(values: Iterable[int], steps: Sequence[int], top: int) -> int:
    """Of the polynomial with these coefficients, by the code's generator."""
    low = (1 << top) - 1
    checksum = 1
    for value in values:
        high = checksum >> top
        checksum = ((checksum & low) << 5) ^ value
        for bit, step in enumerate(steps):
            if high >> bit & 1:
                checksum ^= step
    return checksum


def _of_bech32(data: str) -> list[int] | None:
    try:
        return [_BECH32[character] for character in data]
    except KeyError:
        return None


def bech32(text: str) -> bool:
    """Whether its checksum holds, in the older or the newer form. One case throughout."""
    if text not in (text.lower(), text.upper()):
        return False
    prefix, _, data = text.lower().rpartition("1")
    values = _of_bech32(data)
    if values is None or len(values) < 6 or not prefix:
        return False
    letters = prefix.encode("ascii", "replace")
    spread = [*(c >> 5 for c in letters), 0, *(c & 31 for c in letters)]
    return _remainder((*spread, *values), _BECH32_STEPS, 25) in (1, 0x2BC830A3)


def cash_address(text: str) -> bool:
    """Whether a CashAddr's checksum holds; `bitcoincash:` may be left out."""
    prefix, _, data = text.lower().rpartition(":")
    values = _of_bech32(data)
    if values is None or len(values) < 8:
        return False
    letters = (c & 31 for c in (prefix or "bitcoincash").encode("ascii", "replace"))
    return _remainder((*letters, 0, *values), _CASH_STEPS, 35) == 1


def stellar(text: str) -> bool:
    """Whether 56 characters of base32 are an account: version, 32 bytes, CRC-16/XMODEM."""
    try:
        data = base64.b32decode(text)
    except (Error, ValueError):
        return False
    return data[0] == 6 << 3 and crc_hqx(data[:-2], 0).to_bytes(2, "little") == data[-2:]


def ethereum(text: str) -> bool:
    """Whether the case of the 40 digits is that of EIP-55. All in one case has no checksum."""
    digits = text[2:]
    lower = digits.lower()
    if digits in (lower, digits.upper()):
        return True
    digest = keccak_256(lower.encode()).hex()
    return all(
        character == (low.upper() if int(nibble, 16) >= 8 else low)
        for character, low, nibble in zip(digits, lower, digest, strict=False)
    )
