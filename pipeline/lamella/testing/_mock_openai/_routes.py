"""Which API an address stands for, OpenAI's and Azure's, and who may use it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

import attrs

from lamella._mock_rejections import Rejection

API: TypeAlias = Literal["chat", "responses", "token_count", "embeddings", "moderation", "models"]

_APIS: dict[str, API] = {
    "chat/completions": "chat",
    "responses/input_tokens": "token_count",
    "responses": "responses",
    "embeddings": "embeddings",
    "moderations": "moderation",
    "models": "models",
}
_NAMES = "|".join(_APIS)
_PLAIN = re.compile(rf"/(?P<azure>openai/)?v1/(?P<api>{_NAMES})(?:/(?P<model>.+))?")
_DEPLOYMENT = re.compile(
    r"/openai/deployments/(?P<model>[^/]+)/(?P<api>chat/completions|embeddings)"
)
_VERSIONED = re.compile(r"/openai/(?P<api>responses|models)")


@attrs.frozen
class Place:
    """What an address stands for.

    Attributes:
        api: Which API.
        azure: Whether it is Azure's form of it.
        name: The deployment, or the model that is asked about; None where the path names none.
    """

    api: API
    azure: bool = False
    name: str | None = None


def find_place(method: str, path: str, query: Mapping[str, str]) -> Place:
    """What an address stands for.

    Raises:
        Rejection: If there is nothing, or it does not take the method.
    """
    place = _place(path, query)
    if place is None:
        raise Rejection(404, None, f"Invalid URL ({method} {path})")
    if method != ("GET" if place.api == "models" else "POST"):
        message = f"Not allowed to {method} on {path}."
        raise Rejection(405, "method_not_supported", message)
    return place


def _place(path: str, query: Mapping[str, str]) -> Place | None:
    if found := _PLAIN.fullmatch(path):
        name = found["model"]
        api = _APIS[found["api"]]
        if name is not None and api != "models":
            return None
        if found["azure"] and api in {"token_count", "moderation"}:
            return None  # Azure does neither
        return Place(api, found["azure"] is not None, name)
    if found := _DEPLOYMENT.fullmatch(path) or _VERSIONED.fullmatch(path):
        if "api-version" not in query:
            raise Rejection(404, "404", "Resource not found")
        return Place(_APIS[found["api"]], azure=True, name=found.groupdict().get("model"))
    return None


def check_key(place: Place, headers: Mapping[str, str], keys: Collection[str]) -> None:
    """Refuse who has no key.

    Raises:
        Rejection: If there is no key, or it is none of `keys`.
    """
    if not keys:
        return
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    given = bearer if scheme.lower() == "bearer" else ""
    if place.azure:
        given = given or headers.get("api-key", "")
        if given not in keys:
            message = "Access denied due to invalid subscription key or wrong API endpoint."
            raise Rejection(401, "401", message)
    elif not given:
        raise Rejection(401, None, "You didn't provide an API key in an Authorization header.")
    elif given not in keys:
        raise Rejection(401, "invalid_api_key", "Incorrect API key provided.")


def matching(rules: Mapping[str, object], path: str) -> str | None:
    """The rule for a path: the longest key with which the path ends; None if there is none."""
    found = [end for end in rules if path.endswith(end)]
    return max(found, key=len) if found else None


def deployment_of(path: str) -> str | None:
    """The deployment that a path names; None if it names none."""
    found = _DEPLOYMENT.fullmatch(path)
    return None if found is None else found["model"]


def is_azure(path: str) -> bool:
    """Whether a path is one of Azure's."""
    return path.startswith("/openai/")
