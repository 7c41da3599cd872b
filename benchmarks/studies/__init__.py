"""Questions asked once: each file is a command (`python -m benchmarks.studies.NAME`) that says how to read its figures.

Read `naive_study` first.
"""
