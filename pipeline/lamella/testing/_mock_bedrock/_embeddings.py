"""Embeddings behind InvokeModel, in the words of Amazon Titan and of Cohere."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast

import attrs

from lamella._embeddings import EmbeddingRequest
from lamella._events import Event, Vector
from lamella._mock_answers import embedding_events
from lamella._mock_tokens import TOKENS_PER_IMAGE
from lamella._mock_vectors import embed
from lamella.testing._mock_bedrock._errors import wrong
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai._chat import final_usage
from lamella.testing._mock_openai._requests import JSON

COHERE_TEXTS: Final = 96
COHERE_CHARACTERS: Final = 2_048
TITAN_CHARACTERS: Final = 50_000

_PURPOSES: Final = ("search_document", "search_query", "classification", "clustering", "image")
_KINDS: Final = ("float", "int8", "uint8", "binary", "ubinary")


@attrs.frozen
class Embedded:
    """What InvokeModel answers.

    Attributes:
        document: The model's own answer.
        tokens: How many tokens it had, as the headers say; None if they do not.
    """

    document: JSON
    tokens: int | None


def embedded(body: Any, model: str, faults: MockFaults, word: str) -> Embedded:
    """The answer of a model for embeddings.

    Args:
        body: What was sent.
        model: Whose words it is in: an id, an inference profile or an ARN with its name in it.
        faults: What goes wrong with it.
        word: What the answer is called.

    Raises:
        Rejection: If the model would not accept it, or there is no such model.
    """
    if not isinstance(body, dict):
        raise _malformed("the body is not a JSON object")
    told = cast("JSON", body)
    if "titan-embed" in model:
        newer = "text-v1" not in model and "g1-text" not in model
        return _titan(told, faults, newer=newer)
    if "cohere.embed" in model:
        return _cohere(told, faults, word, newer="embed-v4" in model)
    raise wrong(
        "The mock of Bedrock's InvokeModel knows models for embeddings only: those with "
        "'titan-embed' or 'cohere.embed' in their names."
    )


def _malformed(what: str) -> Exception:
    return wrong(f"Malformed input request: {what}, please reformat your input and try again.")


def _must_be_known(told: JSON, known: Collection[str]) -> None:
    for name in told:
        if name not in known:
            raise _malformed(f"#: extraneous key [{name}] is not permitted")


def _vectors(texts: Sequence[str], dimensions: int) -> tuple[Event, ...]:
    return embedding_events(EmbeddingRequest.of(texts, dimensions=dimensions))


def _tokens(events: Sequence[Event], faults: MockFaults) -> int | None:
    usage = final_usage(events, faults)
    return None if usage is None else usage.input_tokens


def _values(events: Sequence[Event]) -> list[list[float]]:
    return [list(event.values) for event in events if isinstance(event, Vector)]


# --- Titan -------------------------------------------------------------------------------------


def _titan(told: JSON, faults: MockFaults, *, newer: bool) -> Embedded:
    more = {"dimensions", "normalize", "embeddingTypes"} if newer else set[str]()
    _must_be_known(told, {"inputText", *more})
    text = told.get("inputText")
    if not isinstance(text, str) or not text:
        raise _malformed("#: required key [inputText] not found, or it is no text")
    if len(text) > TITAN_CHARACTERS:
        raise _malformed(f"expected maxLength: {TITAN_CHARACTERS}, actual: {len(text)}")
    dimensions = told.get("dimensions", 1024) if newer else 1536
    if newer and dimensions not in {256, 512, 1024}:
        raise _malformed(f"#/dimensions: {dimensions!r} is not a valid enum value")
    kinds = _kinds(told.get("embeddingTypes", ["float"]), ("float", "binary"), "embeddingTypes")
    events = _vectors([text], dimensions)
    (values,) = _values(events)
    if told.get("normalize") is False:
        values = [2 * value for value in values]
    tokens = _tokens(events, faults)
    found: JSON = {}
    if "float" in kinds:
        found["embedding"] = values
    if newer:
        binary = [int(value > 0) for value in values]
        both = {"float": values, "binary": binary}
        found["embeddingsByType"] = {kind: both[kind] for kind in kinds}
    if tokens is not None:
        found["inputTextTokenCount"] = tokens
    return Embedded(found, tokens)


def _kinds(given: Any, known: Sequence[str], name: str) -> list[str]:
    kinds = [str(kind) for kind in cast("Sequence[Any]", given)] if isinstance(given, list) else []
    if not kinds or any(kind not in known for kind in kinds):
        raise _malformed(f"#/{name}: it is a list of {', '.join(known)}")
    return kinds


# --- Cohere ------------------------------------------------------------------------------------


def _cohere(told: JSON, faults: MockFaults, word: str, *, newer: bool) -> Embedded:
    more = {"inputs", "output_dimension", "max_tokens"} if newer else set[str]()
    _must_be_known(told, {"texts", "images", "input_type", "truncate", "embedding_types", *more})
    if told.get("input_type") not in _PURPOSES:
        raise _malformed(f"#/input_type: it is one of {', '.join(_PURPOSES)}")
    if told.get("truncate") not in {None, "NONE", "START", "END", "LEFT", "RIGHT"}:
        raise _malformed(f"#/truncate: {told['truncate']!r} is not a valid enum value")
    dimensions = told.get("output_dimension", 1536) if newer else 1024
    if newer and dimensions not in {256, 512, 1024, 1536}:
        raise _malformed(f"#/output_dimension: {dimensions!r} is not a valid enum value")
    texts = _texts(told, newer=newer)
    pictures = _listed(told, "images")
    events = _vectors(texts or pictures, dimensions) if texts or pictures else ()
    if not events:
        raise _malformed("#: one of texts, images and inputs is needed")
    vectors = _values(events)
    if texts and pictures:
        vectors += [list(embed(picture, dimensions)) for picture in pictures]
    found: JSON = {"id": word, "texts": list(_listed(told, "texts"))}
    if told.get("embedding_types") is None:
        found |= {"response_type": "embeddings_floats", "embeddings": vectors}
    else:
        kinds = _kinds(told["embedding_types"], _KINDS, "embedding_types")
        by_kind = {kind: [_as(kind, values) for values in vectors] for kind in kinds}
        found |= {"response_type": "embeddings_by_type", "embeddings": by_kind}
    tokens = _tokens(events, faults)
    if tokens and not texts:
        tokens = TOKENS_PER_IMAGE * len(pictures)
    return Embedded(found, tokens)


def _texts(told: JSON, *, newer: bool) -> list[str]:
    texts = list(_listed(told, "texts"))
    for place, text in enumerate(texts):
        if not text:
            raise _malformed(f"#/texts/{place}: expected minLength: 1, actual: 0")
        if not newer and len(text) > COHERE_CHARACTERS and told.get("truncate") in {None, "NONE"}:
            length = f"expected maxLength: {COHERE_CHARACTERS}, actual: {len(text)}"
            raise _malformed(f"#/texts/{place}: {length}")
    for given in cast("Sequence[Mapping[str, Any]]", told.get("inputs") or ()):
        pieces = [piece.get("text") or str(piece.get("image_url")) for piece in given["content"]]
        texts.append(" ".join(pieces))
    if len(texts) > COHERE_TEXTS:
        raise _malformed(f"#/texts: expected maxItems: {COHERE_TEXTS}, found: {len(texts)}")
    return texts


def _listed(told: JSON, name: str) -> Sequence[str]:
    given: Any = told.get(name) or []
    items = cast("Sequence[Any]", given) if isinstance(given, list) else [None]
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) < len(items):
        raise _malformed(f"#/{name}: it is a list of texts")
    return texts


def _as(kind: str, values: Sequence[float]) -> list[float]:
    """Coordinates in one of the forms that Cohere gives them."""
    match kind:
        case "int8":
            return [round(value * 127) for value in values]
        case "uint8":
            return [round(value * 127) + 128 for value in values]
        case "binary" | "ubinary":
            bits = [value > 0 for value in values]
            packed = [
                sum(bit << (7 - place) for place, bit in enumerate(bits[start : start + 8]))
                for start in range(0, len(bits), 8)
            ]
            return [byte - 128 for byte in packed] if kind == "binary" else list(packed)
        case _:
            return list(values)
