"""Where a millimetre decides: an engine's hands against PyTorch's on photographs that no step has seen.

Read `parity.compare` first; `images` chooses the photographs, `plans` holds TensorRT's plans to the same tolerance.
"""
