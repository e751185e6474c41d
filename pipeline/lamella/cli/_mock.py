"""`lamella mock`: the embedded provider behind HTTP, faults included."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

if TYPE_CHECKING:
    from lamella.testing import MockServer

_LAST_PORT: Final = 65_535


def mock(
    *,
    port: Annotated[int, Parameter(show_default=True)] = 8080,
    host: Annotated[str, Parameter(show_default=True)] = "127.0.0.1",
    fault: tuple[str, ...] = (),
    latency: float = 0.0,
    key: tuple[str, ...] = (),
) -> int:
    """Serve the embedded provider over HTTP until Ctrl-C, in the words of many providers.

    It speaks the APIs of OpenAI, Azure, Anthropic, Google, Amazon Bedrock and Ollama.

    Args:
        port: Where to listen; 0 takes any free port.
        host: The address to listen on. Other machines reach it only if it is not the loopback.
        fault: What goes wrong with an answer, such as "status=429; retry-after=1". One is for every
            request; several are for the first, the second and so on, and "ok" is for none.
        latency: Seconds until an answer begins.
        key: A key that is accepted; without one everybody is.
    """
    from lamella.cli._errors import UsageError
    from lamella.cli._interrupts import run
    from lamella.testing import MockServer

    if not 0 <= port <= _LAST_PORT:
        raise UsageError(f"--port must be from 0 to {_LAST_PORT}, not {port}.")
    try:
        faults = fault[0] if len(fault) == 1 else list(fault) or None
        server = MockServer(host=host, port=port, faults=faults, latency=latency, keys=key)
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        run(lambda _: _serve(server, key))
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        msg = f"Nothing can listen on {host}:{port}: {cause.strerror or cause}."
        hint = "Choose another --port (0 takes any that is free) or another --host."
        raise UsageError(msg, hint=hint) from error
    return 0


async def _serve(server: MockServer, keys: tuple[str, ...]) -> None:
    import anyio

    async with server:
        sys.stdout.write(_welcome(server.url, server.endpoint, keys))
        sys.stdout.flush()
        await anyio.sleep_forever()


def _welcome(url: str, endpoint: str, keys: tuple[str, ...]) -> str:
    key = keys[0] if keys else "any"
    # A key of this server is no secret: it opens nothing but a mock.
    return f"""\
The embedded provider listens on {url}; Ctrl-C ends it.

Ask it:
  curl {url}/chat/completions -H "Authorization: Bearer {key}" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "mock", "messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'

Point a program to it, by the variables that its SDK reads; OpenAI's:
  export OPENAI_BASE_URL={url}
  export OPENAI_API_KEY={key}
for Azure's:
  export AZURE_OPENAI_ENDPOINT={endpoint}
  export AZURE_OPENAI_API_KEY={key}
for Anthropic's:
  export ANTHROPIC_BASE_URL={endpoint}
  export ANTHROPIC_API_KEY={key}
for Google's:
  export GOOGLE_GEMINI_BASE_URL={endpoint}
  export GOOGLE_VERTEX_BASE_URL={endpoint}
  export GEMINI_API_KEY={key}
for Ollama's:
  export OLLAMA_HOST={endpoint}
  export OLLAMA_API_KEY={key}
for Amazon Bedrock's:
  export AWS_ENDPOINT_URL_BEDROCK_RUNTIME={endpoint}
  export AWS_DEFAULT_REGION=us-east-1
{_amazon(key)}
"""


def _amazon(key: str) -> str:
    """A pair of keys signs requests; a plain one is a bearer's."""
    if ":" not in key:
        return f"  export AWS_BEARER_TOKEN_BEDROCK={key}"
    name, secret, *token = key.split(":", 2)
    lines = [f"  export AWS_ACCESS_KEY_ID={name}", f"  export AWS_SECRET_ACCESS_KEY={secret}"]
    return "\n".join([*lines, *[f"  export AWS_SESSION_TOKEN={each}" for each in token]])
