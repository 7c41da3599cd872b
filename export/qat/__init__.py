"""Training on with the rounding of an INT8 graph in the loop, where rounding a trained model costs too much.

Read `quantise_aware.QuantiseAware` first, then `fake_quantise` (rounding as the graph does it, with gradients).
"""
