"""The Azure OpenAI transport: addresses, keys and backups."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import lamella
from lamella import ChatRequest, Pipeline
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella.transports import AzureBackup, AzureOpenAI, AzureOptions

pytestmark = pytest.mark.anyio

JSON = [("Content-Type", "application/json")]
ANSWER = {
    "id": "c1",
    "model": "gpt-x",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def reply(status: int = 200, faults: Faults | None = None, **error: Any) -> Reply:
    """An answer, or an error."""
    body = ANSWER if status == 200 else {"error": error}
    return Reply(status, JSON, body=json.dumps(body).encode(), faults=faults)


@asynccontextmanager
async def server(answer: Reply | None = None) -> AsyncIterator[HTTPServer]:
    """A server that always gives the same answer."""

    async def handler(request: Received) -> Reply:
        return answer or reply()

    async with HTTPServer(handler) as made:
        yield made


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without Azure's variables."""
    for name in (
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_ENDPOINT",
        "OPENAI_API_VERSION",
        "AZURE_OPENAI_AD_TOKEN",
        "AZURE_API_KEY",
        "AZURE_RESOURCE_NAME",
    ):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


async def ask(transport: AzureOpenAI, **fields: Any) -> lamella.ChatResponse:
    """One answer."""
    async with Pipeline([], transport) as pipeline:
        return await pipeline.run(ChatRequest.of("hi", **{"model": "gpt-x", **fields}))


async def test_v1_form() -> None:
    """Without an API version requests go to the v1 address, with the key in `api-key`."""
    async with server() as made:
        response = await ask(AzureOpenAI("k-1", endpoint=made.url))
        (seen,) = made.received
        assert seen.target == "/openai/v1/chat/completions"
        assert seen.headers["api-key"] == "k-1"
        assert "authorization" not in seen.headers
        assert json.loads(seen.body)["model"] == "gpt-x"
        assert response.served_by == "azure"


@pytest.mark.parametrize("suffix", ["", "/", "/openai", "/openai/v1/"])
async def test_deployment_form(suffix: str) -> None:
    """With an API version requests go to the deployment's address."""
    async with server() as made:
        options = AzureOptions(api_version="2024-10-21")
        transport = AzureOpenAI(
            "k", endpoint=made.url + suffix, deployment="my dep", options=options
        )
        await ask(transport)
        target = "/openai/deployments/my%20dep/chat/completions?api-version=2024-10-21"
        assert made.received[0].target == target


async def test_forms_may_be_chosen(environment: pytest.MonkeyPatch) -> None:
    """The form is an option; the version may come from the environment."""
    async with server() as made:
        options = AzureOptions(form="v1", api_version="preview")
        await ask(AzureOpenAI("k", endpoint=made.url, options=options))
        with pytest.raises(lamella.ConfigurationError, match="OPENAI_API_VERSION"):
            await ask(AzureOpenAI("k", endpoint=made.url, options=AzureOptions(form="deployment")))
        environment.setenv("OPENAI_API_VERSION", "2025-01-01")
        await ask(AzureOpenAI("k", endpoint=made.url))
        assert [seen.target for seen in made.received] == [
            "/openai/v1/chat/completions?api-version=preview",
            "/openai/deployments/gpt-x/chat/completions?api-version=2025-01-01",
        ]


async def test_responses_are_not_under_a_deployment() -> None:
    """The Responses API names its deployment in the body."""
    async with server() as made:
        options = AzureOptions(api="responses", api_version="2025-04-01")
        with pytest.raises(lamella.ProtocolError):  # the server answers as the chat API does
            await ask(AzureOpenAI("k", endpoint=made.url, deployment="d", options=options))
        (seen,) = made.received
        assert seen.target == "/openai/responses?api-version=2025-04-01"
        assert json.loads(seen.body)["model"] == "d"


async def test_deployments_by_model() -> None:
    """A mapping names the deployment of each model; others go by their own names."""
    async with server() as made:
        transport = AzureOpenAI("k", endpoint=made.url, deployment={"gpt-x": "prod-x"})
        async with Pipeline([], transport) as pipeline:
            for model in ("gpt-x", "gpt-y"):
                await pipeline.run(ChatRequest.of("hi", model=model))
        assert [json.loads(seen.body)["model"] for seen in made.received] == ["prod-x", "gpt-y"]


async def test_entra_tokens() -> None:
    """A token provider, plain or async, is asked for each request."""
    tokens = iter(["t-1", "t-2"])

    async def fetch() -> str:
        return next(tokens)

    async with server() as made:
        transport = AzureOpenAI(endpoint=made.url, options=AzureOptions(token=fetch))
        async with Pipeline([], transport) as pipeline:
            for _ in range(2):
                await pipeline.run(ChatRequest.of("hi", model="m"))
        sent = [seen.headers["authorization"] for seen in made.received]
        assert sent == ["Bearer t-1", "Bearer t-2"]
        assert "api-key" not in made.received[0].headers


@pytest.mark.parametrize(
    ("variables", "header", "value"),
    [
        ({"AZURE_OPENAI_API_KEY": "k1", "AZURE_API_KEY": "k2"}, "api-key", "k1"),
        ({"AZURE_API_KEY": "k2"}, "api-key", "k2"),
        ({"AZURE_OPENAI_AD_TOKEN": "t", "AZURE_API_KEY": "k"}, "authorization", "Bearer t"),
    ],
)
async def test_environment(
    environment: pytest.MonkeyPatch, variables: dict[str, str], header: str, value: str
) -> None:
    """Address and key are found in Azure's variables."""
    async with server() as made:
        environment.setenv("AZURE_OPENAI_ENDPOINT", made.url)
        for name, given in variables.items():
            environment.setenv(name, given)
        await ask(AzureOpenAI())
        assert made.received[0].headers[header] == value


async def test_variables_stay_with_azure(environment: pytest.MonkeyPatch) -> None:
    """A key of the environment is not sent to an address that is not Azure's."""
    environment.setenv("AZURE_OPENAI_API_KEY", "k-ambient")
    async with server() as made:
        with pytest.raises(lamella.ConfigurationError, match="AZURE_OPENAI_API_KEY"):
            await ask(AzureOpenAI(endpoint=made.url))
        assert not made.requests


def test_resource_name(environment: pytest.MonkeyPatch) -> None:
    """A resource's name makes its address."""
    from lamella.transports._azure_address import root_of

    assert root_of(AzureBackup(resource="acme-eu")) == "https://acme-eu.openai.azure.com"
    environment.setenv("AZURE_RESOURCE_NAME", "acme-us")
    assert root_of(AzureBackup()) == "https://acme-us.openai.azure.com"
    with pytest.raises(lamella.ConfigurationError, match="no name"):
        root_of(AzureBackup(resource="acme.evil.com/"))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"endpoint": "acme"}, "https://"),
        ({"endpoint": "https://acme:99999"}, "no address"),
        ({"endpoint": "https://acme/ü"}, "no address"),
        ({"endpoint": "https://a.b", "resource": "c"}, "both"),
        ({"backups": [{"endpiont": "x"}]}, "endpiont"),
        ({"backups": [{"form": "v2"}]}, "v2"),
        ({"options": AzureOptions(token="t"), "api_key": "k"}, "both"),
    ],
)
def test_wrong_options(arguments: dict[str, Any], match: str) -> None:
    """What cannot be meant is an error where it is given."""
    with pytest.raises(lamella.ConfigurationError, match=match):
        AzureOpenAI(**arguments)


async def test_no_address() -> None:
    """Without an address the error names the options and the variables."""
    with pytest.raises(lamella.ConfigurationError, match="AZURE_OPENAI_ENDPOINT"):
        await ask(AzureOpenAI("k"))


# --- backups ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [reply(503), reply(504), reply(408), reply(faults=Faults(reset_before_headers=True))],
)
async def test_backup_answers(answer: Reply) -> None:
    """Where a resource is away, busy or late, the next one answers, in the same attempt."""
    async with server(answer) as first, server() as second:
        backup = {"endpoint": second.url, "name": "west"}
        transport = AzureOpenAI("k", endpoint=first.url, deployment="d", backups=[backup])
        response = await ask(transport)
        assert response.text == "ok"
        assert response.served_by == "west"
        (attempt,) = response.trace.attempts
        assert (attempt.provider, attempt.outcome) == ("west", lamella.Outcome.COMPLETE)
        (note,) = response.trace.notes
        assert (note.layer, note.name) == ("azure", "backup")
        assert (note.fields["failed"], note.fields["next"]) == ("azure", "west")
        assert second.received[0].headers["api-key"] == "k"
        assert json.loads(second.received[0].body)["model"] == "d"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 402, 500])
async def test_backup_is_not_for_everything(status: int) -> None:
    """Errors of authentication, quota and the request stay where they are."""
    async with server(reply(status)) as first, server() as second:
        transport = AzureOpenAI("k", endpoint=first.url, backups=[AzureBackup(endpoint=second.url)])
        with pytest.raises(lamella.ProviderError) as caught:
            await ask(transport)
        assert caught.value.status == status
        assert not second.requests


async def test_backup_has_its_own_key_and_form() -> None:
    """What a backup says itself is not inherited."""
    async with server(reply(503)) as first, server() as second:
        backup = {"endpoint": second.url, "token": "t", "deployment": "e", "api_version": "1"}
        await ask(AzureOpenAI("k", endpoint=first.url, deployment="d", backups=[backup]))
        (seen,) = second.received
        assert seen.target == "/openai/deployments/e/chat/completions?api-version=1"
        assert seen.headers["authorization"] == "Bearer t"
        assert "api-key" not in seen.headers


async def test_patience() -> None:
    """A resource that does not begin in time is left for the next one."""
    async with server(reply(faults=Faults(hold_headers=math.inf))) as first, server() as second:
        transport = AzureOpenAI(
            "k",
            endpoint=first.url,
            backups=[{"endpoint": second.url}],
            options=AzureOptions(patience=0.1),
        )
        with anyio.fail_after(30):
            response = await ask(transport)
            assert response.served_by == "azure-backup1"
            await first.until(lambda it: not it.open_connections)


async def test_all_backups_fail() -> None:
    """The last resource's error is raised, and the failures before it are noted."""
    async with server(reply(503)) as first:
        transport = AzureOpenAI(
            "k", endpoint=first.url, backups=[{"endpoint": "http://127.0.0.1:1"}] * 2
        )
        with pytest.raises(lamella.ConnectError) as caught:
            await ask(transport)
        assert caught.value.provider == "azure-backup2"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(504), lamella.Outcome.FAILED),
        (reply(faults=Faults(reset_before_headers=True)), lamella.Outcome.UNKNOWN),
        (reply(faults=Faults(hold_headers=math.inf)), lamella.Outcome.TIMED_OUT),
    ],
)
async def test_backup_that_is_away(answer: Reply, outcome: lamella.Outcome) -> None:
    """That nothing reached a backup does not undo what was sent to the resource before it."""
    async with server(answer) as first:
        transport = AzureOpenAI(
            "k",
            endpoint=first.url,
            backups=[{"endpoint": "http://127.0.0.1:1"}],
            options=AzureOptions(patience=0.1),
        )
        with pytest.raises(lamella.ConnectError) as caught:
            await ask(transport)
        assert caught.value.outcome is caught.value.attempts[0].outcome is outcome


async def test_backups_count_as_attempts() -> None:
    """The bound on attempts of a model turn holds for backups as well."""
    async with server(reply(503)) as first:
        backups = [{"endpoint": first.url}] * 20
        with pytest.raises(lamella.OverloadedError):
            await ask(AzureOpenAI("k", endpoint=first.url, backups=backups))
        assert first.requests == 10


async def test_health() -> None:
    """Health tells of each resource; one that is well is enough."""
    async with server() as first:
        transport = AzureOpenAI(
            "k", endpoint="http://127.0.0.1:1", backups=[{"endpoint": first.url}]
        )
        async with Pipeline([], transport) as pipeline:
            part = (await pipeline.health()).transports["azure"]
        assert part.well
        assert set(part.detail) == {"azure", "azure-backup1"}
    assert (await AzureOpenAI().health()).well is False
