"""SemanticCache: a question that was asked before in other words gets the answer given then."""

from __future__ import annotations

from lamella import Packing
from lamella_middlewares.semantic_cache._control import SemanticControl
from lamella_middlewares.semantic_cache._facts import different_facts
from lamella_middlewares.semantic_cache._middleware import SemanticCache
from lamella_middlewares.semantic_cache._records import Keep, Similar

__all__ = ("Keep", "Packing", "SemanticCache", "SemanticControl", "Similar", "different_facts")
