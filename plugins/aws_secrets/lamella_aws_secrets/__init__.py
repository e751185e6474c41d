"""Secrets from AWS Secrets Manager, for Lamella."""
