"""Anthropic's Messages API for Lamella."""
