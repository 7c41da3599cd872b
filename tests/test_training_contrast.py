"""Matching logits, their loss, and what two processes make of one global batch."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from cliphand.config import TOWER_WIDTH, ModelConfig, TextConfig, TrainConfig
from cliphand.hand import HandTopology, load_hand, save_hand
from cliphand.model.clip_hand import ClipHand, Matched, TextBranch
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.training.contrast import clip_loss, match_logits, retrieval_accuracy
from cliphand.training.module import HandTraining, weighted_sum
from cliphand.training.samples import Pair, View

MODEL = ModelConfig(backbone="resnet18", input_size=64)
TRAIN = TrainConfig(backbone_weights="none", text=TextConfig(tower="random", joints=3))
GLOBAL_BATCH = 4
PROCESSES = 2


def test_logits_are_the_scaled_cosines_of_each_axis() -> None:
    pose = nn.functional.normalize(torch.randn(3, 4, 8), dim=-1)
    text = nn.functional.normalize(torch.randn(3, 4, 8), dim=-1)
    scales = torch.tensor([1.0, 10.0, 100.0])
    logits = match_logits(Matched(pose, text), scales)
    assert logits.shape == (3, 4, 4)
    assert logits[1, 2, 3].item() == pytest.approx(10 * float(pose[1, 2] @ text[1, 3]), rel=1e-5)


def test_clip_loss_of_equal_logits_is_the_logarithm_of_the_batch() -> None:
    assert clip_loss(torch.zeros(3, 8, 8)).item() == pytest.approx(math.log(8))


def test_clip_loss_counts_rows_and_columns() -> None:
    logits = torch.tensor([[[0.0, 2.0], [0.0, 2.0]]])  # both rows prefer the second match, the columns nothing
    wrong, right, even = math.log(1 + math.exp(2)), math.log(1 + math.exp(-2)), math.log(2)
    assert clip_loss(logits).item() == pytest.approx(((wrong + right) / 2 + even) / 2)


def test_retrieval_accuracy_is_one_on_the_diagonal_and_none_off_it() -> None:
    assert retrieval_accuracy(torch.eye(4).expand(3, 4, 4)).item() == 1
    assert retrieval_accuracy(torch.eye(4).roll(1, 0).expand(3, 4, 4)).item() == 0


def global_batch(topology: HandTopology) -> Pair:
    generator = torch.Generator().manual_seed(7)

    def view() -> View:
        joints = torch.rand(GLOBAL_BATCH, 21, 3, generator=generator)
        verts = torch.from_numpy(topology.template).float() * 3 + torch.rand(GLOBAL_BATCH, 1, 3, generator=generator)
        return View(torch.randn(GLOBAL_BATCH, 3, 64, 64, generator=generator), joints, verts)

    tokens = torch.zeros(GLOBAL_BATCH, 3, 77, dtype=torch.int64)
    tokens[..., :8] = torch.randint(1, 40000, (GLOBAL_BATCH, 3, 8), generator=generator)
    tokens[..., 8] = 49407
    affine = torch.eye(2, 3).expand(GLOBAL_BATCH, 2, 3) + 0.1 * torch.randn(GLOBAL_BATCH, 2, 3, generator=generator)
    return Pair(view(), view(), affine, tokens)


def part(batch: Pair, rank: int) -> Pair:
    """Every second sample, as the sampler deals them."""

    def take(value: Tensor) -> Tensor:
        return value[rank::PROCESSES].clone()

    first, second = (View(*(take(t) for t in view)) for view in (batch.first, batch.second))
    return Pair(first, second, take(batch.affine), take(batch.tokens))


class Step(nn.Module):
    """The weighted loss as a forward pass, so that DDP sees it."""

    def __init__(self, topology: HandTopology) -> None:
        super().__init__()
        torch.manual_seed(0)
        hand = HandModel(MODEL, level_templates(topology, MODEL.levels))
        tower = nn.Embedding(49408, TOWER_WIDTH).requires_grad_(False)  # CLIP's own would take most of the time
        model = ClipHand(hand, TextBranch(MODEL, TRAIN.text, tower))
        self.training_module = HandTraining(model, topology=topology, model_config=MODEL, train=TRAIN)

    def forward(self, batch: Pair) -> Tensor:
        return weighted_sum(self.training_module.loss_terms(batch), TRAIN.loss)


def gradients(step: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}


def run_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    path = Path(folder)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{path / 'rendezvous'}", rank=rank, world_size=PROCESSES
    )
    topology = load_hand(path / "hand.npz")
    step = Step(topology).eval()
    parallel = DistributedDataParallel(step)
    loss = parallel(part(global_batch(topology), rank))
    loss.backward()
    mean = loss.detach().clone()
    torch.distributed.all_reduce(mean)
    if rank == 0:
        torch.save({"loss": mean / PROCESSES, "gradients": gradients(step)}, path / "result.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:You are trying to")
def test_two_processes_give_the_loss_and_gradients_of_one(hand_topology: HandTopology, tmp_path: Path) -> None:
    save_hand(hand_topology, tmp_path / "hand.npz")
    spawn(run_process, args=(str(tmp_path),), nprocs=PROCESSES)
    both = torch.load(tmp_path / "result.pt", weights_only=True)

    step = Step(hand_topology).eval()
    loss = step(global_batch(hand_topology))
    loss.backward()
    alone = gradients(step)
    torch.testing.assert_close(both["loss"], loss.detach(), atol=1e-4, rtol=1e-4)
    assert set(both["gradients"]) == set(alone)
    assert "training_module.model.text.log_scale" in alone
    for name, gradient in alone.items():
        scale = max(float(gradient.abs().max()), 1e-3)
        torch.testing.assert_close(
            both["gradients"][name] / scale, gradient / scale, atol=1e-4, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )
