"""What an answer of Anthropic's API rests on: a search of the web that finds something, documents.

The search knows no web: it finds two pages that say nothing but the question.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

import attrs

from lamella._chat import ChatRequest
from lamella._mock_prose import quoted
from lamella._mock_tokens import Draw
from lamella._parts import File, Opaque
from lamella._tools import Tool
from lamella.testing._mock_anthropic._pieces import Block, given_block
from lamella.testing._mock_anthropic._seals import seal
from lamella.testing._mock_openai._requests import JSON

_SEARCH: Final = "web_search"
_CITED: Final = 80
"""How many characters of a document are cited."""


@attrs.frozen
class Search:
    """A search of the web that an answer begins with.

    Attributes:
        blocks: The call and its result.
        citation: Where the answer says that it comes from.
    """

    blocks: tuple[Block, Block]
    citation: JSON


def search(request: ChatRequest, draw: Draw) -> Search | None:
    """The search that a request asks for; None if it asks for none.

    It is made where the tool is offered, and the user's last message mentions it by name or the
    choice of tools demands it.
    """
    tool = _offered(request)
    last = request.messages[-1]
    if tool is None or request.tool_choice == "none" or last.role != "user":
        return None
    mentioned = re.search(rf"(?<!\w){_SEARCH}(?!\w)", last.text) is not None
    if not mentioned and request.tool_choice != _SEARCH:
        return None
    query = quoted(re.sub(rf"(?<!\w){_SEARCH}(?!\w)", "", last.text)) or "nothing"
    id = f"srvtoolu_{draw.word('search')}"
    call = given_block(_SEARCH, id, {"query": query})
    found: Any = [_result(tool, query, number) for number in range(2)]
    if tool.get("max_uses") == 0:
        found = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    result = {"type": "web_search_tool_result", "tool_use_id": id, "content": found}
    first = _result(tool, query, 0)
    return Search((call, Block(result)), _web_citation(first, query))


def for_the_mind(request: ChatRequest) -> ChatRequest:
    """The request without the choices that only the provider's own tools answer."""
    own = {tool.name for tool in request.tools if isinstance(tool, Tool)}
    choice = request.tool_choice
    hosted = {tool.data.get("name") for tool in request.tools if isinstance(tool, Opaque)}
    if (choice in hosted and choice not in own) or (choice == "required" and not own):
        return request.evolve(tool_choice=None)
    return request


def document_citation(request: ChatRequest) -> JSON | None:
    """Where in the first document that may be cited an answer finds its words; None if in none."""
    documents = [
        part
        for message in request.messages
        if message.role == "user"
        for part in message.parts
        if isinstance(part, File)
        or (isinstance(part, Opaque) and part.data.get("type") in {"document", "search_result"})
    ]
    for number, part in enumerate(documents):
        told = part.data if isinstance(part, Opaque) else part.extra
        if not cast("JSON", told.get("citations") or {}).get("enabled"):
            continue
        if isinstance(part, File):
            return _file_citation(part, number)
        return _block_citation(dict(part.data), number)
    return None


def _offered(request: ChatRequest) -> JSON | None:
    for tool in request.tools:
        if isinstance(tool, Opaque) and str(tool.data.get("type")).startswith(f"{_SEARCH}_"):
            return dict(tool.data)
    return None


def _result(tool: JSON, query: str, number: int) -> JSON:
    domains = tool.get("allowed_domains") or ["example.com"]
    title = f"{query} ({number + 1})"
    slug = "-".join(re.findall(r"\w+", query.lower())[:6]) or "page"
    url = f"https://{domains[number % len(domains)]}/{slug}/{number + 1}"
    return {
        "type": "web_search_result",
        "url": url,
        "title": title,
        "encrypted_content": seal(url, title),
        "page_age": "January 1, 2025" if number else None,
    }


def _web_citation(page: JSON, query: str) -> JSON:
    return {
        "type": "web_search_result_location",
        "url": page["url"],
        "title": page["title"],
        "encrypted_index": seal(page["url"], query),
        "cited_text": query,
    }


def _file_citation(part: File, number: int) -> JSON:
    named: JSON = {"document_index": number, "document_title": part.filename, "file_id": part.id}
    if part.media_type == "text/plain":
        text = (part.data or b"").decode("utf-8", "replace")[:_CITED]
        span = {"start_char_index": 0, "end_char_index": len(text)}
        return {"type": "char_location", "cited_text": text, **named, **span}
    pages = {"start_page_number": 1, "end_page_number": 2}
    return {"type": "page_location", "cited_text": "The first page.", **named, **pages}


def _block_citation(told: JSON, number: int) -> JSON:
    if told["type"] == "search_result":
        content: Any = told["content"]
        named = {"search_result_index": 0, "source": told["source"], "title": told["title"]}
        kind = "search_result_location"
    else:
        content = cast("JSON", told["source"]).get("content")
        named = {"document_index": number, "document_title": told.get("title"), "file_id": None}
        kind = "content_block_location"
    blocks = cast("list[JSON]", content)
    first = content if isinstance(content, str) else blocks[0].get("text", "") if blocks else ""
    span = {"start_block_index": 0, "end_block_index": 1}
    return {"type": kind, "cited_text": first, **named, **span}
