"""Hands rendered once, light by light, that are put before a new background at every view."""
