"""Detectors of personal data, and the scanner that runs them over a text."""
