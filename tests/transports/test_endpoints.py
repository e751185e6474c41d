"""The table of known endpoints."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import pytest

from lamella._card_book import CardBook
from lamella._errors import ConfigurationError, UnknownNameError, UnsupportedError
from lamella._parameter_rules import apply_rules
from lamella.transports._endpoints import Endpoint, endpoints, find_endpoint, read_endpoints

NAMES = {
    "azure-ai",
    "cohere",
    "deepseek",
    "fireworks",
    "groq",
    "mistral",
    "ollama",
    "openai",
    "openrouter",
    "perplexity",
    "together",
    "vllm",
}

RESOURCE = {"AZURE_RESOURCE_NAME": "acme"}


def test_the_known_endpoints() -> None:
    """Each endpoint that the documentation names has a row."""
    assert set(endpoints()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_row_is_complete(name: str) -> None:
    """An address, APIs and a variable for the key; plain HTTP and no key only on this machine."""
    row = find_endpoint(name)
    url = urlsplit(row.url(RESOURCE))
    assert url.hostname
    assert row.apis
    assert row.key_variables
    local = url.scheme == "http"
    assert local == (not row.key_required)
    if local:
        assert ipaddress.ip_address(url.hostname).is_loopback


@pytest.mark.parametrize("name", sorted(NAMES))
def test_cards_are_there_where_a_row_says_so(name: str) -> None:
    """A row's card provider has cards, and its models' APIs are among the endpoint's."""
    row = find_endpoint(name)
    if row.card_provider is not None:
        cards = CardBook().cards(row.card_provider)
        assert cards
        assert {operation for card in cards for operation in card.operations} <= row.apis


@pytest.mark.parametrize("name", sorted(NAMES))
def test_chat_bounds_the_answer_by_some_name(name: str) -> None:
    """`max_output_tokens` goes out under the endpoint's own name for it."""
    row = find_endpoint(name)
    if "chat" in row.apis:
        sent, notes = apply_rules(row, "chat", {"max_output_tokens": 5})
        assert sent == {row.max_tokens_name: 5}
        assert len(notes) == 1


def test_quirks_are_rules() -> None:
    """Mistral has another name for the seed; Groq refuses log probabilities and second answers."""
    assert apply_rules(find_endpoint("mistral"), "chat", {"seed": 1})[0] == {"random_seed": 1}
    groq = find_endpoint("groq")
    assert apply_rules(groq, "chat", {"n": 1})[1] == ()
    refused: list[dict[str, Any]] = [{"n": 2}, {"logprobs": True}, {"logit_bias": {"1": 1}}]
    for params in refused:
        with pytest.raises(UnsupportedError, match="endpoint 'groq' does not take"):
            apply_rules(groq, "chat", params)


def test_the_responses_api_has_fewer_fields() -> None:
    """What has no field there is dropped with a note if it is a wish, refused if it matters."""
    openai = find_endpoint("openai")
    sent, notes = apply_rules(openai, "responses", {"seed": 1, "max_output_tokens": 5})
    assert sent == {"max_output_tokens": 5}
    assert [note.parameter for note in notes] == ["seed"]
    with pytest.raises(UnsupportedError, match="on the responses API"):
        apply_rules(openai, "responses", {"stop": ["x"]})
    assert apply_rules(openai, "chat", {"stop": ["x"], "seed": 1})[1] == ()


def test_an_unknown_name_offers_near_ones() -> None:
    """A misspelt endpoint names the one that was meant; any other, all of them."""
    with pytest.raises(UnknownNameError, match=r"'olama'.*Did you mean 'ollama'\?"):
        find_endpoint("olama")
    with pytest.raises(UnknownNameError, match="Known are azure-ai, cohere"):
        find_endpoint("zzz")


def test_an_address_comes_from_variables() -> None:
    """A variable may hold the address, or a part of it; an empty one counts as not set."""
    azure = find_endpoint("azure-ai")
    assert azure.url(RESOURCE) == "https://acme.services.ai.azure.com/openai/v1"
    assert azure.url({"AZURE_AI_API_BASE": "https://x.test/v1/"}) == "https://x.test/v1"
    with pytest.raises(ConfigurationError, match="needs AZURE_RESOURCE_NAME") as caught:
        azure.url({"AZURE_RESOURCE_NAME": ""})
    assert "AZURE_AI_API_BASE" in str(caught.value.hint)


def test_the_first_variable_that_is_set_holds_the_key() -> None:
    """Rows say which variable to read; the value is not theirs."""
    azure = find_endpoint("azure-ai")
    both = {"AZURE_AI_API_KEY": "a", "AZURE_API_KEY": "b"}
    assert azure.key_variable(both) == "AZURE_AI_API_KEY"
    assert azure.key_variable({**both, "AZURE_AI_API_KEY": ""}) == "AZURE_API_KEY"
    assert azure.key_variable({}) is None


def test_mistakes_in_a_table_are_named_at_once() -> None:
    """A row with a wrong address, API and key names all three."""
    row: dict[str, object] = {"base_url": "acme.test", "apis": ["chats"], "strem_usage": True}
    with pytest.raises(ConfigurationError) as caught:
        read_endpoints({"endpoints": {"acme": row}})
    for expected in [
        "as_of is missing",
        "endpoints.acme.base_url = 'acme.test': expected an address",
        "endpoints.acme.apis: 'chats' is not known. Did you mean 'chat'?",
        "endpoints.acme.strem_usage is not a known key. Did you mean 'stream_usage'?",
    ]:
        assert expected in caught.value.message


def test_an_endpoint_can_be_made_in_code() -> None:
    """A row has the same names in code; what is not stated is OpenAI's way."""
    made = Endpoint("acme", "https://acme.test/v1/")
    assert made.url({}) == "https://acme.test/v1"
    assert made.stream_usage
    assert made.max_tokens_name == "max_tokens"
