"""Keys, tokens, private keys, JSON Web Tokens, and addresses of crypto currencies."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from itertools import product

import pytest
from detecting import ENGINES, engine, values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella_middlewares.pii._detect._api_key import API_KEY, LONGEST_BLOCK
from lamella_middlewares.pii._detect._coin_checksums import ethereum
from lamella_middlewares.pii._detect._crypto import CRYPTO_ADDRESS, MOST_MIXED
from lamella_middlewares.pii._detect._jwt import JWT
from lamella_middlewares.pii._detect._keccak import keccak_256
from lamella_middlewares.pii._detect._key_formats import FORMATS

EXPRESSIONS = [expression for _, expression in FORMATS]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_key_of_every_format_is_found(expression: str, data: st.DataObject) -> None:
    """Whatever the format gives, as a value, in quotes, or behind `=`, is found, unless filler."""
    key = data.draw(st.from_regex(re.compile(expression, re.ASCII), fullmatch=True))
    match = re.fullmatch(expression, key)
    assert match is not None
    secret = match[1] if match.re.groups else key
    if len(set(secret)) < 8 or (secret[:3] == "sk-" and not re.search("[0-9]", secret)):
        return
    for name, text in product(ENGINES, (f"the key {key} is", f'KEY="{key}"', f"k={key}")):
        with engine(name):
            found = values(API_KEY, text)
        assert any(secret in value or value in secret for value in found), (key, found)
        assert max(map(len, found)) >= len(secret) - 3  # a dot may end the sentence


HEADERS = {
    "Authorization: Bearer abcdef0123456789abcdef": ["abcdef0123456789abcdef"],
    "authorization: basic dXNlcjpwYXNzd29yZA==": ["dXNlcjpwYXNzd29yZA=="],
    '"Authorization": "Token 9944b09199c62bcf9418ad846dd0e4bb"': [
        "9944b09199c62bcf9418ad846dd0e4bb"
    ],
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": [
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    ],
    '"client_secret": "a8F9k2L0q3X7z1C5"': ["a8F9k2L0q3X7z1C5"],
    r'{"x":"the key\nsk-abcdefGHIJ0123456789\n"}': ["sk-abcdefGHIJ0123456789"],
    "API key: 8f14e45fceea167a5a36dedd4bea2543": ["8f14e45fceea167a5a36dedd4bea2543"],
    "the access token is 8f14e45fceea167a5a36dedd4bea2543.": ["8f14e45fceea167a5a36dedd4bea2543"],
    "token = next_token_of_the_list": [],
    "basic_credentials = base64.b64encode(user_pass)": [],
    "the secret = lookup_v2_table64[name]": [],
    "password is very important for everybody": [],
    "basic information about aaaaaaaaaaaaaaaa": [],
    "Bearer of bad news and otherwise fine": [],
    "sk-some-long-css-class-name-here": [],
    "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": [],
    "task-1234567890abcdefghijklmnop": [],
    "AKIA" + "IOSFODNN7EXAMPLEMORE": [],
    "key-value: 12": [],
}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("text", HEADERS)
def test_a_value_that_is_named_a_secret_must_look_random(name: str, text: str) -> None:
    """Headers and assignments give secrets away; words, fillers and names do not."""
    with engine(name):
        assert values(API_KEY, text) == HEADERS[text]


BODY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc/+=\n"
END = "-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"x {BODY}{END} y", [BODY + END]),
        (f"x {BODY}", [BODY]),
        (f"{BODY}{END}\n{BODY}{END}", [BODY + END] * 2),
        (json.dumps(BODY + END), [json.dumps(BODY + END)[1:-1]]),
        ("-----BEGIN CERTIFICATE-----\nMIIEpAIBAAKCAQEA\n-----END CERTIFICATE-----", []),
        ("-----BEGIN PUBLIC KEY-----\nMIIEpAIBAAKCAQEA\n", []),
    ],
)
def test_a_private_key_is_found_from_beginning_to_end(text: str, found: list[str]) -> None:
    """PEM blocks whole, more than one, escaped in JSON, or as far as they go."""
    spans = [text[f.start : f.end] for f in API_KEY.find(text)]
    assert spans == found


def test_a_block_without_end_takes_no_prose_with_it() -> None:
    """What follows a block that is never closed is found only as far as it could be of the key."""
    text = BODY + "(and this is prose)" + "x" * LONGEST_BLOCK
    assert values(API_KEY, text) == [BODY]


def token(header: object, parts: int = 3) -> str:
    """A token with this header and so many parts."""
    first = urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return ".".join([first, *["eyJzdWIiOiIxIn0", "c2lnbmF0dXJl", "YWJj", "ZGVm"][: parts - 1]])


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        (token({"alg": "HS256"}), True),
        (token({"alg": "RSA-OAEP", "enc": "A256GCM"}, 5), True),
        (token({"alg": "none"}, 2) + ".", True),
        (token({"typ": "x"}), False),
        (token(["alg"]), False),
        ("eyes.are.open", False),
        ("eyJhbGciOi.x.y", False),
        (token({"alg": "HS256"}, 2), False),
    ],
)
def test_a_token_is_one_by_its_header(name: str, text: str, found: bool) -> None:
    """The first part says which algorithm; without it the dots are those of a name."""
    with engine(name):
        assert values(JWT, f"see {text} there") == ([text] if found else [])


ADDRESSES = (
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh",
    "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a",
    "qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a",
    "GA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJVSGZ",
    "addr1vx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzers66hrl8",
    "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
    "LM2WMpR1Rp6j3Sa59cMXMs1SPzj9eXpGc1",
    "DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L",
    "t1Hsc1LR8yKnbbe3twRp88p6vFfC5t7DLbs",
)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_found_by_its_checksum(name: str, address: str) -> None:
    """Each family's address is found."""
    with engine(name):
        assert values(CRYPTO_ADDRESS, f"to {address}.") == [address]


@given(st.sampled_from(ADDRESSES), st.integers(3, 200), st.integers(1, 30))
def test_an_address_with_a_wrong_character_is_none(address: str, place: int, step: int) -> None:
    """One changed character breaks the checksum, in every family."""
    place = 14 + place % (len(address) - 14)
    letters = sorted({c for c in address[14:] if c.isalnum()})
    old = address[place]
    new = letters[(letters.index(old) + step) % len(letters)] if old in letters else old
    changed = address[:place] + new + address[place + 1 :]
    if new == old or (address[:2] == "0x" and new.lower() == new.upper() == old):
        return
    assert values(CRYPTO_ADDRESS, changed) == []


def test_ethereum_without_case_has_no_checksum() -> None:
    """All small or all capital digits are an address; zeros and longer numbers are not."""
    address = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
    assert values(CRYPTO_ADDRESS, address) == [address]
    assert values(CRYPTO_ADDRESS, "0x" + "0" * 40) == []
    assert values(CRYPTO_ADDRESS, address + "00") == []
    assert not ethereum("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD")


def test_keccak_is_that_of_ethereum() -> None:
    """The digests are the published ones, of nothing and of more than one block."""
    assert keccak_256(b"").hex() == (
        "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    )
    assert keccak_256(b"testing").hex() == (
        "5f16f4c7f149ac4f9510d9cf8cf384038ad348b3bcdc01915f95de12df9d1b02"
    )


def test_checksums_are_worked_out_for_so_many_addresses_only() -> None:
    """A text full of wrong addresses costs no more: behind the first ones they are believed."""
    wrong = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD "
    assert len(list(CRYPTO_ADDRESS.find(wrong * (MOST_MIXED + 5)))) == 5
