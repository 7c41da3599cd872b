"""Who takes part in a benchmark: read `exported.Entrant` and `exported.open_entrants` first.

`baselines` are the published form of the network and PyTorch's compiler, `plans` TensorRT's files.
"""
