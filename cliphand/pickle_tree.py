"""Read a pickle as a tree of plain values and inert nodes: nothing is imported, called or constructed.

A pickle is a program for a stack machine. This machine knows only the instructions that store data. Where Python's
own would import or call something, it keeps a `Global` or a `Node` that says what was asked for, and refuses by name
what the caller does not know.

Source of the instructions: CPython's Lib/pickletools.py, protocols 0 to 4.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from cliphand.errors import InputError

MAX_INSTRUCTIONS = 1_000_000  # bounds the memory that a small file of one-byte instructions can take
MAX_PROTOCOL = 4
NAME_SHOWN = 80  # characters of a refused name that a message repeats


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that the pickle names, as `module.name`."""

    name: str


@dataclass(slots=True, eq=False)
class Node:
    """What Python would have made by calling `name` with `arguments` and then setting `state`."""

    name: str
    arguments: tuple[object, ...]
    state: object = None


def read_pickle_tree(data: bytes, *, source: str, known: Callable[[str], bool]) -> object:
    """Interpret a pickle without executing any of it.

    Args:
        data: the pickle.
        source: named in errors.
        known: whether a global, given as `module.name`, may stand in the tree.

    Returns:
        None, bool, int, float, str (Python 2's byte strings as Latin-1), bytes, tuple, list, dict (entries whose
        key is no str or int are left out; nothing is hashed but those), `Global` or `Node`. A set is a list.

    Raises:
        InputError: a global is not known, an instruction is not supported, or the data is broken.
    """
    machine = _Machine(data, source, known)
    try:
        return machine.run()
    except (ValueError, IndexError, KeyError, struct.error) as error:
        where = f"byte {machine.position} of {len(data)}"
        raise InputError(f"{source} is not a readable pickle ({error} at {where}); get the file again.") from None


class _Machine:
    """The stack machine's data, and what its instructions share."""

    __slots__ = ("data", "known", "marks", "memo", "position", "source", "stack")

    def __init__(self, data: bytes, source: str, known: Callable[[str], bool]) -> None:
        self.data = data
        self.source = source
        self.known = known
        self.position = 0
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        for _ in range(MAX_INSTRUCTIONS):
            opcode = self.take(1)
            if opcode == b".":
                return self.stack.pop()
            if opcode in _READ:
                self.stack.append(_READ[opcode](self))
            elif opcode in _ACT:
                _ACT[opcode](self)
            else:
                raise ValueError(f"instruction {opcode!r} is not one that stores data")
        raise ValueError(f"more than {MAX_INSTRUCTIONS} instructions")

    def take(self, count: int) -> bytes:
        if count < 0 or count > len(self.data) - self.position:
            raise ValueError("the data ends early")
        self.position += count
        return self.data[self.position - count : self.position]

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def line(self) -> bytes:
        return self.take(self.data.index(b"\n", self.position) + 1 - self.position)[:-1]

    def text_line(self) -> str:
        return self.line().decode("latin-1")

    def pop_to_mark(self) -> list[object]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def named(self, module: object, name: object) -> Global:
        full = f"{module}.{name}"
        if not isinstance(module, str) or not isinstance(name, str) or not self.known(full):
            raise InputError(
                f"{self.source} asks for {full[:NAME_SHOWN]!r}, which a MANO model does not need; nothing was run; "
                "get the file from its authors."
            )
        return Global(full)


def _string_line(machine: _Machine) -> str:
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string has no quotes")
    return line[1:-1].decode("unicode_escape")


def _integer_line(machine: _Machine) -> int | bool:
    line = machine.text_line()
    return {"00": False, "01": True}[line] if line in ("00", "01") else int(line.removesuffix("L"))


def _little_endian(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _items_of(machine: _Machine, items: list[object]) -> None:
    """Append to the list on top of the stack."""
    target = machine.stack[-1]
    if not isinstance(target, list):
        raise ValueError("items are added to something that is no list")
    target.extend(items)


def _entries_of(target: object, items: list[object]) -> None:
    """Fill a dict from keys and values in turn; other keys than str and int are never looked up here."""
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError("entries are set on something that is no dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, str | int):
            target[key] = value


def _append(machine: _Machine) -> None:
    item = machine.stack.pop()
    _items_of(machine, [item])


def _appends(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    _items_of(machine, items)


def _set_item(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _entries_of(machine.stack[-1], [key, value])


def _set_items(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    _entries_of(machine.stack[-1], items)


def _dict(machine: _Machine) -> dict[object, object]:
    entries: dict[object, object] = {}
    _entries_of(entries, machine.pop_to_mark())
    return entries


def _last(count: int) -> Callable[[_Machine], tuple[object, ...]]:
    return lambda machine: tuple([machine.stack.pop() for _ in range(count)][::-1])


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _stack_global(machine: _Machine) -> Global:
    name, module = machine.stack.pop(), machine.stack.pop()
    return machine.named(module, name)


def _node(target: object, arguments: object) -> Node:
    if not isinstance(target, Global) or not isinstance(arguments, tuple):
        raise ValueError("something that is no class or function is called")
    return Node(target.name, arguments)


def _call(machine: _Machine) -> Node:
    arguments, target = machine.stack.pop(), machine.stack.pop()
    return _node(target, arguments)


def _call_from_mark(machine: _Machine) -> Node:
    target, *arguments = machine.pop_to_mark()
    return _node(target, tuple(arguments))


def _build(machine: _Machine) -> None:
    state, target = machine.stack.pop(), machine.stack[-1]
    if not isinstance(target, Node):
        raise ValueError("a state is set on something that has none")
    target.state = state


def _protocol(machine: _Machine) -> None:
    version = machine.take(1)[0]
    if version > MAX_PROTOCOL:
        raise ValueError(f"protocol {version}; valid are 0 to {MAX_PROTOCOL}")


_READ: dict[bytes, Callable[[_Machine], object]] = {  # instructions that push one value
    b"N": lambda m: None,
    b"\x88": lambda m: True,
    b"\x89": lambda m: False,
    b"]": lambda m: [],
    b"}": lambda m: {},
    b")": lambda m: (),
    b"\x8f": lambda m: [],  # an empty set
    b"I": _integer_line,
    b"L": _integer_line,
    b"F": lambda m: float(m.line()),
    b"K": lambda m: m.number("<B"),
    b"M": lambda m: m.number("<H"),
    b"J": lambda m: m.number("<i"),
    b"G": lambda m: struct.unpack(">d", m.take(8))[0],
    b"\x8a": lambda m: _little_endian(m.take(m.number("<B"))),
    b"\x8b": lambda m: _little_endian(m.take(m.number("<i"))),
    b"S": _string_line,
    b"T": lambda m: m.take(m.number("<i")).decode("latin-1"),
    b"U": lambda m: m.take(m.number("<B")).decode("latin-1"),
    b"V": lambda m: m.line().decode("raw_unicode_escape"),
    b"X": lambda m: m.take(m.number("<I")).decode(),
    b"\x8c": lambda m: m.take(m.number("<B")).decode(),
    b"\x8d": lambda m: m.take(m.number("<Q")).decode(),
    b"B": lambda m: m.take(m.number("<I")),
    b"C": lambda m: m.take(m.number("<B")),
    b"\x8e": lambda m: m.take(m.number("<Q")),
    b"t": lambda m: tuple(m.pop_to_mark()),
    b"\x85": _last(1),
    b"\x86": _last(2),
    b"\x87": _last(3),
    b"l": lambda m: m.pop_to_mark(),
    b"d": _dict,
    b"g": lambda m: m.memo[int(m.line())],
    b"h": lambda m: m.memo[m.number("<B")],
    b"j": lambda m: m.memo[m.number("<I")],
    b"c": lambda m: m.named(m.text_line(), m.text_line()),
    b"\x93": _stack_global,
    b"R": _call,
    b"\x81": _call,
    b"i": lambda m: _node(m.named(m.text_line(), m.text_line()), tuple(m.pop_to_mark())),
    b"o": _call_from_mark,
}
_ACT: dict[bytes, Callable[[_Machine], object]] = {  # instructions that push none
    b"\x80": _protocol,
    b"\x95": lambda m: m.take(8),  # length of a frame: the data is in memory already
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"0": lambda m: m.stack.pop(),
    b"1": lambda m: m.pop_to_mark(),
    b"a": _append,
    b"e": _appends,
    b"\x90": _appends,
    b"s": _set_item,
    b"u": _set_items,
    b"b": _build,
    b"p": lambda m: _put(m, int(m.line())),
    b"q": lambda m: _put(m, m.number("<B")),
    b"r": lambda m: _put(m, m.number("<I")),
    b"\x94": lambda m: _put(m, len(m.memo)),
}
