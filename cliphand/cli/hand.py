"""`cliphand hand`: the hand's topology from the user's MANO file."""

from pathlib import Path
from typing import Annotated

import typer


def hand(
    mano: Annotated[Path, typer.Argument(metavar="MANO_RIGHT.pkl", help="The right hand's model from MANO's authors.")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Where to write hand.npz.")],
) -> None:
    """Write hand.npz (faces, template, joint_regressor) from MANO_RIGHT.pkl.

    Nothing in the file is executed and chumpy is not needed. What is written stays under MANO's licence.
    """
    import json

    from cliphand.claims import check_file
    from cliphand.files import sha256_of
    from cliphand.hand import save_hand
    from cliphand.kinds import HAND
    from cliphand.mano import FINGERTIP_VERTICES, read_mano

    check_file(out, HAND)
    topology = read_mano(mano)
    save_hand(topology, out, HAND)
    facts = {
        "hand": str(out),
        "sha256": sha256_of(out),
        "vertices": len(topology.template),
        "faces": len(topology.faces),
        "joints": len(topology.joint_regressor),
        "fingertip_vertices": FINGERTIP_VERTICES,
    }
    typer.echo(f"Wrote {out}: {facts['vertices']} vertices, {facts['faces']} faces, {facts['joints']} joints.")
    typer.echo(json.dumps(facts))
