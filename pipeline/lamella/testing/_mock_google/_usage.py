"""What an answer says it consumed, in Google's words: totals, and their parts by modality."""

from __future__ import annotations

from lamella._usage import Usage
from lamella.testing._mock_openai._requests import JSON


def usage_document(usage: Usage, *, vertex: bool, spent: tuple[int, int] | None = None) -> JSON:
    """What was consumed.

    Args:
        usage: All of it.
        vertex: Whether Vertex AI says so, which also tells how it is paid for.
        spent: In the middle of a stream, the tokens of text and of thoughts so far.
    """
    text = usage.output_tokens - usage.reasoning_output
    thoughts = usage.reasoning_output
    if spent is not None:
        text, thoughts = min(text, spent[0]), min(thoughts, spent[1])
    prompt = usage.input_tokens
    found: JSON = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": text,
        "totalTokenCount": prompt + text + thoughts,
        "promptTokensDetails": prompt_details(usage),
    }
    if spent is None:
        found["candidatesTokensDetails"] = _details(
            TEXT=usage.text_output, AUDIO=usage.audio_output, IMAGE=usage.image_output
        )
    if thoughts:
        found["thoughtsTokenCount"] = thoughts
    if usage.cache_read:
        found["cachedContentTokenCount"] = usage.cache_read
        found["cacheTokensDetails"] = _details(TEXT=usage.cache_read)
    if vertex:
        found["trafficType"] = "ON_DEMAND"
    return found


def prompt_details(usage: Usage) -> list[JSON]:
    """The tokens of a request by modality; what a cache served is text."""
    text = usage.input_tokens - usage.image_input - usage.audio_input
    return _details(TEXT=text, IMAGE=usage.image_input, AUDIO=usage.audio_input)


def _details(**counts: int) -> list[JSON]:
    return [
        {"modality": modality, "tokenCount": count}
        for modality, count in counts.items()
        if count or modality == "TEXT"
    ]
