"""Ollama's native API on the mock server."""
