"""How well personal data is found, and how quickly, beside others in one run.

`python -m benchmarks.pii`; what it compares with comes by `uv run --group comparisons`.
"""
