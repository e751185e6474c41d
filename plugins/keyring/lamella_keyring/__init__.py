"""Secrets from the system's keyring, for Lamella."""
