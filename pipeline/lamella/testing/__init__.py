"""Tools for testing what is built on Lamella."""
