"""Requests that are rare: nothing of them is lost in silence, and none is refused without need."""

from __future__ import annotations

from typing import Any

import pytest
from google_wire import CHAT, OPTIONS, encode, traced

from lamella import (
    ChatRequest,
    File,
    Image,
    Message,
    Opaque,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    UnsupportedError,
)

SEARCH = Opaque({"googleSearch": {}})
MARK = {"cache_control": {"type": "ephemeral"}}
CALL = Message.assistant([ToolCall("c1", "look", "{}")])


def left_out(*messages: Message) -> list[Any]:
    """What is noted as left out of a conversation."""
    request, trace = traced(ChatRequest.of(list(messages)))
    CHAT.encode(request, stream=False, options=OPTIONS)
    return [note.fields["what"] for note in trace.notes]


# --- the choice between tools ------------------------------------------------------------------


@pytest.mark.parametrize(("tools", "choice"), [([SEARCH], "auto"), ([], "auto"), ([], "none")])
def test_choices_that_say_nothing(tools: list[Any], choice: str) -> None:
    """Google refuses a choice between functions where there are none; it is not sent."""
    assert "toolConfig" not in encode("hi", tools=tools, tool_choice=choice)


@pytest.mark.parametrize("choice", ["none", "required"])
def test_choices_between_hosted_tools(choice: str) -> None:
    """They cannot be said, and are refused before the network."""
    with pytest.raises(UnsupportedError, match="hosted") as caught:
        encode("hi", tools=[SEARCH], tool_choice=choice)
    assert caught.value.code == "unsupported_value"


def test_choices_that_hold() -> None:
    """With a function the choice is sent, and a dict always is."""
    body = encode("hi", tools=[SEARCH, Tool("look")], tool_choice="none")
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "NONE"}}
    body = encode("hi", tools=[SEARCH], tool_choice={"mode": "AUTO"})
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "AUTO"}}


# --- results of tools --------------------------------------------------------------------------


def test_results_that_name_their_tool() -> None:
    """As OpenAI-style conversations may; that is the call's name, and no participant's."""
    result = Message("tool", ToolResult("c1", (Text("42"),)), name="look")
    (part,) = encode([Message.user("Hi"), CALL, result])["contents"][-1]["parts"]
    assert part["functionResponse"]["name"] == "look"
    with pytest.raises(UnsupportedError, match="whose call is not in"):
        encode([Message.user("Hi"), result])


def test_nothing_beside_a_text_is_lost_in_silence() -> None:
    """What stands beside messages of tools and systems goes out, or is noted."""
    user = Message.user("Hi")
    marked = Text("42", extra=MARK)
    odd = Text("42", extra={"note": 1})
    assert "cache_control" in left_out(user, CALL, Message("tool", ToolResult("c1", (marked,))))
    assert "Text.extra" in left_out(user, CALL, Message("tool", ToolResult("c1", (odd,))))
    result = ToolResult("c1", (Text("42"),))
    assert "cache_control" in left_out(user, CALL, Message("tool", result, extra=MARK))
    assert left_out(Message("system", "Be brief.", extra=MARK), user) == ["cache_control"]
    body = encode([Message("system", "Be brief.", extra={"role": "user"}), user])
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}], "role": "user"}


# --- files by address --------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://h/a.JPG?x=1#y", "https://h/a.jpg#.y", "gs://b/a.jpg"])
def test_types_by_the_path(url: str) -> None:
    """Neither query nor fragment hide how an address ends."""
    (part,) = encode([Message.user([Image(url=url)])])["contents"][0]["parts"]
    assert part == {"fileData": {"fileUri": url, "mimeType": "image/jpeg"}}


@pytest.mark.parametrize("url", ["data:image/png;base64,!!!", "data:text/plain,hello"])
def test_data_urls_that_are_none(url: str) -> None:
    """They are no addresses that Google could fetch, and are not repeated."""
    with pytest.raises(UnsupportedError, match="data URL") as caught:
        encode([Message.user([File(url=url)])])
    assert "hello" not in str(caught.value)
