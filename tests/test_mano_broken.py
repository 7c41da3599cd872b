from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cliphand.errors import InputError
from cliphand.mano import read_mano


@pytest.mark.parametrize("sizes", [b"L1000000000000L\nL1000000000000L\n", b"I-1\nI-1\n", b"S'1'\n", b"N", b"I3\n"])
def test_a_shape_that_the_stored_bytes_do_not_have_is_refused(tmp_path: Path, sizes: bytes) -> None:
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    dtype = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    state = b"(I1\n(" + sizes + b"t" + dtype + b"I00\nS'12345678'\ntb"
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(b"(dS'f'\n" + made + state + b"s.")
    with pytest.raises(InputError, match="'f' has 8 bytes, which do not fit its shape"):
        read_mano(path)


def test_a_chumpy_variable_that_holds_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(b"\x80\x02}U\x01fcchumpy.ch\nCh\n)\x81q\x00}U\x01xh\x00sbs.")
    with pytest.raises(InputError, match="'f' is no stored array"):
        read_mano(path)


# Pieces of a model's pickle, valid one by one.
PIECES = [
    *(
        b"(",
        b"N",
        b"]",
        b"}",
        b")",
        b"K\x01",
        b"K\x03",
        b"U\x01f",
        b"U\x01x",
        b"U\x02f8",
        b"U\x01<",
        b"U\x08" + bytes(8),
    ),
    *(b"t", b"\x85", b"\x86", b"\x87", b"l", b"d", b"a", b"e", b"s", b"u", b"b", b"R", b"\x81", b"o", b"0", b"1"),
    *(b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cchumpy.ch\nCh\n"),
    *(b"cscipy.sparse.csc\ncsc_matrix\n", b"ccopy_reg\n_reconstructor\n", b"c_codecs\nencode\n"),
    b"cnumpy.core.multiarray\n_reconstruct\n",
]
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01"


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(before=st.lists(st.sampled_from(PIECES), max_size=12), after=st.lists(st.sampled_from(PIECES), max_size=12))
def test_any_mixture_of_valid_pieces_is_refused_in_a_sentence(
    tmp_path: Path, before: list[bytes], after: list[bytes]
) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    for data in (
        b"".join(before + after) + b".",
        b"}U\x01f" + ARRAY + b"".join(before) + b"tbs" + b"".join(after) + b".",
    ):
        path.write_bytes(data)
        with pytest.raises(InputError):
            read_mano(path)


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x80\x02]q\x00.", b"PK\x03\x04"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_mano(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_a_folder_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist; get MANO_RIGHT.pkl"):
        read_mano(tmp_path / "MANO_RIGHT.pkl")
    with pytest.raises(InputError, match="is a folder; get MANO_RIGHT"):
        read_mano(tmp_path)
    with (tmp_path / "huge.pkl").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(InputError, match="has 1099511627776 bytes"):
        read_mano(tmp_path / "huge.pkl")
