"""The official client of OpenAI's API, as tests use it."""

from openai import AsyncOpenAI

from lamella.testing import MockServer

QUESTION = "Why is the sky blue?"


def client_of(server: MockServer, key: str = "sk-right") -> AsyncOpenAI:
    """A client that does not try again by itself."""
    return AsyncOpenAI(api_key=key, base_url=server.url, max_retries=0)
