"""OpenAI's and Azure's APIs on the mock server."""
