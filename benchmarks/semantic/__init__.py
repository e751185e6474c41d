"""How often the semantic cache is right, and how long it looks."""
