"""What Lamella claims about speed, measured beside others in one run.

`python -m benchmarks` runs everything that can be run here; `python -m benchmarks --quick` a smoke.
`python -m benchmarks.pii` is about detectors of personal data: how much they find, and how quickly.
"""
