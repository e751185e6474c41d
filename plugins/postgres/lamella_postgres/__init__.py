"""Records of spend that the processes of a fleet share, for Lamella, in PostgreSQL."""

from __future__ import annotations
