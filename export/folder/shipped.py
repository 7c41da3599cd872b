"""The export that a command takes where none is named: the newest, or that of the model that comes with cliphand."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

from cliphand.files import whole_folder
from cliphand.pretrained import NAME, shipped_export, told
from engines.artefact.manifest import (
    EXPORTS,
    MANIFEST_NAME,
    check_artefact,
    checkpoint_path,
    newest_export,
    read_manifest,
    write_manifest,
)
from export.folder.contents import EXPORT


def default_export(tell: Callable[[str], object]) -> Path:
    """The newest export under `EXPORTS`; where there is none, a copy of the shipped one, to which results are added.

    Args:
        tell: gets a line where the shipped one is taken.

    Raises:
        InputError: there is none, and no model is shipped with this version.
    """
    if any(EXPORTS.glob(f"*/{MANIFEST_NAME}")):
        return newest_export(EXPORTS)
    source = shipped_export(instead=f"there is no export under {EXPORTS} either: run `cliphand export`, or name one")
    target = EXPORTS / NAME
    tell(f"{told()}; {target} is a copy of its export.")
    manifest = read_manifest(source)
    record = dataclasses.replace(manifest.checkpoint, path=str(checkpoint_path(manifest, source).resolve()))
    with whole_folder(target, EXPORT) as fresh:
        shutil.copytree(source, fresh, dirs_exist_ok=True)
        for name in manifest.artefacts:
            check_artefact(manifest, fresh / name)
        write_manifest(dataclasses.replace(manifest, checkpoint=record), fresh)
    return target
