"""What Converse refuses in the right shape: turns, results of tools, documents, cache points."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from lamella.testing._mock_bedrock._errors import wrong
from lamella.testing._mock_bedrock._parts import inner, several
from lamella.testing._mock_bedrock._thoughts import check_thoughts
from lamella.testing._mock_openai._requests import JSON

IMAGES: Final = 20
IMAGE_BYTES: Final = 3_932_160
DOCUMENTS: Final = 5
DOCUMENT_BYTES: Final = 4_718_592
CACHE_POINTS: Final = 4

_NAME: Final = re.compile(r"(?!.*\s\s)[A-Za-z0-9\s\-()\[\]]+", re.DOTALL)
_ONLY: Final = {
    "system": {"text", "cachePoint", "guardContent", "toolAddition", "toolRemoval", "mockUnknown"},
    "user": {"text", "image", "document", "video", "audio", "toolResult", "guardContent",
             "cachePoint", "searchResult", "mockUnknown"},
}  # fmt: skip
_NOT_THE_MODELS: Final = frozenset({"document", "video", "audio", "guardContent",
                                    "toolAddition", "toolRemoval"})  # fmt: skip


def check_rules(body: JSON, model: str) -> None:
    """Refuse what a model would not be given.

    Args:
        body: A request that has the right shape.
        model: Whom it is for.

    Raises:
        Rejection: If a provider would not accept it.
    """
    messages = several(body, "messages")
    _check_turns(messages)
    for place, message in enumerate(messages):
        _check_blocks(message, f"messages.{place}")
    _check_tools(body, messages)
    _check_documents(messages)
    _check_cache_points(body, messages, model)
    check_thoughts(messages, model)


def blocks_of(message: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The blocks of a message: what each is, and what it says."""
    return [
        (kind, given)
        for block in message["content"]
        for kind, given in block.items()
        if given is not None
    ]


def _check_turns(messages: Sequence[JSON]) -> None:
    turns = [message["role"] for message in messages if message["role"] != "system"]
    if not turns or messages[0]["role"] != "user":
        raise wrong(
            "A conversation must start with a user message. Try again with a conversation that "
            "starts with a user message."
        )
    if any(one == other for one, other in pairwise(turns)):
        raise wrong(
            "A conversation must alternate between user and assistant roles. Make sure the "
            "conversation alternates between user and assistant roles and try again."
        )


def _check_blocks(message: JSON, path: str) -> None:
    role = message["role"]
    blocks = blocks_of(message)
    if not blocks:
        raise wrong(
            f"The content field in the Message object at {path} is empty. Add a ContentBlock "
            "object to the content field and try again."
        )
    for place, (kind, given) in enumerate(blocks):
        if not _may_hold(role, kind, given):
            raise wrong(f"A message of the role {role} cannot hold the {kind} at {path}.")
        if kind == "text" and not given.strip():
            raise wrong(
                f"The text field in the ContentBlock object at {path}.content.{place} is blank. "
                "Add text to the text field, and try again."
            )
    pictures = [given for kind, given in blocks if kind == "image"]
    if len(pictures) > IMAGES:
        raise wrong(f"A message holds {IMAGES} images at most; {path} has {len(pictures)}.")
    if any(_size(each) > IMAGE_BYTES for each in pictures):
        raise wrong(f"An image at {path} has more than {IMAGE_BYTES} bytes.")


def _may_hold(role: str, kind: str, given: Any) -> bool:
    if role in _ONLY:
        return kind in _ONLY[role]
    return kind not in _NOT_THE_MODELS and not _is_ours(kind, given, "toolResult")


def _size(given: Mapping[str, Any]) -> int:
    """How many bytes a medium has, as far as it is here."""
    return len(given["source"].get("bytes") or "") * 3 // 4


# --- tools -------------------------------------------------------------------------------------


def _check_tools(body: JSON, messages: Sequence[JSON]) -> None:
    config = inner(body, "toolConfig")
    _check_results(messages)
    if not config:
        if any(kind in {"toolUse", "toolResult"} for m in messages for kind, _ in blocks_of(m)):
            raise wrong(
                "The toolConfig field must be defined when using toolUse and toolResult content "
                "blocks."
            )
        return
    tools = several(config, "tools")
    specs = [inner(each, "toolSpec") for each in tools if "toolSpec" in each]
    system = [inner(each, "systemTool") for each in tools if "systemTool" in each]
    names: list[str] = [each["name"] for each in (*specs, *system)]
    if not names:
        raise wrong("The toolConfig has no tools.")
    if len(set(names)) < len(names):
        raise wrong("The tools in toolConfig.tools must have different names.")
    for place, spec in enumerate(specs):
        if inner(inner(spec, "inputSchema"), "json").get("type") != "object":
            raise wrong(
                f"The value at toolConfig.tools.{place}.toolSpec.inputSchema.json.type must be "
                "one of the following: object."
            )
    chosen = inner(inner(config, "toolChoice"), "tool").get("name")
    if chosen is not None and chosen not in names:
        raise wrong(f"The tool {chosen!r} in toolConfig.toolChoice is not among the tools.")


def _check_results(messages: Sequence[JSON]) -> None:
    """Each call is answered in the very next turn, and nothing else is."""
    expected: list[str] = []
    for place, message in enumerate(messages):
        if message["role"] == "system":
            continue
        blocks = blocks_of(message)
        results = [each["toolUseId"] for kind, each in blocks if _is_ours(kind, each, "toolResult")]
        _check_answered(expected, results if message["role"] == "user" else [], place)
        expected = [each["toolUseId"] for kind, each in blocks if _is_ours(kind, each, "toolUse")]
        if len(set(expected)) < len(expected):
            raise wrong(f"The toolUse blocks at messages.{place}.content contain duplicate Ids.")
    _check_answered(expected, [], len(messages))


def _check_answered(expected: Sequence[str], results: Sequence[str], place: int) -> None:
    where = f"messages.{place}.content"
    missing = [each for each in expected if each not in results]
    if missing:
        raise wrong(f"Expected toolResult blocks at {where} for the following Ids: {missing}")
    if len(results) > len(expected):
        raise wrong(
            f"The number of toolResult blocks at {where} exceeds the number of toolUse blocks of "
            "previous turn."
        )


def _is_ours(kind: str, given: Any, wanted: str) -> bool:
    """Whether a block is a call, or a result, of a tool that the client runs."""
    return kind == wanted and given.get("type") is None


# --- documents and caches ----------------------------------------------------------------------


def _check_documents(messages: Sequence[JSON]) -> None:
    names: set[str] = set()
    for message in messages:
        blocks = blocks_of(message)
        own = [given for kind, given in blocks if kind == "document"]
        if own and not any(kind == "text" for kind, _ in blocks):
            raise wrong("A text block must be included when using documents.")
        if len(own) > DOCUMENTS:
            raise wrong(f"You can't include more than {DOCUMENTS} documents in a request.")
        for document in (*own, *_in_results(blocks)):
            _check_document(document, names)


def _check_document(document: Mapping[str, Any], names: set[str]) -> None:
    if not _NAME.fullmatch(document["name"]):
        raise wrong(
            "The document file name can only contain alphanumeric characters, whitespace "
            "characters, hyphens, parentheses, and square brackets. The name can't contain more "
            "than one consecutive whitespace character."
        )
    if document["name"] in names:
        raise wrong(
            "Messages can't contain duplicate document names. Rename the document and retry your "
            "request."
        )
    names.add(document["name"])
    if _size(document) > DOCUMENT_BYTES:
        raise wrong(f"A document has more than {DOCUMENT_BYTES} bytes.")


def _in_results(blocks: Sequence[tuple[str, Any]]) -> list[JSON]:
    return [
        inner(each, "document")
        for kind, given in blocks
        if kind == "toolResult"
        for each in several(given, "content")
        if "document" in each
    ]


def _takes_point(block: JSON, model: str) -> bool:
    """Whether a cache point may follow a block."""
    if "amazon." in model:
        return bool(block.keys() & {"text", "cachePoint"})
    if block.keys() & {"video", "reasoningContent"}:
        return False
    return "document" not in block or inner(block, "document")["format"] == "pdf"


def _check_cache_points(body: JSON, messages: Sequence[JSON], model: str) -> None:
    """Four at most, and none that lives longer than one before it; Nova can do less."""
    tools = several(inner(body, "toolConfig"), "tools")
    blocks = [*tools, *several(body, "system")]
    blocks += [block for message in messages for block in several(message, "content")]
    points = [inner(block, "cachePoint") for block in blocks if "cachePoint" in block]
    if len(points) > CACHE_POINTS:
        raise wrong(f"A request holds {CACHE_POINTS} cache points at most; it has {len(points)}.")
    lives: list[str] = [point.get("ttl", "5m") for point in points]
    if "amazon." in model and "1h" in lives:
        raise wrong("Extended TTL prompt caching is only supported for Anthropic models")
    if "amazon." in model and any("cachePoint" in each for each in tools):
        raise wrong("Malformed input request: #/toolConfig/tools: [cachePoint] is not permitted.")
    for message in messages:
        for one, other in pairwise(several(message, "content")):
            if "cachePoint" in other and not _takes_point(one, model):
                raise wrong("The model returned the following errors: content.type: Field required")
    if any(one == "5m" and other == "1h" for one, other in pairwise(lives)):
        raise wrong(
            "A cache point with the ttl '1h' must not come after one with the ttl '5m'; points "
            "are processed in the order tools, system, messages."
        )
