"""Run-times of an exported hand model behind one protocol."""
