"""stub, being written"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella._errors import LamellaError


def status_error(
    status: int, body: bytes, headers: Mapping[str, str], *, provider: str
) -> LamellaError:
    raise NotImplementedError


def in_band_error(error: Mapping[str, Any], *, provider: str) -> LamellaError:
    raise NotImplementedError
