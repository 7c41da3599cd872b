"""CLIP-Hand3D: train, strip, export, prove and time a hand-mesh model.

Source: Guo et al., CLIP-Hand3D: Exploiting 3D Hand Pose Estimation via Context-Aware Prompting, ACM MM 2023.
"""

__version__ = "0.1.0"
