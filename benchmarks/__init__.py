"""Speed and accuracy of engines, measured side by side and reported.

The way in is `benchmarks.bench.run`; read `run_bench` there first. The rooms in reading order:

1. `contestants`: who takes part: PyTorch, the exported files, and other forms of the same weights.
2. `measure`: one quantity a file; times are interleaved (`measure.interleaved`).
3. `bench`: all contestants measured, as rows of one table.
4. `report`: the same as an HTML page with charts.
5. `studies`: questions asked once, each with a command of its own.
6. `gpu`: everything that needs a GPU, in one command.
"""
