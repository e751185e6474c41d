"""What this distribution contributes."""
