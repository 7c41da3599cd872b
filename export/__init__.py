"""From a checkpoint to ONNX graphs of every precision, each held against PyTorch in millimetres.

The way in is `export.folder.write.export_checkpoint`, which writes the FP32 graph; read it first. `cliphand export`
then calls `precision.typed_graphs.write_typed_graphs` for the others. The rooms in reading order:

1. `graph`: from a trained model to an FP32 ONNX graph that computes the same (`graph.trace.export_graph`).
2. `gate`: how far an engine's hands are from PyTorch's on held-out photographs, and whether that is too far
   (`gate.parity.compare`).
3. `precision`: from that graph to FP16 and INT8 graphs, each judged at the gate
   (`precision.typed_graphs.write_typed_graphs`).
4. `qat`: training on with the rounding of an INT8 graph in the loop (`qat.quantise_aware`).
5. `folder`: all of it as a folder of files with a manifest.
"""
