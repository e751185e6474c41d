"""Many requests to language models as a step of a Ray Data pipeline."""

from __future__ import annotations

from lamella_ray._kept_rows import Job
from lamella_ray._map import Workers, map_rows
from lamella_ray._report import report

__all__ = ["Job", "Workers", "map_rows", "report"]
