"""Parts that the base package leaves out: which command needs which, and how they are installed.

They are installed from the checkout, since no package index holds this project.
"""

import functools
import importlib.util
from collections.abc import Callable, Mapping

from cliphand.errors import InputError

# Extra of pyproject.toml -> modules that come with it and that something here imports.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "report": ("jinja2", "markupsafe", "vl_convert"),
    "synthetic": ("anny", "embreex", "fast_simplification", "trimesh"),
    "train": (
        *("torch", "torchvision", "timm", "lightning", "open_clip", "scipy", "tensorboard"),
        *("onnxscript", "onnxsim", "modelopt", "onnx_graphsurgeon"),
    ),
}
# What a command cannot do without; what only some of its options need is told where they need it.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "export": ("torch", "timm", "onnxscript", "onnxsim"),
    "hand": ("scipy",),
    "import_released": ("torch", "timm"),
    "quickstart": (*("torch", "timm", "lightning", "onnxscript", "onnxsim"), *EXTRAS["synthetic"]),
    "report": EXTRAS["report"],
    "synth": ("torch", "scipy", *EXTRAS["synthetic"]),
    "train": ("torch", "timm", "lightning", "open_clip", "scipy"),
}


def install_extra(extra: str, *, index: str | None = None) -> str:
    """The command that installs an extra of pyproject.toml, and where to run it.

    Args:
        extra: its name, such as `openvino`.
        index: URL of a further package index that it needs.
    """
    further = "" if index is None else f" --extra-index-url {index}"
    return f"`pip install -e '.[{extra}]'{further}` in the checkout of cliphand"


def extra_of(module: str) -> str | None:
    """The extra that brings a module; None for one of no extra."""
    top = module.partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if top in modules), None)


def not_installed(modules: list[str], *, who: str) -> InputError:
    """The sentence about modules of `EXTRAS` that are not installed."""
    extras = {extra for module in modules if (extra := extra_of(module)) is not None}
    command = install_extra("all" if len(extras) > 1 else extras.pop())
    verb, them = ("is", "it") if len(modules) == 1 else ("are", "them")
    return InputError(f"{who} needs {', '.join(modules)}, which {verb} not installed: {command} brings {them}.")


def with_extras(command: Callable[..., None]) -> Callable[..., None]:
    """The command, refused before it does anything where a module that it needs is not installed.

    The wrapper raises:
        InputError: one is missing; the extra is named.
    """
    needed = NEEDS.get(command.__name__)
    if needed is None:
        return command

    @functools.wraps(command)
    def run(**options: object) -> None:
        name = command.__name__.replace("_", "-")
        if missing := [module for module in needed if not _is_there(module)]:
            raise not_installed(missing, who=f"`cliphand {name}`")
        command(**options)

    return run


def _is_there(module: str) -> bool:
    """Whether a module can be found, without importing it; one that was imported or barred is known already."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a module without a spec, or with None for a module
        return False
