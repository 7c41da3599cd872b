"""Who takes part in a benchmark: read `exported.Contestant` and `exported.open_contestants` first.

`baselines` are the published form of the network and PyTorch's compiler, `plans` TensorRT's files.
"""
