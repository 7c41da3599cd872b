import pickle
import struct
import tracemalloc
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliphand.errors import InputError
from cliphand.pickle_tree import MAX_INSTRUCTIONS, Stored, read_pickle_tree

PROTOCOLS = [0, 1, 2, 3, 4]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=25,
)


class Thing:
    """Pickled by its class's name, its state, and whatever `__reduce__` a test gives it."""


def read(data: bytes, known: Collection[str] = ()) -> object:
    return read_pickle_tree(data, source="the file", known=known)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=60)
@given(value=PLAIN)
def test_plain_values_are_read_as_python_wrote_them(protocol: int, value: object) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_truth_values_are_not_numbers(protocol: int) -> None:
    first, second = read(pickle.dumps([True, False], protocol))
    assert first is True
    assert second is False


@pytest.mark.parametrize("protocol", [3, 4])
def test_bytes_are_bytes(protocol: int) -> None:
    for value in (b"", b"\x00\xff", bytes(300)):
        assert read(pickle.dumps(value, protocol)) == value


def test_byte_strings_of_python_2_are_latin_1_text() -> None:
    content = bytes(range(256))
    assert read(b"U\x04ab\xff\x00.") == "ab\xff\x00"
    assert read(b"T" + struct.pack("<i", 256) + content + b".") == content.decode("latin-1")
    assert read(b"S'a\\x00\\xff\\n\\'\"\\\\'\np0\n.") == "a\x00\xff\n'\"\\"


def test_what_was_stored_twice_is_one_value() -> None:
    shared: list[int] = [1]
    first, second = read(pickle.dumps([shared, shared]))
    assert first is second


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_object_is_a_stand_in_with_its_class_and_state(protocol: int) -> None:
    thing = Thing()
    thing.size = 3
    kind = f"{__name__}.Thing"
    stored = read(
        pickle.dumps(thing, protocol), known=[kind, "copy_reg._reconstructor", "__builtin__.object", "builtins.object"]
    )
    assert isinstance(stored, Stored)
    made = stored.arguments[0] if stored.name.endswith("_reconstructor") else stored
    assert made.name == kind
    assert stored.state == {"size": 3}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_set_is_kept_as_a_list_of_what_it_holds(protocol: int) -> None:
    tree = read(pickle.dumps({5}, protocol), known=["__builtin__.set", "builtins.set"])
    assert tree == [5] if protocol == 4 else (isinstance(tree, Stored) and tree.arguments == ([5],))


def test_entries_under_other_keys_than_text_and_numbers_are_left_out() -> None:
    assert read(pickle.dumps({"a": 1, 2: 3, (4, 5): 6, None: 7})) == {"a": 1, 2: 3}


def live_payloads(marker: Path) -> dict[str, bytes]:
    """Pickles that make Python's own reader create `marker`, one for each instruction that calls something."""
    command = f"touch {marker}"
    text = b"S" + repr(command).encode() + b"\n"
    source = b"S" + repr(f"open({str(marker)!r}, 'w')").encode() + b"\n"
    short = bytes([len(command)]) + command.encode()
    return {
        "REDUCE os.system": b"cos\nsystem\n(" + text + b"tR.",
        "REDUCE eval": b"cbuiltins\neval\n(" + source + b"tR.",
        "REDUCE eval of Python 2": b"c__builtin__\neval\n(" + source + b"tR.",
        "INST": b"(" + text + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + text + b"o.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + short + b"\x85R.",
        "nested in a state": b"\x80\x02}U\x01fcos\nsystem\nU" + short + b"\x85Rs.",
        "BUILD": b"cbuiltins\nexec\n(" + source + b"tR}b.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\nU" + short + b"\x88\x86" + b"\x81.",
        "thrown away": b"cos\nsystem\n(" + text + b"tR0N.",
    }


NAMES = [*live_payloads(Path("x"))]
CALLED = ["os.system", "builtins.eval", "__builtin__.eval", "builtins.exec", "subprocess.Popen"]


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_pickle_is_refused_by_name_and_not_run(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(InputError, match=r"the file asks for '(os|builtins|__builtin__|subprocess)\.\w+'"):
        read(live_payloads(marker)[name])
    assert not marker.exists()


@pytest.mark.parametrize("name", NAMES)
def test_even_a_hostile_pickle_that_is_let_through_is_only_stored(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "ran"
    read(live_payloads(marker)[name], known=CALLED)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["REDUCE os.system", "REDUCE eval", "INST", "OBJ", "STACK_GLOBAL", "thrown away"])
def test_the_payloads_are_live(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "ran"
    pickle.loads(live_payloads(marker)[name])  # noqa: S301  # what must not happen happens here, to prove the tests
    assert marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"K",
        b"}",
        b".",
        b"t.",
        b"h\x05.",
        b"Snoquotes\n.",
        b"Iten\n.",
        b"X\x01\x00\x00\x00\xff.",
        b"\x82\x01.",  # an extension's code
        b"Pid\n.",  # a persistent id
        b"K\x01Q.",
        b"2.",
        b"\x80\x06N.",
        b"NK\x01a.",
        b"NK\x01K\x02s.",
        b"N(K\x01K\x02u.",
        b"(K\x01d.",
        b"K\x01K\x02b.",
        b"K\x01)R.",
        b"N\x85N\x81.",
        b"(K\x01\x91.",  # a frozen set
        b"K\x01K\x02\x93.",
        b"T\xff\xff\xff\xffab.",
        b"\x8b\xff\xff\xff\xffab.",
    ],
)
def test_broken_data_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"the file is not a readable pickle \(.+\); get the file again"):
        read(data)


def test_the_instructions_for_what_is_registered_or_hashed_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pickle._extension_cache, 1, print)  # as if another library had read such a pickle before
    for data in (b"\x82\x01.", b"\x83\x01\x00.", b"\x84\x01\x00\x00\x00.", b"(N\x91."):
        with pytest.raises(InputError, match="is not a readable pickle"):
            read(data)


def test_a_state_reaches_neither_a_class_nor_a_dict() -> None:
    name = b"cchumpy.ch\nCh\n"
    for target in (name, b"}"):
        with pytest.raises(InputError, match="is not a readable pickle"):
            read(target + b"N}U\x07__new__K\x01s\x86b.", known=["chumpy.ch.Ch"])


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_tree_or_an_input_error(data: bytes) -> None:
    try:
        read(data + b".", known=lambda name: True)
    except InputError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"\x8e" + struct.pack("<Q", 2**62) + b"N.",
        b"\x8d" + struct.pack("<Q", 2**40) + b"N.",
        b"B" + struct.pack("<I", 2**32 - 1) + b"N.",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"N.",
        b"Nr" + struct.pack("<I", 2**32 - 1) + b"0\x8e" + struct.pack("<Q", 2**40) + b"N.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"K",
    ],
    ids=["bytes8", "unicode8", "bytes", "long", "memo", "frame"],
)
def test_a_length_that_the_data_does_not_have_takes_no_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="is not a readable pickle"):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_endless_instructions_are_refused() -> None:
    with pytest.raises(InputError, match=f"more than {MAX_INSTRUCTIONS} instructions"):
        read(b"N0" * MAX_INSTRUCTIONS + b"N.")


def test_a_key_whose_hash_would_take_for_ever_is_left_out() -> None:
    # A tuple of the same tuple twice, 60 deep: Python hashes it in 2 ** 60 steps.
    assert read(b"}" + b")" + b"q\x00h\x00\x86" * 60 + b"K\x01s.") == {}


def test_deep_nesting_is_read_and_freed() -> None:
    depth = 200_000
    tree = read(b"N" + b"\x85" * depth + b".")
    for _ in range(depth):
        assert isinstance(tree, tuple)
        (tree,) = tree
    assert tree is None


def test_a_long_name_is_cut_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        read(b"cevil\n" + b"x" * 10_000 + b"\n.")
    assert len(str(caught.value)) < 300
