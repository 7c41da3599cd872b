"""`cliphand train` on a tiny model, in processes of its own that can be killed; see `start`.

A server that has imported everything forks them: each is a process as real as any, without the seconds of its imports.
"""

import os
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from forked import server_with

TINY = {
    "backbone": "test_resnet",
    "input-size": 64,
    "lixel-channels": 32,
    "joint-feature": 32,
    "depths": "1 0 0 0",
    "heads": "4 4 2 1",
    "epochs": 3,
    "batch": 2,
    "accelerator": "cpu",
    "workers": 0,
    "validation-fraction": 0,
    "backbone-weights": "none",
    "text-tower": "random",
    "weight-clip": 0,
}


def arguments(data: Path, hand: Path, out: Path, /, *flags: str, **options: object) -> list[str]:
    """Of `cliphand`; options by their names with underscores."""
    given = {name.replace("_", "-"): value for name, value in options.items()}
    chosen = {"data": data, "hand": hand, "out": out} | TINY | given
    words = [word for name, value in chosen.items() for word in (f"--{name}", *str(value).split())]
    return ["train", *words, *flags]


def start(words: list[str], log: Path, *, own_group: bool = False) -> ForkServerProcess:
    """The command as a process, in a process group of its own if asked; what it prints goes to the end of a file."""
    server = server_with("cliphand.cli.app", "cliphand.cli.train_run", "cliphand.training.loop", "train_command")
    process = server.Process(target=run, args=(words, log, own_group))
    process.start()
    return process


def run(words: list[str], log: Path, own_group: bool) -> None:
    """What the process does."""
    if own_group:
        os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    import torch

    from cliphand.cli.app import main

    torch.set_num_threads(1)
    sys.argv[1:] = words
    main()
