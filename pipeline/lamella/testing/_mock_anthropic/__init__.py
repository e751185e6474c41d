"""Anthropic's Messages API on the mock server."""
