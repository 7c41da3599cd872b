"""Photographs and labels: reading, cropping, augmenting, prompting."""
