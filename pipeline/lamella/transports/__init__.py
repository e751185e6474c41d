"""Transports: handlers that talk to providers."""
