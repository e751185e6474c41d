"""From Google's contents and tools to the library's messages and tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from json import dumps
from typing import Any, Final

from lamella._messages import Message
from lamella._parts import Audio, File, Image, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from lamella._tools import Tool
from lamella.testing._mock_google._json import as_list, as_object, decoded
from lamella.testing._mock_openai._requests import JSON

NAME: Final = "google"

_SOUNDS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "x-flac": "flac", "x-aiff": "aiff"}
_RESOLUTION = "MEDIA_RESOLUTION_"
_DETAILS = ("LOW", "MEDIUM", "HIGH", "ULTRA_HIGH")


def read_messages(contents: Sequence[JSON]) -> Iterator[Message]:
    """The messages of a conversation; each function response is one of its own."""
    calls: list[tuple[str, str]] = []
    for place, content in enumerate(contents):
        if content.get("role") == "model":
            parts = [_said(part, f"{place}_{n}") for n, part in enumerate(content["parts"])]
            calls += [(part.id, part.name) for part in parts if isinstance(part, ToolCall)]
            yield Message("assistant", parts)
            continue
        asked: list[Part] = []
        for part in content["parts"]:
            if "functionResponse" not in part:
                asked.append(_part(part))
                continue
            if asked:
                yield Message("user", asked)
                asked = []
            yield Message("tool", _result(part, calls))
        if asked:
            calls.clear()
            yield Message("user", asked)


def read_parts(content: JSON) -> list[Part]:
    """The parts of a content that nobody answers, such as the system's instruction."""
    return [_part(part) for part in as_list(content.get("parts"))]


def _said(part: JSON, place: str) -> Part:
    """A part of the model's."""
    if "functionCall" in part:
        call = part["functionCall"]
        arguments = dumps(call.get("args") or {}, ensure_ascii=False, separators=(",", ":"))
        extra = {**_extra(part, "functionCall"), **_extra(call, "id", "name", "args")}
        return ToolCall(call.get("id") or f"call_{place}", call["name"], arguments, extra=extra)
    return _part(part)


def _part(part: JSON) -> Part:
    if "text" in part and part.get("thought"):
        extra = _extra(part, "text", "thought", "thoughtSignature")
        seal = part.get("thoughtSignature")
        return Reasoning(part["text"], seal, extra={**extra, "provider": NAME})
    if "text" in part:
        return Text(part["text"], _extra(part, "text"))
    if "inlineData" in part:
        return _inline(part)
    return _linked(part) if "fileData" in part else Opaque(part, NAME)


def _inline(part: JSON) -> Part:
    blob = part["inlineData"]
    kind, data, name = blob["mimeType"], decoded(blob["data"]), blob.get("displayName")
    head, _, tail = kind.partition("/")
    extra = _extra(part, "inlineData", "mediaResolution")
    if head == "image" and name is None:
        return Image(data=data, media_type=kind, **_seen(part, extra))
    if head == "audio" and name is None:
        return Audio(data, _SOUNDS.get(tail, tail), extra={**extra, **_quality(part)})
    extra |= _quality(part)
    return File(data, filename=name, media_type=kind, extra=extra)


def _linked(part: JSON) -> Part:
    given = part["fileData"]
    uri, kind, name = given["fileUri"], given.get("mimeType"), given.get("displayName")
    extra = _extra(part, "fileData", "mediaResolution")
    if kind is not None and kind.startswith("image/") and name is None and "://" in uri:
        return Image(url=uri, media_type=kind, **_seen(part, extra))
    extra |= _quality(part)
    if "://" in uri:
        return File(url=uri, filename=name, media_type=kind, extra=extra)
    return File(id=uri, filename=name, media_type=kind, extra=extra)


def _seen(part: JSON, extra: JSON) -> JSON:
    """How closely a picture is to be looked at, and what else is said of it."""
    given = as_object(part.get("mediaResolution"))
    word = str(given.get("level", "")).removeprefix(_RESOLUTION)
    if given.keys() == {"level"} and word in _DETAILS:
        return {"detail": word.lower(), "extra": extra}
    return {"extra": {**extra, **_quality(part)}}


def _quality(part: JSON) -> JSON:
    return {"mediaResolution": part["mediaResolution"]} if "mediaResolution" in part else {}


def _extra(given: JSON, *known: str) -> JSON:
    """What else is said, marked with whose words it is where that is a seal."""
    extra = {name: value for name, value in given.items() if name not in known}
    return {**extra, "provider": NAME} if "thoughtSignature" in extra else extra


def _result(part: JSON, calls: list[tuple[str, str]]) -> ToolResult:
    """What a tool has answered, referring to the call of its id, or the next of its name."""
    given = part["functionResponse"]
    name = given["name"]
    call_id = given.get("id") or next((each for each, of in calls if of == name), f"call_{name}")
    if (call_id, name) in calls:
        calls.remove((call_id, name))
    response: JSON = given["response"]
    said: Any = response
    failed = response.keys() == {"error"}
    if failed or response.keys() == {"output"}:
        said = next(iter(response.values()))
    text = said if isinstance(said, str) else dumps(said, ensure_ascii=False)
    content: list[Part] = [Text(text)] if response else []
    content += [_part(each) for each in as_list(given.get("parts"))]
    extra = _extra(given, "id", "name", "response", "parts")
    return ToolResult(call_id, tuple(content), failed, extra)


def read_tools(given: Sequence[JSON]) -> list[Tool | Opaque]:
    """The functions that the model may call, and each hosted tool by itself."""
    found: list[Tool | Opaque] = []
    for each in given:
        for name, value in each.items():
            if name == "functionDeclarations":
                found += [_tool(declaration) for declaration in value]
            else:
                found.append(Opaque({name: value}, NAME))
    return found


def _tool(given: JSON) -> Tool:
    parameters = given.get("parametersJsonSchema")
    if parameters is None and "parameters" in given:
        parameters = json_schema(given["parameters"])
    extra = _extra(given, "name", "description", "parameters", "parametersJsonSchema")
    known: JSON = {"parameters": as_object(parameters)} if parameters else {}
    return Tool(given["name"], given.get("description", ""), **known, extra=extra)


def json_schema(given: Mapping[str, Any]) -> JSON:
    """The JSON Schema that one in Google's form of OpenAPI's stands for."""
    found: JSON = {}
    for name, value in given.items():
        match name:
            case "type":
                found["type"] = value.lower()
            case "items":
                found[name] = json_schema(value)
            case "anyOf":
                found[name] = [json_schema(each) for each in value]
            case "properties" | "defs":
                under = "$defs" if name == "defs" else name
                found[under] = {key: json_schema(each) for key, each in value.items()}
            case "ref":
                found["$ref"] = value.replace("#/defs/", "#/$defs/")
            case "nullable":
                pass
            case _:
                found[name] = value
    if given.get("nullable") and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found
