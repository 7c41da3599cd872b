"""From a trained model to an FP32 ONNX graph that computes the same.

Read `trace.export_graph` first, then `fold` (what is computed once instead of on every call) and `subpixel` (transposed
convolutions as ordinary ones). `guarantees` and `agreement` check what was written, `inventory` counts its operations.
"""
