"""`cliphand train` in one process and in two, one command after the other; see test_trust_training.

A script, because every process of a run imports the main module: what it changes is changed in each of them.
"""

import json
import sys

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cliphand.cli.app import main
from cliphand.model.text_encoder import TOWER_WIDTH
from cliphand.training import loop


class SmallTower(nn.Embedding):
    """In the place of CLIP's tower, whose making would take most of the time."""

    def __init__(self, source: str, *, seed: int) -> None:
        super().__init__(49408, TOWER_WIDTH)
        nn.init.normal_(self.weight, generator=torch.Generator().manual_seed(seed))
        self.requires_grad_(False)


# Evaluated: the statistics of a part of the batch are not those of the batch.
_BatchNorm.training = property(lambda layer: False, lambda layer, value: None)
loop.TextTower = SmallTower

if __name__ == "__main__":
    torch.set_num_threads(1)
    for words in json.loads(sys.argv[1]):
        sys.argv[1:] = words
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise
