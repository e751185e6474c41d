"""The shapes of requests to Converse, as the official SDKs have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lamella.testing._mock_bedrock._content import BLOCK, CACHE_POINT, GUARDED, STRING, TOOL_NAME
from lamella.testing._mock_bedrock._shapes import (
    Check,
    anything,
    blob,
    boolean,
    listed,
    mapping,
    number,
    one_of,
    record,
    text,
    union,
)

_NONE = record({})
_TOOLS = record(
    {
        "tools": listed(
            union(
                {
                    "toolSpec": record(
                        {"name": TOOL_NAME, "inputSchema": union({"json": anything})},
                        {"description": text(1), "strict": boolean},
                    ),
                    "systemTool": record({"name": TOOL_NAME}),
                    "cachePoint": CACHE_POINT,
                }
            ),
            1,
        )
    },
    {"toolChoice": union({"auto": _NONE, "any": _NONE, "tool": record({"name": TOOL_NAME})})},
)
_GUARDRAIL: Final[Mapping[str, Check]] = {
    "guardrailIdentifier": text(
        0,
        2048,
        r"|[a-z0-9]+|arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:guardrail/[a-z0-9]+",
    ),
    "guardrailVersion": text(pattern=r"|[1-9][0-9]{0,7}|DRAFT"),
    "trace": one_of("enabled", "disabled", "enabled_full"),
}
_COUNTED: Final[Mapping[str, Check]] = {
    "messages": listed(record({"role": one_of("user", "assistant", "system"),
                               "content": listed(BLOCK)})),
    "system": listed(union({"text": text(1), "guardContent": GUARDED,
                            "cachePoint": CACHE_POINT})),
    "toolConfig": _TOOLS,
    "additionalModelRequestFields": anything,
}  # fmt: skip
_OUTPUT = record(
    {},
    {
        "textFormat": record(
            {
                "type": one_of("json_schema"),
                "structure": union(
                    {
                        "jsonSchema": record(
                            {"schema": STRING}, {"name": STRING, "description": STRING}
                        )
                    }
                ),
            }
        ),
        "effort": text(0, 16),
    },
)
_INFERENCE = record(
    {},
    {
        "maxTokens": number(1, whole=True),
        "temperature": number(0, 1),
        "topP": number(0, 1),
        "stopSequences": listed(text(1), 0, 2500),
    },
)


def _converse(guardrail: Mapping[str, Check]) -> Check:
    return record(
        {},
        {
            **_COUNTED,
            "inferenceConfig": _INFERENCE,
            "guardrailConfig": record({}, guardrail),
            "promptVariables": mapping(union({"text": STRING})),
            "additionalModelResponseFieldPaths": listed(text(1, 256), 0, 10),
            "requestMetadata": mapping(text(0, 256, r"[a-zA-Z0-9\s:_@$#=/+,.-]*"), 1, 16),
            "performanceConfig": record({}, {"latency": one_of("standard", "optimized")}),
            "serviceTier": record({"type": one_of("priority", "default", "flex", "reserved")}),
            "outputConfig": _OUTPUT,
        },
    )


CONVERSE: Final = _converse(_GUARDRAIL)
CONVERSE_STREAM: Final = _converse({**_GUARDRAIL, "streamProcessingMode": one_of("sync", "async")})
COUNT_TOKENS: Final = record(
    {
        "input": union(
            {
                "converse": record({}, _COUNTED),
                "invokeModel": record({"body": blob()}),
            }
        )
    }
)
