"""From an FP32 graph to FP16 and INT8 graphs that pass the gate, or are set aside.

Read `typed_graphs.write_typed_graphs` first, then `request` (what can be asked for), `workshop` (which candidate is
taken), `maker` and `judge`, `half` and `quantise` (how one is made), `calibration` and `ranges` (from which images and
numbers), `table` and `blame` (which layers stay in higher precision, and how they are found) and `proof` (what TensorRT
computes in which type).
"""
