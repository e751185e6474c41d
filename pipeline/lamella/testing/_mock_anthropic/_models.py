"""The models that Anthropic's API lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from lamella._mock_answers import CONTEXT_TOKENS
from lamella._mock_rejections import Rejection
from lamella.testing._mock_anthropic._requests import OUTPUT_TOKENS
from lamella.testing._mock_openai._requests import JSON

MODELS: Final = ("mock", "mock-small", "mock-reasoning")
_YES: Final = {"supported": True}
_NO: Final = {"supported": False}
_CAPABILITIES: Final[JSON] = {
    "batch": _NO,
    "citations": _YES,
    "code_execution": _NO,
    "context_management": {"supported": False},
    "effort": {
        "supported": True, "low": _YES, "medium": _YES, "high": _YES, "xhigh": _YES, "max": _YES,
    },
    "image_input": _YES,
    "pdf_input": _YES,
    "server_tools": {"supported": True, "web_search": _YES, "code_execution": _NO},
    "structured_outputs": _YES,
    "thinking": {
        "supported": True,
        "types": {"adaptive": _YES, "between_tools": _YES, "disabled": _YES, "enabled": _YES},
    },
}  # fmt: skip


def models_document(known: Collection[str] | None, query: Mapping[str, str]) -> JSON:
    """A page of the models.

    Args:
        known: Those that there are; None for the usual ones.
        query: The parameters of the address.

    Raises:
        Rejection: If the page is none.
    """
    names = list(MODELS if known is None else known)
    limit = query.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
        raise Rejection(400, None, "limit: Input should be from 1 to 1000")
    size = int(limit)
    if (before := query.get("before_id")) is not None:
        found = names[: _place(names, before)]
        page, more = found[-size:], len(found) > size
    else:
        after = query.get("after_id")
        found = names if after is None else names[_place(names, after) + 1 :]
        page, more = found[:size], len(found) > size
    return {
        "data": [model_document(name) for name in page],
        "has_more": more,
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }


def model_document(name: str) -> JSON:
    """What is told of a model."""
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": "2025-01-01T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": CONTEXT_TOKENS,
        "max_tokens": OUTPUT_TOKENS,
        "capabilities": _CAPABILITIES,
    }


def no_model(name: str) -> Rejection:
    """What is said where there is no such model."""
    return Rejection(404, "model_not_found", f"model: {name}")


def _place(names: list[str], name: str) -> int:
    if name not in names:
        raise no_model(name)
    return names.index(name)
