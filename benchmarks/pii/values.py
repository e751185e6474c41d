"""Made-up values of every kind, with check digits computed here and not by what is measured."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import random
import string
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

DIGITS: Final = string.digits
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

_FIRST: Final = (
    "anna",
    "jürgen",
    "maría",
    "piotr",
    "noor",
    "li.wei",
    "o'brien",
    "jean-luc",
    "kofi",
)
_LAST: Final = ("smith", "müller", "garcia", "nowak", "rossi", "tanaka", "dubois", "vandenberg")
_DOMAINS: Final = ("example.com", "example.co.uk", "mail.example.org", "beispiel.de", "exemple.fr")

_CARDS: Final = (
    *(("4", 16), ("4", 13), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15)),
    *(("6011", 16), ("65", 16), ("3528", 16), ("36", 14), ("300", 14), ("62", 16), ("5018", 12)),
    *(("6304", 19), ("2200", 16), ("6759", 18)),
)
"""Prefixes and lengths of issuers, by ISO/IEC 7812's register as published by the networks."""

_IBANS: Final = {
    "DE": "NNNNNNNNNNNNNNNNNN",
    "GB": "AAAANNNNNNNNNNNNNN",
    "FR": "NNNNNNNNNNNNNNNNNNNNNNN",
    "NL": "AAAANNNNNNNNNN",
    "ES": "NNNNNNNNNNNNNNNNNNNN",
    "CH": "NNNNNNNNNNNNNNNNN",
    "PL": "NNNNNNNNNNNNNNNNNNNNNNNN",
    "NO": "NNNNNNNNNNN",
    "SA": "NNNNNNNNNNNNNNNNNNNN",
}
"""Lengths of national account numbers: SWIFT's register."""

_PHONES: Final = (
    *("(212) 2##-####", "415-6##-####", "+1 646 2## ####", "1-312-4##-####", "713.5##.####"),
    *("+44 20 7946 0###", "07700 900###", "0161 496 0###", "+44 (0)20 7946 0###"),
    *("+49 30 2#######", "030 / 2#######", "0151 1#######", "0049 89 3#######", "+4917612345###"),
    *("06 12 ## ## ##", "+33 1 42 ## ## ##", "01.42.##.##.##", "+34 612 ### ###", "912 34# ###"),
    *("+39 06 69## ####", "347 12# ####", "06-12######", "+31 20 5## ####", "+48 501 ### ###"),
    *("+91 98########", "+81 90-12##-####", "090-12##-####", "+55 11 9####-####"),
    *("(11) 9####-####", "0412 3## ###", "+61 2 92## ####", "+86 138 #### ####", "010-2###-####"),
    *("+7 912 ###-##-##", "+27 82 ### ####", "+52 55 5### ####", "+41 44 2## ## ##"),
)
"""As people write them, by the numbering plans of the countries."""

_STREETS: Final = (
    *("{n} Main Street, Springfield, IL 627##", "{n} Oak Avenue, Apt. {m}, Portland, OR 972##"),
    *("{n} High Street, London SW1A 2AA", "{n} Church Lane, Leeds LS1 4AP", "P.O. Box {n}"),
    *("Hauptstraße {n}, 101## Berlin", "{n} rue de la Paix, 750## Paris"),
    *("Calle Mayor {n}, 280## Madrid", "Via Roma {n}, 001## Roma", "{n} W 34th St, New York"),
)


def luhn_digit(number: str) -> str:
    """The check digit of a number: ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def _digits(rng: random.Random, number: int) -> str:
    return "".join(rng.choice(DIGITS) for _ in range(number))


def _some(rng: random.Random, alphabet: str, number: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(number))


def _grouped(text: str, sizes: tuple[int, ...], sign: str) -> str:
    pieces: list[str] = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
        if not text:
            break
    return sign.join([*pieces, text] if text else pieces)


def _filled(rng: random.Random, form: str) -> str:
    return "".join(rng.choice(DIGITS) if sign == "#" else sign for sign in form)


def _email(rng: random.Random) -> str:
    first, last, domain = rng.choice(_FIRST), rng.choice(_LAST), rng.choice(_DOMAINS)
    sign = rng.choice(["", ".", "_", "-"])
    tag = rng.choice(["", "", f"+{rng.choice(['news', 'shop'])}", str(rng.randrange(1, 99))])
    made = f"{first}{sign}{last}{tag}@{domain}"
    return rng.choice([made, made, made.upper(), made.title()])


def _phone(rng: random.Random) -> str:
    return _filled(rng, rng.choice(_PHONES))


def _card(rng: random.Random) -> str:
    prefix, length = rng.choice(_CARDS)
    body = prefix + _digits(rng, length - len(prefix) - 1)
    number = body + luhn_digit(body)
    sizes = (4, 6, 5) if length in {14, 15} else (4, 4, 4, 4)
    return _grouped(number, sizes, rng.choice(["", " ", "-", " ", "."]))


def _iban(rng: random.Random) -> str:
    country, form = rng.choice(sorted(_IBANS.items()))
    body = "".join(rng.choice(DIGITS if sign == "N" else string.ascii_uppercase) for sign in form)
    value = "".join(str(int(sign, 36)) for sign in f"{body}{country}00")
    made = f"{country}{98 - int(value) % 97:02d}{body}"
    spaced = " ".join(made[place : place + 4] for place in range(0, len(made), 4))
    return rng.choice([made, spaced, spaced, made.lower()])


def _ssn(rng: random.Random) -> str:
    area = rng.choice([number for number in range(1, 900) if number != 666])
    parts = (f"{area:03d}", f"{rng.randrange(1, 100):02d}", f"{rng.randrange(1, 10000):04d}")
    return rng.choice(["-", "-", " "]).join(parts)


def _itin(rng: random.Random) -> str:
    group = rng.choice([*range(50, 66), *range(70, 89), *range(90, 93), *range(94, 100)])
    return f"9{_digits(rng, 2)}-{group}-{_digits(rng, 4)}"


def _nhs(rng: random.Random) -> str:
    while True:
        body = rng.choice("4679") + _digits(rng, 8)
        check = 11 - sum(int(digit) * (10 - place) for place, digit in enumerate(body)) % 11
        if check != 10:
            made = body + str(check % 11)
            return _grouped(made, (3, 3, 4), rng.choice([" ", " ", "-", ""]))


def _nino(rng: random.Random) -> str:
    prefix = rng.choice(["AB", "CE", "HJ", "JK", "PA", "SN", "WK", "YZ"])
    made = f"{prefix}{_digits(rng, 6)}{rng.choice('ABCD')}"
    return _grouped(made, (2, 2, 2, 2, 1), rng.choice(["", " "]))


def _passport(rng: random.Random) -> str:
    digits = _digits(rng, 8)
    forms = (f"{rng.randrange(1, 9)}{digits}", f"C01X{digits[:2]}T{digits[2:4]}", f"X{digits}")
    return rng.choice(forms)


def _licence(rng: random.Random) -> str:
    digits = _digits(rng, 12)
    return rng.choice([f"D{digits[:7]}", f"{digits[:9]}", f"A{digits}", f"S{digits[:8]}"])


def _ip(rng: random.Random) -> str:
    if rng.random() < 0.6:
        number = rng.randrange(0x01000000, 0xDF000000)
        return str(ipaddress.IPv4Address(number if number >> 24 != 127 else number + (1 << 24)))
    address = ipaddress.IPv6Address((0x20010DB8 << 96) | rng.getrandbits(rng.choice([16, 64, 96])))
    return rng.choice([str(address), address.exploded, str(address).upper()])


def _mac(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(48):012x}"
    sign = rng.choice([":", ":", "-"])
    made = sign.join(digits[place : place + 2] for place in range(0, 12, 2))
    return rng.choice([made, made.upper()])


def _secret(rng: random.Random) -> str:
    return _some(rng, string.ascii_letters + DIGITS, rng.randrange(8, 20))


def _api_key(rng: random.Random) -> str:
    mixed = string.ascii_letters + DIGITS
    forms = (
        "sk-proj-" + _some(rng, mixed, 48),
        "sk-ant-api03-" + _some(rng, mixed, 93) + "AA",
        "AIza" + _some(rng, mixed, 35),
        "AKIA" + _some(rng, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
        "ghp_" + _some(rng, mixed, 36),
        "glpat-" + _some(rng, mixed, 20),
        "hf_" + _some(rng, string.ascii_letters, 34),
        f"xoxb-{_digits(rng, 12)}-{_digits(rng, 12)}-" + _some(rng, mixed, 24),
        "sk_live_" + _some(rng, mixed, 24),
        "npm_" + _some(rng, mixed, 36),
        "SG." + _some(rng, mixed, 22) + "." + _some(rng, mixed, 43),
    )
    return rng.choice(forms)


def _jwt(rng: random.Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signature = base64.urlsafe_b64encode(rng.randbytes(32)).rstrip(b"=").decode()
    subject = {"sub": _digits(rng, 10), "iat": 1_700_000_000 + rng.randrange(10**7)}
    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(subject)}.{signature}"


def _base58check(version: int, payload: bytes) -> str:
    body = bytes([version]) + payload
    body += hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4]
    number, made = int.from_bytes(body, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        made = _BASE58[rest] + made
    return "1" * (len(body) - len(body.lstrip(b"\0"))) + made


def _segwit(payload: bytes) -> str:
    """A version 0 address of twenty bytes: BIP 173."""
    bits = int.from_bytes(payload, "big")
    data = [0, *((bits >> shift) & 31 for shift in range(155, -1, -5))]
    checked = [3, 3, 0, 2, 3, *data, 0, 0, 0, 0, 0, 0]
    total = 1
    for value in checked:
        top = total >> 25
        total = (total & 0x1FFFFFF) << 5 ^ value
        for place, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            total ^= term if (top >> place) & 1 else 0
    total ^= 1
    data += [(total >> 5 * (5 - place)) & 31 for place in range(6)]
    return "bc1" + "".join(_BECH32[value] for value in data)


def _crypto(rng: random.Random) -> str:
    payload = rng.randbytes(20)
    forms = (_base58check(0, payload), _base58check(5, payload), _segwit(payload))
    return rng.choice([*forms, "0x" + payload.hex()])


def _birth(rng: random.Random) -> str:
    year, month, day = rng.randrange(1930, 2012), rng.randrange(1, 13), rng.randrange(1, 29)
    name = ("January", "March", "May", "June", "August", "October")[month % 6]
    forms = (
        f"{year}-{month:02d}-{day:02d}",
        f"{day:02d}/{month:02d}/{year}",
        f"{month}/{day}/{year}",
        f"{day:02d}.{month:02d}.{year}",
        f"{day} {name} {year}",
        f"{name} {day}, {year}",
    )
    return rng.choice(forms)


def _address(rng: random.Random) -> str:
    form = rng.choice(_STREETS)
    return _filled(rng, form.format(n=rng.randrange(1, 400), m=rng.randrange(1, 90)))


def _url(rng: random.Random) -> str:
    host = rng.choice(["example.com", "www.example.org", "shop.example.co.uk", "docs.example.io"])
    path = rng.choice(["", "/", "/a/b?id=7", "/wiki/Rain_(weather)", "/#top", ":8443/status"])
    scheme = "" if host.startswith("www.") and rng.random() < 0.5 else "https://"
    return f"{scheme}{host}{path}"


VALUES: Final[Mapping[str, Callable[[random.Random], str]]] = MappingProxyType(
    {
        "email": _email,
        "phone": _phone,
        "card": _card,
        "iban": _iban,
        "us_ssn": _ssn,
        "us_itin": _itin,
        "uk_nhs": _nhs,
        "uk_nino": _nino,
        "passport": _passport,
        "driver_licence": _licence,
        "ip": _ip,
        "mac": _mac,
        "url_credentials": _secret,
        "url": _url,
        "api_key": _api_key,
        "jwt": _jwt,
        "crypto_address": _crypto,
        "date_of_birth": _birth,
        "postal_address": _address,
    }
)
"""What makes a value of each kind."""
