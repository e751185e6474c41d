"""What the ids of models say: whose they are, and what the cards call them.

A model goes by the vendor's id (`anthropic.claude-sonnet-4-5-20250929-v1:0`), by that of a
cross-region inference profile (`us.anthropic. ...`), or by an ARN. Profiles and deployments of an
account's own have ids that say nothing; which model is behind them has to be told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import attrs

from lamella._nothing import NOTHING

_GEOGRAPHY: Final = re.compile(r"(?:us-gov|apac|global|[a-z]{2})\.(?=[a-z0-9-]+\.)")
"""In front of the vendor: where an inference profile may send a request."""

_TELLING: Final = frozenset({"foundation-model", "inference-profile", "custom-model"})
"""Resources whose names begin with a model's id."""

_BY_TOKEN: Final = frozenset(
    {"", "foundation-model", "inference-profile", "application-inference-profile"}
)
"""Resources that are billed by the token; none is a plain id."""

_ARN_PARTS: Final = 5


@attrs.frozen
class ModelNames:
    """Reads the ids of models.

    Attributes:
        behind: The model's id behind ids that do not say it, such as the ARN of an application
            inference profile.
    """

    behind: Mapping[str, str] = attrs.field(default=NOTHING, hash=False)

    def priced(self, model: str) -> str:
        """What a price list calls a model: its id, with where an inference profile may send it.

        What is not billed by the token, as provisioned throughput is by the hour, keeps its ARN.
        """
        kind, _ = _resource(model)
        known = self.behind.get(model, model) if kind in _BY_TOKEN else model
        kind, name = _resource(known)
        return name if kind in _BY_TOKEN and kind in _TELLING else known

    def base(self, model: str) -> str:
        """The vendor's id of a model, as its card is called; the id itself if nothing is known."""
        known = self.behind.get(model, model)
        kind, name = _resource(known)
        if kind:
            if kind not in _TELLING:
                return known
            known = name
        return _GEOGRAPHY.sub("", known, count=1) if _GEOGRAPHY.match(known) else known

    def family(self, model: str | None) -> str:
        """Whose model it is: `anthropic`, `amazon` ...; empty if its id does not say."""
        base = self.base(model or "")
        vendor, dot, _ = base.partition(".")
        return vendor if dot and not base.startswith("arn:") else ""


def _resource(model: str) -> tuple[str, str]:
    """The kind of resource that an ARN names, and its name; without a kind for any other id."""
    if not model.startswith("arn:"):
        return "", model
    parts = model.split(":", _ARN_PARTS)
    kind, _, name = parts[-1].partition("/")
    return (kind, name.partition("/")[0]) if len(parts) > _ARN_PARTS else ("arn", model)


def quoted(model: str) -> str:
    """A model's id as one segment of a path, colons and slashes of ARNs included."""
    return quote(model, safe="-._~")
