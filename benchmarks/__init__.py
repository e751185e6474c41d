"""What Lamella claims about speed, measured beside others in one run.

`python -m benchmarks` runs everything that can be run here; `python -m benchmarks --quick` a smoke.
"""
