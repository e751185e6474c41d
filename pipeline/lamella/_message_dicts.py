"""Messages as OpenAI-style dicts, both ways without loss.

What the chat dialect has no word for (reasoning with a signature, a tool call between texts, whose
an opaque part is) is written as a content part of our own `type`, so that a stored conversation
comes back as it was. Absent and null values are the same thing here, and so are a refusal at the
end of the content and one beside it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from lamella._messages import ROLES, Message
from lamella._nothing import NOTHING
from lamella._parts import (
    Audio,
    File,
    Image,
    JSONObject,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)

JSON: TypeAlias = dict[str, Any]

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Where compatible endpoints put reasoning beside the content."""


# --- reading ---------------------------------------------------------------------------------


def message_from_dict(given: Mapping[str, Any]) -> Message:
    """The message that an OpenAI-style dict describes.

    Raises:
        ValueError: If it has no known role, or its content is neither text, parts nor null.
    """
    rest = {key: value for key, value in given.items() if value is not None}
    role = rest.pop("role", None)
    if role not in ROLES:
        msg = (
            f"A message dict needs a 'role' out of {', '.join(ROLES)}; got {role!r} "
            f"among the keys {sorted(given)}."
        )
        raise ValueError(msg)
    name = rest.pop("name", None)
    content = rest.pop("content", None)
    listed = isinstance(content, list | tuple)
    parts = _content(content)
    if role == "tool":
        extra: Any = rest.pop("tool_result", None)
        result = ToolResult(
            call_id=str(rest.pop("tool_call_id", "")),
            content=parts,
            error=bool(rest.pop("is_error", False)),
            extra=extra if isinstance(extra, dict) else NOTHING,  # pyright: ignore[reportUnknownArgumentType]
            listed=listed,
        )
        return Message(role, result, name=name, extra=rest)
    if role == "assistant":
        parts = _assistant(parts, rest)
    return Message(role, parts, name=name, extra=rest, listed=listed)


def _content(content: Any) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    if isinstance(content, list | tuple):
        return tuple([_item(item) for item in content])  # pyright: ignore[reportUnknownVariableType]
    msg = f"Message content must be text, a list of parts or null, not {type(content).__name__}."
    raise ValueError(msg)


def _item(item: Any) -> Part:
    if isinstance(item, Mapping):
        return part_from_dict(item)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(item, str):
        return Text(item)
    msg = f"A content part must be a dict with a 'type', not {type(item).__name__}."
    raise ValueError(msg)


def _assistant(parts: tuple[Part, ...], rest: JSON) -> tuple[Part, ...]:
    """Add what an assistant's message keeps beside its content; takes it out of `rest`."""
    after: list[Part] = []
    before = [
        _beside_content(field, rest.pop(field))
        for field in REASONING_FIELDS
        if isinstance(rest.get(field), str)
    ]
    if isinstance(rest.get("refusal"), str):
        after.append(Refusal(rest.pop("refusal")))
    audio: Any = rest.get("audio")
    if isinstance(audio, Mapping) and set(audio) == {"id"} and isinstance(audio["id"], str):  # pyright: ignore[reportUnknownArgumentType]
        after.append(Audio(id=rest.pop("audio")["id"]))
    calls = rest.get("tool_calls")
    if isinstance(calls, list | tuple):
        del rest["tool_calls"]
        after += [_tool_call(call) for call in calls]  # pyright: ignore[reportUnknownVariableType]
    return (*before, *parts, *after)


def _tool_call(given: Any) -> Part:
    if not isinstance(given, Mapping):
        msg = f"A tool call must be a dict, not {type(given).__name__}."
        raise ValueError(msg)  # noqa: TRY004 - as for every other dict that is no message
    call: Mapping[str, Any] = given  # pyright: ignore[reportUnknownVariableType]
    kind = call.get("type") or "function"
    inner = call.get(kind) if kind in ("function", "custom") else None
    if not isinstance(inner, Mapping):
        return Opaque({"type": "tool_call", "tool_call": call})
    body: JSON = dict(inner)  # pyright: ignore[reportUnknownArgumentType]
    words = body.pop("arguments" if kind == "function" else "input", None)
    extra: JSON = {k: v for k, v in call.items() if k not in {"id", "type", kind}}
    name = body.pop("name", "")
    if body:
        extra[kind] = body
    return ToolCall(
        id=str(call.get("id") or ""),
        name=str(name),
        arguments=words if isinstance(words, str) else "" if words is None else json.dumps(words),
        kind=kind,
        **({"extra": extra} if extra else {}),
    )


def part_from_dict(given: Mapping[str, Any]) -> Part:
    """The part that a content dict describes; `Opaque` where we do not know its kind or shape."""
    kind = given.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    part = reader(dict(given)) if reader else None
    return Opaque(given) if part is None else part


def _read_text(given: JSON) -> Part | None:
    text = given.get("text")
    return Text(text, **_rest(given, "text")) if isinstance(text, str) else None


def _read_refusal(given: JSON) -> Part | None:
    text = given.get("refusal")
    return Refusal(text, **_rest(given, "refusal")) if isinstance(text, str) else None


def _read_image(given: JSON) -> Part | None:
    inner = given.get("image_url")
    if not isinstance(inner, dict) or not isinstance(inner.get("url"), str):  # pyright: ignore[reportUnknownMemberType]
        return None
    body: JSON = dict(inner)  # pyright: ignore[reportUnknownArgumentType]
    url, detail = body.pop("url"), body.pop("detail", None)
    if detail is not None and not isinstance(detail, str):
        return None
    decoded = from_data_url(url)
    media_type = body.pop("media_type", None) if decoded is None else decoded[0]
    rest = _nested(given, "image_url", body)
    if decoded is None:
        return Image(url=url, media_type=media_type, detail=detail, **rest)
    return Image(data=decoded[1], media_type=media_type, detail=detail, **rest)


def _read_audio(given: JSON) -> Part | None:
    inner = given.get("input_audio")
    if not isinstance(inner, dict):
        return None
    body: JSON = dict(inner)  # pyright: ignore[reportUnknownArgumentType]
    data = _from_base64(body.get("data"))
    if not body.keys() & {"data", "id", "transcript"} or (data is None and "data" in body):
        return None
    body.pop("data", None)
    fields = {name: body.pop(name, None) for name in ("format", "id", "transcript")}
    return Audio(data=data, **fields, **_nested(given, "input_audio", body))


def _read_file(given: JSON) -> Part | None:
    inner = given.get("file")
    if not isinstance(inner, dict):
        return None
    body: JSON = dict(inner)  # pyright: ignore[reportUnknownArgumentType]
    given_by = [key for key in ("file_id", "file_data", "file_url") if key in body]
    if len(given_by) != 1 or not isinstance(body[given_by[0]], str):
        return None
    value, filename = body.pop(given_by[0]), body.pop("filename", None)
    if given_by[0] != "file_data":
        media_type = body.pop("media_type", None)
        rest = _nested(given, "file", body)
        if given_by[0] == "file_id":
            return File(id=value, filename=filename, media_type=media_type, **rest)
        return File(url=value, filename=filename, media_type=media_type, **rest)
    decoded = from_data_url(value)
    if decoded is None:
        return None
    rest = _nested(given, "file", body)
    return File(data=decoded[1], media_type=decoded[0], filename=filename, **rest)


def _read_reasoning(given: JSON) -> Part | None:
    known = ("text", "signature", "id", "redacted")
    if not isinstance(given.get("text"), str):
        return None
    fields = {key: given[key] for key in known if key in given}
    return Reasoning(**fields, **_rest(given, *known))


def _read_tool_call(given: JSON) -> Part | None:
    call = given.get("tool_call")
    part = _tool_call(call) if set(given) == {"type", "tool_call"} else None
    return part if isinstance(part, ToolCall) else None


def _read_opaque(given: JSON) -> Part | None:
    known = {"type", "data", "provider", "content", "choice"}
    data: Any = given.get("data")
    if not isinstance(data, Mapping) or given.keys() - known:
        return None
    fields = {key: given[key] for key in ("provider", "content", "choice") if key in given}
    return Opaque(data, **fields)  # pyright: ignore[reportUnknownArgumentType]


_READERS: Mapping[str, Callable[[JSON], Part | None]] = {
    "text": _read_text,
    "refusal": _read_refusal,
    "image_url": _read_image,
    "input_audio": _read_audio,
    "file": _read_file,
    "reasoning": _read_reasoning,
    "tool_call": _read_tool_call,
    "opaque": _read_opaque,
}


def _rest(given: JSON, *known: str) -> JSON:
    rest = {key: value for key, value in given.items() if key != "type" and key not in known}
    return {"extra": rest} if rest else {}


def _nested(given: JSON, key: str, inner: JSON) -> JSON:
    rest = {name: value for name, value in given.items() if name not in {"type", key}}
    if inner:
        rest[key] = inner
    return {"extra": rest} if rest else {}


def from_data_url(url: Any) -> tuple[str | None, bytes] | None:
    """Media type and bytes of a base64 data URL that we would write the same way, else None."""
    if not isinstance(url, str) or not url.startswith("data:"):
        return None
    head, comma, body = url[5:].partition(",")
    media_type, mark, tail = head.partition(";base64")
    data = _from_base64(body)
    if not comma or not mark or tail or data is None:
        return None
    return media_type or None, data


def _from_base64(text: Any) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


# --- writing ---------------------------------------------------------------------------------


def message_to_dict(message: Message) -> JSON:
    """The OpenAI-style dict of a message.

    Raises:
        ValueError: If a `ToolResult` stands anywhere but in a message of role `tool`.
    """
    parts = message.parts
    if message.role == "tool":
        return _named(_tool_result(parts[0]), message)
    if len(parts) == 1 and not message.listed:
        only = parts[0]
        if type(only) is Text and not only.extra:
            return _named({"role": message.role, "content": only.text}, message)
    out: JSON = {"role": message.role, "content": None}
    if message.role == "assistant":
        parts = _beside(parts, out)
    if parts or message.listed:
        out["content"] = content_to_wire(parts, listed=message.listed)
    return _named(out, message)


def _named(out: JSON, message: Message) -> JSON:
    if message.name is not None:
        out["name"] = message.name
    if message.extra:
        out.update(message.extra)
    return out


def _tool_result(result: Part) -> JSON:
    assert isinstance(result, ToolResult)  # noqa: S101 - a Message of role tool holds nothing else
    content = content_to_wire(result.content, listed=result.listed)
    out: JSON = {"role": "tool", "tool_call_id": result.call_id, "content": content}
    if result.error:
        out["is_error"] = True
    if result.extra:
        out["tool_result"] = dict(result.extra)
    return out


def content_to_wire(parts: tuple[Part, ...], *, listed: bool) -> Any:
    """The `content` of a message: a string where one text says all, otherwise a list."""
    if not parts and not listed:
        return None
    if len(parts) == 1 and not listed:
        only = parts[0]
        if type(only) is Text and not only.extra:
            return only.text
    return [part_to_dict(part) for part in parts]


def _beside(parts: tuple[Part, ...], out: JSON) -> tuple[Part, ...]:
    """Write what an assistant's message keeps beside its content; the parts that remain."""
    calls: list[Any] = []
    while parts and (call := _as_tool_call(parts[-1])) is not None:
        calls.insert(0, call)
        parts = parts[:-1]
    if calls:
        out["tool_calls"] = calls
    last = parts[-1] if parts else None
    if isinstance(last, Audio) and last.id is not None and last == Audio(id=last.id):
        out["audio"] = {"id": last.id}
        parts = parts[:-1]
    last = parts[-1] if parts else None
    if isinstance(last, Refusal) and not last.extra:
        out["refusal"] = last.text
        parts = parts[:-1]
    for field in REASONING_FIELDS:
        first = parts[0] if parts else None
        if isinstance(first, Reasoning) and first == _beside_content(field, first.text):
            out[field] = first.text
            parts = parts[1:]
    return parts


def _as_tool_call(part: Part) -> Any:
    """A part as it stands in `tool_calls`; None if it does not."""
    if isinstance(part, ToolCall):
        return tool_call_to_dict(part)
    if isinstance(part, Opaque) and part.data.get("type") == "tool_call":
        call = part.data.get("tool_call")
        if isinstance(call, Mapping) and _tool_call(call) == part:
            return call  # pyright: ignore[reportUnknownVariableType]
    return None


def _beside_content(field: str, text: str) -> Reasoning:
    """Reasoning that was read from a field beside the content."""
    return Reasoning(text, extra=NOTHING if field == REASONING_FIELDS[0] else {"field": field})


def tool_call_to_dict(call: ToolCall) -> JSON:
    """A tool call as it stands in `tool_calls`."""
    words = "arguments" if call.kind == "function" else "input"
    body: JSON = {"name": call.name, words: call.arguments}
    out: JSON = {"id": call.id, "type": call.kind, call.kind: body}
    for key, value in call.extra.items():
        if key == call.kind:
            body.update(value)
        else:
            out[key] = value
    return out


def part_to_dict(part: Part) -> JSON:
    """A part as it stands in a content list."""
    match part:
        case Text():
            return {"type": "text", "text": part.text, **part.extra}
        case Image():
            body: JSON = {"url": part.url if part.data is None else _stored(part)}
            if part.detail is not None:
                body["detail"] = part.detail
            return _with_nested("image_url", _typed(body, part), part.extra)
        case Audio():
            return _with_nested("input_audio", _audio_to_dict(part), part.extra)
        case File():
            return _with_nested("file", _file_to_dict(part), part.extra)
        case Refusal():
            return {"type": "refusal", "refusal": part.text, **part.extra}
        case Reasoning():
            return _reasoning_to_dict(part)
        case ToolCall():
            return {"type": "tool_call", "tool_call": tool_call_to_dict(part)}
        case ToolResult():
            msg = "A ToolResult stands alone in a message of role 'tool'; use Message.tool(...)."
            raise ValueError(msg)
        case Opaque():
            return _opaque_to_dict(part)


def _audio_to_dict(part: Audio) -> JSON:
    body: JSON = {}
    if part.data is not None:
        body["data"] = base64.b64encode(part.data).decode()
    for name in ("format", "id", "transcript"):
        value = getattr(part, name)
        if value is not None:
            body[name] = value
    return body


def _file_to_dict(part: File) -> JSON:
    if part.id is not None:
        body: JSON = {"file_id": part.id}
    elif part.url is not None:
        body = {"file_url": part.url}
    else:
        body = {"file_data": _stored(part)}
    if part.filename is not None:
        body["filename"] = part.filename
    return _typed(body, part)


def _stored(part: Image | File) -> str:
    """Bytes as a data URL; without a media type where there is none, so that none comes back."""
    if part.media_type is not None:
        return data_url(part.media_type, part.data)
    return f"data:;base64,{base64.b64encode(part.data or b'').decode()}"


def _typed(body: JSON, part: Image | File) -> JSON:
    """Say the media type where no data URL says it."""
    if part.data is None and part.media_type is not None:
        body["media_type"] = part.media_type
    return body


def _opaque_to_dict(part: Opaque) -> JSON:
    """The provider's own object where it would be read as this very part; else in a wrapper."""
    given = dict(part.data)
    if part_from_dict(given) == part:
        return given
    out: JSON = {"type": "opaque", "data": given}
    if part.provider:
        out["provider"] = part.provider
    if not part.content:
        out["content"] = False
    if part.choice:
        out["choice"] = part.choice
    return out


def _reasoning_to_dict(part: Reasoning) -> JSON:
    out: JSON = {"type": "reasoning", "text": part.text}
    if part.signature is not None:
        out["signature"] = part.signature
    if part.id is not None:
        out["id"] = part.id
    if part.redacted:
        out["redacted"] = True
    return {**out, **part.extra}


def _with_nested(key: str, body: JSON, extra: JSONObject) -> JSON:
    if not extra:
        return {"type": key, key: body}
    outer = {name: value for name, value in extra.items() if name != key}
    return {"type": key, key: {**body, **extra.get(key, {})}, **outer}


def data_url(media_type: str | None, data: bytes | None) -> str:
    """Bytes as a base64 data URL."""
    encoded = base64.b64encode(data or b"").decode()
    return f"data:{media_type or 'application/octet-stream'};base64,{encoded}"
