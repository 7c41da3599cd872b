"""Losses, the training module and the loop."""
