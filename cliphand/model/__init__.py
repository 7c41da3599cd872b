"""The network: image branch for deployment, text branch for training."""
