"""The text side, which only training needs: CLIP's frozen tower and one Transformer per axis.

Source: paper sections 3.1 and 3.3; CLIP ViT-B/32 (Radford et al. 2021) through open_clip.
"""

from pathlib import Path

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cliphand.config import TOWER_WIDTH, TextConfig
from cliphand.errors import InputError
from cliphand.files import require_file
from cliphand.model.mesh_regressor import MLP_RATIO

TOWER = "ViT-B-32-quickgelu"  # OpenAI's weights were trained with QuickGELU
CLIP_ARGUMENTS = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
CONTEXT = 77
N_AXES = 3


class TextTower(nn.Module):
    """CLIP's text Transformer up to its last LayerNorm, frozen.

    Args:
        source: `openai` (a download), `random`, or a path to a safetensors file of open_clip's ViT-B/32.
        seed: of the random weights, so that a tower need not be stored to be had again.

    Raises:
        InputError: the weights cannot be had; the sentence says how to get them.
    """

    attention_mask: Tensor

    def __init__(self, source: str, *, seed: int) -> None:
        super().__init__()
        clip = _clip(source, seed=seed)
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.transformer = clip.transformer
        self.ln_final = clip.ln_final
        self.register_buffer("attention_mask", clip.attn_mask, persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "TextTower":
        """Stay in evaluation mode: the tower is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (P, L <= 77) int64 to token features (P, L, 512)."""
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        x = self.transformer(x, attn_mask=self.attention_mask[:length, :length])
        return self.ln_final(x)


def _clip(source: str, *, seed: int) -> open_clip.CLIP:
    if source == "openai":
        return _downloaded_clip()
    if source != "random" and not Path(source).is_file():
        raise InputError(
            f"text tower '{source}' is not a file; valid are openai, random, or a safetensors file of {TOWER}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = open_clip.get_model_config(TOWER)
        clip = open_clip.CLIP(**{name: config[name] for name in CLIP_ARGUMENTS})
    if source != "random":
        _load_text_weights(clip, Path(source))
    return clip


def _downloaded_clip() -> open_clip.CLIP:
    try:
        return open_clip.create_model(TOWER, pretrained="openai")
    except Exception as error:
        raise InputError(
            f"CLIP's text tower cannot be downloaded ({type(error).__name__}); run once with access to the Hugging "
            "Face hub so that it is cached, give a local file with --text-tower FILE.safetensors, or ask for "
            "--text-tower random."
        ) from error


def _load_text_weights(clip: open_clip.CLIP, path: Path) -> None:
    require_file(path, advice="give a safetensors file with --text-tower")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}).") from None
    result = clip.load_state_dict(state, strict=False)
    missing = [key for key in result.missing_keys if not key.startswith("visual.")]
    if missing:
        raise InputError(f"{path} lacks '{missing[0]}' of {TOWER}'s text tower ({len(missing)} tensors missing).")


class AxisEncoder(nn.Module):
    """Phi: Transformer layers over a prompt's tokens, pooled at the end-of-text token."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            TOWER_WIDTH,
            config.heads,
            dim_feedforward=MLP_RATIO * TOWER_WIDTH,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer, config.layers, norm=nn.LayerNorm(TOWER_WIDTH), enable_nested_tensor=False
        )

    def forward(self, features: Tensor, end: Tensor) -> Tensor:
        """Token features (B, L, 512) and the end-of-text positions (B,) to (B, 512).

        Prompts of one batch differ in length; what follows a prompt's end of text is masked.
        """
        positions = torch.arange(features.shape[1], device=features.device)
        x = self.layers(features, src_key_padding_mask=positions > end.unsqueeze(1))
        return x[torch.arange(x.shape[0], device=x.device), end]
