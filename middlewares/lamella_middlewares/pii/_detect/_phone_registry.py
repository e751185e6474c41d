"""What the package `phonenumbers` knows about telephone numbers, where it is installed."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Final

MOST_UNKNOWN: Final = 500
"""Numbers of one text that the package may find wrong, at some 20 microseconds each.

Behind these it is not asked any more, so that a text full of them costs no more.
"""


class Registry:
    """Says of the numbers of one text whether they are given out."""

    __slots__ = ("_left", "_package")

    def __init__(self) -> None:
        self._package = _package()
        self._left = 0 if self._package is None else MOST_UNKNOWN

    def answers(self) -> bool:
        """Whether it can be asked."""
        return self._left > 0

    def knows(self, code: str, national: str) -> bool:
        """Whether a number behind a calling code is one of those given out there."""
        package = self._package
        if national[0] != "0":
            # Most are written as they are: that spares the reading.
            number = package.PhoneNumber(country_code=int(code), national_number=int(national))
            if package.is_valid_number(number):
                return True
        try:
            number = package.parse(f"+{code}{national}", None)
        except package.NumberParseException:
            return self._none()
        return package.is_valid_number(number) or self._none()

    def knows_in(self, region: str, national: str) -> bool:
        """The same of a number within a country, without a 0 in front."""
        package = self._package
        code = package.country_code_for_region(region)
        number = package.PhoneNumber(country_code=code, national_number=int(national))
        return package.is_valid_number_for_region(number, region) or self._none()

    def _none(self) -> bool:
        self._left -= 1
        return False


@cache
def _package() -> Any:
    """The package; None where it is not installed."""
    try:
        return importlib.import_module("phonenumbers")
    except ImportError:
        return None
