"""What a model is called in an address, and on its card."""

from __future__ import annotations

from urllib.parse import quote

from lamella._errors import MisuseError

_VERTEX_RESOURCES = ("projects/", "publishers/", "models/")
_GEMINI_RESOURCES = ("models/", "tunedModels/")


def resource(model: str, *, vertex: bool) -> str:
    """A model's resource: `models/NAME`, or `publishers/google/models/NAME` on Vertex AI.

    A name that already is a resource stays as it is; `PUBLISHER/NAME` names another publisher's
    model on Vertex AI. It is the same rule as in Google's own SDK.

    Raises:
        MisuseError: If the name would lead to another address.
    """
    if not model or ".." in model.split("/") or not model.isprintable():
        msg = f"{model!r} cannot be the name of a model."
        raise MisuseError(msg, hint="Use a name such as 'gemini-3.5-flash'.")
    if model.startswith(_VERTEX_RESOURCES if vertex else _GEMINI_RESOURCES):
        return quote(model, safe="/@")
    if not vertex:
        return f"models/{quote(model, safe='@')}"
    publisher, slash, name = model.partition("/")
    if not slash:
        publisher, name = "google", model
    return f"publishers/{quote(publisher, safe='')}/models/{quote(name, safe='@')}"


def card_name(model: str) -> str:
    """What the cards call a model: its bare name, without resource and version."""
    return model.rpartition("/")[2].partition("@")[0]
