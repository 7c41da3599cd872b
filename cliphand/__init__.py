"""CLIP-Hand3D: a network from one photograph of a hand to joints and mesh, and everything that trains it.

The way in is `cliphand.cli.app`, one file per command. In reading order: `config` (every choice), `hand` (joints and
mesh), `data` (photographs and labels to crops), `model` (`model.hand_model` is what is deployed), `training`
(`training.loop.train_hand`), `metrics`, `checkpoint`.

Source: Guo et al., CLIP-Hand3D: Exploiting 3D Hand Pose Estimation via Context-Aware Prompting, ACM MM 2023.
"""

__version__ = "0.1.0"
