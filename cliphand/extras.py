"""How an optional part is installed: from the checkout, since no package index holds this project."""


def install_extra(extra: str, *, index: str | None = None) -> str:
    """The command that installs an extra of pyproject.toml, and where to run it.

    Args:
        extra: its name, such as `openvino`.
        index: URL of a further package index that it needs.
    """
    further = "" if index is None else f" --extra-index-url {index}"
    return f"`pip install -e '.[{extra}]'{further}` in the checkout of cliphand"
