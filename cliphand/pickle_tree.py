"""Read a pickle as a tree of plain values and inert stand-ins: nothing that the file names is imported or called.

Python's own reader does the reading, in its form that is written in Python: the one written in C reserves memory for
whatever index or length a file states. Each class or function that the file may name is replaced by a class that keeps
what it is called with; any other name is refused.
"""

import io
import pickle
from collections.abc import Callable, Collection
from typing import ClassVar, cast

from cliphand.errors import InputError

MAX_INSTRUCTIONS = 1_000_000  # bounds the memory that a small file of one-byte instructions can take
NAME_SHOWN = 80  # characters of a refused name that a message repeats


class Stored:
    """What Python would have made by calling `name` with `arguments` and then setting `state`."""

    __slots__ = ("arguments", "state")
    name: ClassVar[str]
    arguments: tuple[object, ...]
    state: object

    def __new__(cls, *arguments: object) -> "Stored":
        """Keep what the class or function is called with."""
        made = super().__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Entries(dict[object, object]):
    """A dict that leaves out keys other than str and int: to hash a nested tuple can take for ever."""

    __slots__ = ()

    def __setitem__(self, key: object, value: object) -> None:
        if isinstance(key, str | int):
            super().__setitem__(key, value)


class _Set(list[object]):
    """A set as a list of what it holds, unhashed."""

    __slots__ = ()
    add = list[object].append


def read_pickle_tree(data: bytes, *, source: str, known: Collection[str]) -> object:
    """Read a pickle without executing any of it.

    Args:
        data: the pickle.
        source: named in errors.
        known: classes and functions that it may name, as `module.name`.

    Returns:
        None, bool, int, float, str (Python 2's byte strings as Latin-1), bytes, tuple, list, dict (entries whose
        key is no str or int are left out), a subclass of `Stored` or an instance of one. A set is a list.

    Raises:
        InputError: a name is not known, or the data is broken.
    """
    try:
        return _Reader(data, source, known).load()
    except InputError:
        raise
    except Exception as error:  # whatever the interpreter meets where instructions and data do not fit
        why = str(error) or "it ends early"
        raise InputError(f"{source} is not a readable pickle ({why}); get the file again.") from None


class _Reader(pickle._Unpickler):
    stack: list[object]
    pop_mark: Callable[[], list[object]]

    def __init__(self, data: bytes, source: str, known: Collection[str]) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False, encoding="latin-1")
        self.left = MAX_INSTRUCTIONS
        self._source = source
        self._classes = {name: type("Stored", (Stored,), {"__slots__": (), "name": name}) for name in known}

    def find_class(self, module: str, name: str) -> type[Stored]:
        full = f"{module}.{name}"
        if full not in self._classes:
            raise InputError(
                f"{self._source} asks for {full[:NAME_SHOWN]!r}, which a MANO model does not need; nothing was run; "
                "get the file from its authors."
            )
        return self._classes[full]

    def make_dict(self) -> None:
        items, entries = self.pop_mark(), _Entries()
        for key, value in zip(items[::2], items[1::2], strict=True):
            entries[key] = value
        self.stack.append(entries)


def _counted(act: Callable[[_Reader], None]) -> Callable[[_Reader], None]:
    def counted(reader: _Reader) -> None:
        reader.left -= 1
        if reader.left < 0:
            raise ValueError(f"more than {MAX_INSTRUCTIONS} instructions")
        act(reader)

    return counted


_INSTEAD: dict[bytes, Callable[[_Reader], None]] = {
    pickle.EMPTY_DICT: lambda reader: reader.stack.append(_Entries()),
    pickle.DICT: _Reader.make_dict,
    pickle.EMPTY_SET: lambda reader: reader.stack.append(_Set()),
}
_REFUSED = (pickle.FROZENSET, pickle.EXT1, pickle.EXT2, pickle.EXT4)  # one hashes; three look up what is registered
_TABLE = cast(dict[int, Callable[[_Reader], None]], pickle._Unpickler.dispatch)
_TABLE = {code: act for code, act in _TABLE.items() if bytes([code]) not in _REFUSED}
_TABLE |= {opcode[0]: act for opcode, act in _INSTEAD.items()}
_Reader.dispatch = cast(
    dict[int, Callable[[pickle.Unpickler], None]], {code: _counted(act) for code, act in _TABLE.items()}
)
