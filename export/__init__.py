"""From a checkpoint to typed ONNX graphs, each proven against PyTorch."""
