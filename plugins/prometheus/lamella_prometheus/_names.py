"""Names of metrics in queries: `@requests_total` stands for the one with the prefix."""

from __future__ import annotations

import re
from typing import Final

METRIC: Final = re.compile(r"@([a-z_]+)")


def prefixed(query: str, prefix: str) -> str:
    """The query with the names that are scraped."""
    return METRIC.sub(lambda found: f"{prefix}_{found[1]}", query)
