"""Secrets from HashiCorp Vault and OpenBao, for Lamella."""
