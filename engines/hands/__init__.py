"""From a photograph on disk to a hand in metres, without PyTorch: read `reader.read_hands` first."""
