"""The fields of Google's requests, as far as the mock server reads them strictly.

A field is `string`, `bool`, `int`, `number`, `bytes`, `any`, `object` (any JSON object), an
`enum:` with its name, or another message; `[]` repeats it and `map:` keys it by names. What a
deeper message of a hosted tool or of sound holds is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

UNKNOWN: Final = "mockUnknown"
"""A kind of part that only the verb `unknown` brings, and that comes back as it was given."""

_PROMPT: Final = {
    "contents": "Content[]",
    "systemInstruction": "Content",
    "tools": "Tool[]",
    "generationConfig": "GenerationConfig",
}

MESSAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "GenerateContentRequest": {
        **_PROMPT,
        "model": "string",
        "toolConfig": "ToolConfig",
        "safetySettings": "SafetySetting[]",
        "labels": "map:string",
        "cachedContent": "string",
        "serviceTier": "enum:ServiceTier",
        "continuationToken": "bytes",
        "store": "bool",
        "modelArmorConfig": "object",
        "outputConfig": "object",
    },
    "CountTokensRequest": {
        **_PROMPT,
        "model": "string",
        "generateContentRequest": "GenerateContentRequest",
    },
    "EmbedContentRequest": {
        "model": "string",
        "content": "Content",
        "taskType": "enum:TaskType",
        "title": "string",
        "outputDimensionality": "int",
        "embedContentConfig": "EmbedContentConfig",
    },
    "BatchEmbedContentsRequest": {"requests": "EmbedContentRequest[]"},
    "EmbedContentConfig": {
        "taskType": "enum:TaskType",
        "title": "string",
        "outputDimensionality": "int",
        "autoTruncate": "bool",
        "documentOcr": "bool",
        "audioTrackExtraction": "bool",
    },
    "PredictRequest": {"instances": "Instance[]", "parameters": "PredictParameters"},
    "Instance": {
        "content": "string",
        "taskType": "enum:TaskType",
        "title": "string",
        "mimeType": "string",
    },
    "PredictParameters": {"outputDimensionality": "int", "autoTruncate": "bool"},
    "Content": {"parts": "Part[]", "role": "string"},
    "Part": {
        "text": "string",
        "inlineData": "Blob",
        "fileData": "FileData",
        "functionCall": "FunctionCall",
        "functionResponse": "FunctionResponse",
        "executableCode": "object",
        "codeExecutionResult": "object",
        "toolCall": "object",
        "toolResponse": "object",
        UNKNOWN: "object",
        "thought": "bool",
        "thoughtSignature": "bytes",
        "videoMetadata": "object",
        "mediaResolution": "MediaResolution",
        "mediaProcessing": "string",
        "partMetadata": "object",
        "audioTranscription": "object",
        "speechMetadata": "object",
        "documentMetadata": "object",
        "spreadsheetMetadata": "object",
        "audioMetadata": "object",
    },
    "Blob": {"mimeType": "string", "data": "bytes", "displayName": "string"},
    "FileData": {"mimeType": "string", "fileUri": "string", "displayName": "string"},
    "MediaResolution": {"level": "enum:MediaResolutionLevel", "numTokens": "int"},
    "FunctionCall": {
        "id": "string",
        "name": "string",
        "args": "object",
        "partialArgs": "object[]",
        "willContinue": "bool",
    },
    "FunctionResponse": {
        "id": "string",
        "name": "string",
        "response": "object",
        "parts": "FunctionResponsePart[]",
        "willContinue": "bool",
        "scheduling": "enum:Scheduling",
    },
    "FunctionResponsePart": {
        "inlineData": "Blob",
        "fileData": "FileData",
        "mediaResolution": "MediaResolution",
        "mediaProcessing": "string",
        "videoMetadata": "object",
        "documentMetadata": "object",
        "spreadsheetMetadata": "object",
        "audioMetadata": "object",
    },
    "Tool": {
        "functionDeclarations": "FunctionDeclaration[]",
        "googleSearch": "object",
        "googleSearchRetrieval": "object",
        "googleMaps": "object",
        "codeExecution": "object",
        "urlContext": "object",
        "fileSearch": "object",
        "computerUse": "object",
        "retrieval": "object",
        "enterpriseWebSearch": "object",
        "parallelAiSearch": "object",
        "exaAiSearch": "object",
        "mcpServers": "object[]",
    },
    "FunctionDeclaration": {
        "name": "string",
        "description": "string",
        "parameters": "Schema",
        "parametersJsonSchema": "any",
        "response": "Schema",
        "responseJsonSchema": "any",
        "behavior": "enum:Behavior",
    },
    "Schema": {
        "additionalProperties": "any",
        "defs": "map:Schema",
        "ref": "string",
        "anyOf": "Schema[]",
        "default": "any",
        "description": "string",
        "enum": "string[]",
        "example": "any",
        "format": "string",
        "items": "Schema",
        "maxItems": "int",
        "maxLength": "int",
        "maxProperties": "int",
        "maximum": "number",
        "minItems": "int",
        "minLength": "int",
        "minProperties": "int",
        "minimum": "number",
        "nullable": "bool",
        "pattern": "string",
        "properties": "map:Schema",
        "propertyOrdering": "string[]",
        "required": "string[]",
        "title": "string",
        "type": "enum:Type",
    },
    "ToolConfig": {
        "functionCallingConfig": "FunctionCallingConfig",
        "retrievalConfig": "object",
        "includeServerSideToolInvocations": "bool",
    },
    "FunctionCallingConfig": {
        "mode": "enum:Mode",
        "allowedFunctionNames": "string[]",
        "streamFunctionCallArguments": "bool",
    },
    "SafetySetting": {
        "category": "enum:HarmCategory",
        "threshold": "enum:HarmBlockThreshold",
        "method": "enum:HarmBlockMethod",
    },
    "GenerationConfig": {
        "temperature": "number",
        "topP": "number",
        "topK": "number",
        "candidateCount": "int",
        "maxOutputTokens": "int",
        "stopSequences": "string[]",
        "responseLogprobs": "bool",
        "logprobs": "int",
        "presencePenalty": "number",
        "frequencyPenalty": "number",
        "seed": "int",
        "responseMimeType": "string",
        "responseSchema": "Schema",
        "responseJsonSchema": "any",
        "responseFormat": "any",
        "responseModalities": "enum:Modality[]",
        "mediaResolution": "enum:MediaResolutionLevel",
        "speechConfig": "object",
        "thinkingConfig": "ThinkingConfig",
        "imageConfig": "object",
        "audioTranscriptionConfig": "object",
        "translationConfig": "object",
        "enableAffectiveDialog": "bool",
        "enableEnhancedCivicAnswers": "bool",
        "audioTimestamp": "bool",
        "routingConfig": "object",
        "modelConfig": "object",
    },
    "ThinkingConfig": {
        "includeThoughts": "bool",
        "thinkingBudget": "int",
        "thinkingLevel": "enum:ThinkingLevel",
    },
}

VERTEX_ONLY: Final = frozenset(
    {
        ("GenerateContentRequest", "modelArmorConfig"),
        ("GenerateContentRequest", "outputConfig"),
        ("CountTokensRequest", "systemInstruction"),
        ("CountTokensRequest", "tools"),
        ("CountTokensRequest", "generationConfig"),
        ("EmbedContentRequest", "embedContentConfig"),
        ("FunctionCall", "partialArgs"),
        ("FunctionCall", "willContinue"),
        ("FunctionCallingConfig", "streamFunctionCallArguments"),
        ("SafetySetting", "method"),
        ("Tool", "retrieval"),
        ("Tool", "enterpriseWebSearch"),
        ("Tool", "parallelAiSearch"),
        ("Tool", "exaAiSearch"),
        ("GenerationConfig", "audioTimestamp"),
        ("GenerationConfig", "routingConfig"),
        ("GenerationConfig", "modelConfig"),
        ("GenerationConfig", "responseFormat"),
    }
)
"""What only Vertex AI knows, as the official SDK has it."""

STUDIO_ONLY: Final = frozenset(
    {
        ("GenerateContentRequest", "store"),
        ("CountTokensRequest", "generateContentRequest"),
        ("EmbedContentRequest", "taskType"),
        ("EmbedContentRequest", "title"),
        ("EmbedContentRequest", "outputDimensionality"),
        ("FunctionResponse", "willContinue"),
        ("FunctionResponsePart", "mediaProcessing"),
        ("Part", "toolCall"),
        ("Part", "toolResponse"),
        ("Part", "partMetadata"),
        ("Tool", "fileSearch"),
        ("ToolConfig", "includeServerSideToolInvocations"),
        ("GenerationConfig", "enableEnhancedCivicAnswers"),
    }
)
"""What only the Gemini API of AI Studio knows."""

_TASKS = "SEMANTIC_SIMILARITY CLASSIFICATION CLUSTERING RETRIEVAL_DOCUMENT RETRIEVAL_QUERY"
_HARMS = "HARASSMENT HATE_SPEECH SEXUALLY_EXPLICIT DANGEROUS_CONTENT CIVIC_INTEGRITY JAILBREAK"
_IMAGE_HARMS = "IMAGE_HATE IMAGE_DANGEROUS_CONTENT IMAGE_HARASSMENT IMAGE_SEXUALLY_EXPLICIT"

ENUMS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(words.split())
    for name, words in {
        "ServiceTier": "UNSPECIFIED STANDARD FLEX PRIORITY",
        "TaskType": f"TASK_TYPE_UNSPECIFIED {_TASKS} "
        "QUESTION_ANSWERING FACT_VERIFICATION CODE_RETRIEVAL_QUERY",
        "MediaResolutionLevel": " ".join(
            f"MEDIA_RESOLUTION_{word}" for word in ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH")
        )
        + " MEDIA_RESOLUTION_ULTRA_HIGH",
        "Scheduling": "SCHEDULING_UNSPECIFIED SILENT WHEN_IDLE INTERRUPT",
        "Behavior": "UNSPECIFIED BLOCKING NON_BLOCKING",
        "Type": "TYPE_UNSPECIFIED STRING NUMBER INTEGER BOOLEAN ARRAY OBJECT NULL",
        "Mode": "MODE_UNSPECIFIED AUTO ANY NONE VALIDATED",
        "HarmCategory": " ".join(
            f"HARM_CATEGORY_{word}" for word in ("UNSPECIFIED", *_HARMS.split())
        )
        + " "
        + " ".join(f"HARM_CATEGORY_{word}" for word in _IMAGE_HARMS.split()),
        "HarmBlockThreshold": "HARM_BLOCK_THRESHOLD_UNSPECIFIED BLOCK_LOW_AND_ABOVE "
        "BLOCK_MEDIUM_AND_ABOVE BLOCK_ONLY_HIGH BLOCK_NONE OFF",
        "HarmBlockMethod": "HARM_BLOCK_METHOD_UNSPECIFIED SEVERITY PROBABILITY",
        "Modality": "MODALITY_UNSPECIFIED TEXT IMAGE AUDIO VIDEO",
        "ThinkingLevel": "THINKING_LEVEL_UNSPECIFIED MINIMAL LOW MEDIUM HIGH XHIGH",
    }.items()
}
