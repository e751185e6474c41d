"""Secrets from Azure Key Vault, for Lamella."""
