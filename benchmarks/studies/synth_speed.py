"""How many synthetic images a second: `python -m benchmarks.studies.synth_speed`.

Two figures, since a rate by the clock says little on a machine that others use too:
- `images_per_s`: images over seconds by the clock, all workers together, after every worker has started.
- `cpu_ms`: processor time of one image in one process; `images_per_s_free` is workers / cpu_ms, the rate on
  cores that nothing else uses.
The last line is one JSON object with both, and the conditions.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure.machine import machine_facts
from cliphand.data.synthetic.dataset import make_dataset
from cliphand.data.synthetic.plan import make_plan
from cliphand.data.synthetic.rigged_hand import build_rigged_hand
from cliphand.data.synthetic.sample import make_sample
from cliphand.data.synthetic.scene import prepare_stage
from cliphand.provenance import git_commit, library_versions

SEED = 7
WARM_PER_WORKER = 48
ALONE = 64


def rate_by_clock(images: int, workers: int) -> float:
    """Images a second while a set is written to a temporary folder, without the start of the workers."""
    marks: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        total = images + WARM_PER_WORKER * workers
        plan = make_plan(Path(folder) / "set", training=total, evaluation=0, seed=SEED, backgrounds=None)
        make_dataset(plan, workers=workers, progress=lambda _, done, __: marks.append((time.perf_counter(), done)))
    start = next(mark for mark in marks if mark[1] >= WARM_PER_WORKER * workers)
    return (marks[-1][1] - start[1]) / (marks[-1][0] - start[0])


def cpu_ms_per_image(images: int) -> float:
    """Mean processor time of one image in this process, threads included."""
    stage = prepare_stage(build_rigged_hand())
    make_sample(stage, seed=SEED, split="training", index=0)
    start = time.process_time()
    for index in range(images):
        make_sample(stage, seed=SEED, split="training", index=index)
    return 1000 * (time.process_time() - start) / images


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600, help="timed by the clock")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args()
    if options.images < 1 or options.workers < 1:
        parser.error("--images and --workers must be at least 1")
    load = os.getloadavg()[0]
    cpu_ms = cpu_ms_per_image(ALONE)
    result = {
        "images_per_s": round(rate_by_clock(options.images, options.workers), 1),
        "images_per_s_free": round(1000 * options.workers / cpu_ms, 1),
        "cpu_ms": round(cpu_ms, 1),
        "workers": options.workers,
        "images": options.images,
        "load_before": round(load, 2),
        "machine": machine_facts(),
        "versions": library_versions(),
        "commit": git_commit(),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
