"""`lamella mock`: the embedded provider for programs that speak HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from typing import Any

import anyio
import botocore.session
import pytest
from google import genai

from lamella import ChatRequest, Pipeline, RateLimitError
from lamella.transports import OpenAI


def welcome(process: subprocess.Popen[bytes], last: str = "AZURE_OPENAI_API_KEY") -> dict[str, str]:
    """Wait until it listens; the variables that it prints, up to the last that is wanted."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    while last not in found:
        line = process.stdout.readline().decode()
        assert line, "it ended before it listened"
        if line.startswith("  export "):
            name, _, value = line.removeprefix("  export ").strip().partition("=")
            found[name] = value
    return found


def ask(variables: dict[str, str]) -> str:
    """One answer from it."""

    async def asked() -> str:
        transport = OpenAI(variables["OPENAI_API_KEY"], base_url=variables["OPENAI_BASE_URL"])
        async with Pipeline([], transport) as pipeline:
            return (await pipeline.run(ChatRequest.of("hello", model="mock"))).text

    return anyio.run(asked)


def test_it_serves_until_ctrl_c(processes: Any) -> None:
    """It prints how to ask it, answers, and ends well on Ctrl-C."""
    process = processes.start("mock", "--port", "0", "--key", "good")
    variables = welcome(process)
    assert variables["OPENAI_API_KEY"] == "good"
    assert "hello" in ask(variables)
    process.send_signal(signal.SIGINT)
    done = processes.end(process)
    assert done.code == 0
    assert done.err == ""


def test_googles_client_needs_no_more_than_the_variables(
    processes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it prints in the environment, Google's own client reaches it."""
    process = processes.start("mock", "--port", "0", "--key", "good")
    variables = welcome(process, "GEMINI_API_KEY")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with genai.Client() as client:
        answer = client.models.generate_content(model="mock", contents="hello")
    assert "hello" in (answer.text or "")


@pytest.mark.parametrize("key", ["AKIDEXAMPLE:secret/+", "bedrock-api-key"])
def test_amazons_client_needs_no_more_than_the_variables(
    processes: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Keys that sign and keys that are a bearer's, as it prints them."""
    last = "AWS_SECRET_ACCESS_KEY" if ":" in key else "AWS_BEARER_TOKEN_BEDROCK"
    variables = welcome(processes.start("mock", "--port", "0", "--key", key), last)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client: Any = botocore.session.Session().create_client("bedrock-runtime")
    messages = [{"role": "user", "content": [{"text": "mock: say Good."}]}]
    answer = client.converse(modelId="mock", messages=messages)
    client.close()
    assert answer["output"]["message"]["content"] == [{"text": "Good."}]


def test_faults_come_in_turn(processes: Any) -> None:
    """Several `--fault` are for the first request, the second, and so on; then all is well."""
    process = processes.start("mock", "--port", "0", "--fault", "status=429", "--fault", "ok")
    variables = welcome(process)
    with pytest.raises(RateLimitError):
        ask(variables)
    assert ask(variables) == ask(variables)


def test_sigterm_ends_it(processes: Any) -> None:
    """As a service manager would."""
    process = processes.start("mock", "--port", "0")
    welcome(process)
    process.send_signal(signal.SIGTERM)
    done = processes.end(process)
    assert done.code == 143
    assert "Traceback" not in done.err


def test_wrong_faults_are_told(lamella: Any) -> None:
    """The verb that there is not, and those that there are."""
    done = lamella("mock", "--fault", "staus=429")
    assert done.code == 2
    assert "Did you mean 'status'?" in done.err


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_that_cannot_be_is_told(lamella: Any, port: str) -> None:
    """With what can be."""
    done = lamella("mock", "--port", port)
    assert done.code == 2
    assert done.err == f"lamella: --port must be from 0 to 65535, not {port}.\n"


def test_a_port_that_is_taken_is_told(lamella: Any) -> None:
    """And what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = lamella("mock", "--port", str(port))
    assert done.code == 2
    assert f"127.0.0.1:{port}" in done.err
    assert "--port" in done.err
