"""Which of Google's APIs an address stands for: AI Studio's or Vertex AI's, and who may use it."""

from __future__ import annotations

import re
from collections.abc import Collection

import attrs

from lamella._mock_rejections import Rejection
from lamella.testing._http_wire import Received

_STUDIO = re.compile(
    r"/(?P<version>v1|v1beta|v1alpha)/(?P<kind>models|tunedModels)(?:/(?P<rest>.+))?"
)
_VERTEX = re.compile(
    r"/(?P<version>v1|v1beta1)/(?P<project>projects/[^/]+/locations/[^/]+/)?"
    r"(?:publishers/google/models|endpoints)(?:/(?P<rest>.+))?"
)
_CALL = re.compile(r"(?P<model>.+):(?P<method>[A-Za-z]+)")

_COMMON = ("generateContent", "streamGenerateContent", "countTokens", "embedContent",
           "batchEmbedContents")  # fmt: skip
METHODS = (*_COMMON, "predict")


@attrs.frozen(kw_only=True)
class Place:
    """What an address stands for.

    Attributes:
        method: Such as `generateContent`; `models` for the list of models or one of them.
        version: Such as `v1beta`.
        vertex: Whether it is Vertex AI.
        project: Whether the path names a project, so that only a token opens it.
        model: The model, with what is to go wrong; None for the list of all.
        resource: What the API calls the model in its own words.
        array: Whether a stream is to be one JSON array and not server-sent events.
    """

    method: str
    version: str
    vertex: bool = False
    project: bool = False
    model: str | None = None
    resource: str = ""
    array: bool = False


def is_google(received: Received) -> bool:
    """Whether an address is one of Google's.

    `GET /v1/models` is OpenAI's address too; who sends Google's headers or key means Google's.
    """
    path = received.path
    if path.startswith(("/v1beta/openai/", "/v1beta1/openai/")) or "/publishers/" in path:
        return "/publishers/google/" in path or path.endswith("/publishers/google/models")
    if path.startswith(("/v1beta/", "/v1alpha/", "/v1beta1/", "/v1/projects/")):
        return True
    place = _place(received)
    if place is None:
        return False
    headers = received.headers
    own = "x-goog-api-key" in headers or "x-goog-api-client" in headers or "key" in received.query
    return place.method != "models" or own


def model_of(received: Received) -> str | None:
    """The model in the path of a request, as it stands there."""
    place = _place(received)
    return None if place is None else place.model


def find_place(received: Received) -> Place:
    """What an address stands for.

    Raises:
        Rejection: If there is nothing, or it does not take the method.
    """
    place, method = _place(received), received.method
    if place is None or method != ("GET" if place.method == "models" else "POST"):
        message = f"There is nothing at {method} {received.path} in this API."
        raise Rejection(404, "not_found", message)
    return place


def _place(received: Received) -> Place | None:
    path = received.path
    studio = _STUDIO.fullmatch(path)
    found = studio or _VERTEX.fullmatch(path)
    if found is None:
        return None
    rest = found["rest"]
    vertex = studio is None
    groups = found.groupdict()
    array = received.query.get("alt", "json") != "sse"
    call = None if rest is None else _CALL.fullmatch(rest)
    if call is not None and call["method"] in METHODS:
        if (call["method"] == "predict") and not vertex:
            return None
        rest, method = call["model"], call["method"]
    elif received.method == "GET":
        method = "models"
    else:
        return None
    name = (rest or "").partition(";")[0]
    prefix = f"{groups.get('project') or ''}publishers/google/models/" if vertex else "models/"
    return Place(
        method=method,
        version=found["version"],
        vertex=vertex,
        project=groups.get("project") is not None,
        model=rest,
        resource=f"{prefix}{name}",
        array=array and method == "streamGenerateContent",
    )


def check_key(place: Place, received: Received, keys: Collection[str]) -> None:
    """Refuse who has no key: one in a header or the address, a token for Vertex AI's projects.

    Raises:
        Rejection: If there is no key, or it is none of `keys`.
    """
    if not keys:
        return
    scheme, _, token = received.headers.get("authorization", "").partition(" ")
    bearer = token if scheme.lower() == "bearer" else ""
    key = received.headers.get("x-goog-api-key") or received.query.get("key", "")
    if bearer:
        if bearer not in keys:
            message = (
                "Request had invalid authentication credentials. Expected an OAuth 2 access token."
            )
            raise Rejection(401, "ACCESS_TOKEN_TYPE_UNSUPPORTED", message)
    elif place.project:
        message = "API keys are not supported by this API. Expected an OAuth 2 access token."
        raise Rejection(401, "CREDENTIALS_MISSING", message)
    elif not key:
        message = "Method doesn't allow unregistered callers. Please use an API key."
        raise Rejection(403, None, message)
    elif key not in keys:
        raise Rejection(400, "API_KEY_INVALID", "API key not valid. Please pass a valid API key.")
