"""Check digits: sums that tell a number that was given out from one that only looks like it.

Each function takes what is left after separators were taken out, and answers False for everything
that is not of its form. A sum finds every single wrong digit; one number in ten (Luhn), eleven
(modulus 11) or ninety-seven (modulus 97) that is none passes by chance.
"""

from __future__ import annotations

from typing import Final

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""A digit doubled, and the digits of that added (ISO/IEC 7812-1, annex B)."""

_MRZ_WEIGHTS: Final = (7, 3, 1)


def are_digits(text: str) -> bool:
    """Whether there are ASCII digits and nothing else."""
    return text.isascii() and text.isdigit()


def luhn(digits: str) -> bool:
    """Payment cards: the "Luhn formula", modulus 10 double-add-double (ISO/IEC 7812-1, annex B).

    From the right, every second digit counts double; the digits of all that add up to a multiple
    of ten.
    """
    if len(digits) < 2 or not are_digits(digits):
        return False
    values = [*map(int, reversed(digits))]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0


def mod_97(text: str) -> bool:
    """IBANs: ISO/IEC 7064 MOD 97-10, as ISO 13616-1 uses it.

    The first four characters go to the end, letters become 10 to 35, and the number that this
    spells leaves 1 when it is divided by 97. Check digits 00, 01 and 99 are never given.
    """
    if len(text) < 5 or not (text.isascii() and text.isalnum()):
        return False
    if not text[2:4].isdigit() or not 2 <= int(text[2:4]) <= 98:
        return False
    moved = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def mod_11_nhs(digits: str) -> bool:
    """NHS numbers: modulus 11 (NHS Data Model and Dictionary, "NHS NUMBER").

    Nine digits are weighted 10 down to 2; the tenth is 11 less the remainder of their sum, where
    11 is written 0 and 10 is never given out.
    """
    if len(digits) != 10 or not are_digits(digits):
        return False
    weighted = sum(
        int(digit) * weight for digit, weight in zip(digits[:9], range(10, 1, -1), strict=True)
    )
    check = (11 - weighted % 11) % 11
    return check != 10 and check == int(digits[9])


def mrz_check(field: str, check: str) -> bool:
    """Machine-readable zones of passports (ICAO Doc 9303 part 3, 4.9).

    Characters count 0 to 9, A to Z as 10 to 35, the filler `<` as 0, weighted 7, 3, 1 again and
    again; the sum modulo 10 is the check digit. A filler stands for the digit of an empty field.
    """
    if len(check) != 1 or not set(field) <= _MRZ_CHARACTERS:
        return False
    if check == "<":
        return not field.strip("<")
    total = sum(_mrz_value(c) * _MRZ_WEIGHTS[i % 3] for i, c in enumerate(field))
    return check == str(total % 10)


_MRZ_CHARACTERS: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ<")


def _mrz_value(character: str) -> int:
    return 0 if character == "<" else int(character, 36)
