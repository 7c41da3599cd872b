import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from linear_hand import SIDE, expected, save_onnx
from onnx import TensorProto
from typed_graphs import save_graph

from cliphand.errors import InputError
from engines.runtimes.ort import EXACT_SUMS, OrtEngine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_onnx(tmp_path_factory.mktemp("ort") / "model.onnx")


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_are_the_graphs_at_any_batch(model: Path, batch: int) -> None:
    images = pictures(batch)
    with OrtEngine(model) as engine:
        output = engine(images)
    for name, value in (("joints_uvd", output.joints_uvd), ("verts_uvd", output.verts_uvd)):
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected(images, name), atol=1e-6)


def test_an_output_stays_the_callers_after_the_next_call(model: Path) -> None:
    with OrtEngine(model) as engine:
        first = engine(pictures(2))
        kept = first.verts_uvd.copy()
        engine(-pictures(2))
    np.testing.assert_array_equal(first.verts_uvd, kept)


def test_the_bare_call_is_the_sessions_own(model: Path) -> None:
    with OrtEngine(model, threads=1) as engine:
        engine.bare_call(pictures(1))()
        engine.close()
        with pytest.raises(RuntimeError, match="closed"):
            engine.bare_call(pictures(1))


def test_the_side_of_the_crop_is_read_from_the_graph(tmp_path: Path) -> None:
    with OrtEngine(save_onnx(tmp_path / "model.onnx", side=64), precision="fp32") as engine:
        assert (engine.name, engine.precision, engine.input_size) == ("onnxruntime", "fp32", 64)


def test_a_batch_of_another_size_is_refused_before_it_runs(model: Path) -> None:
    with OrtEngine(model) as engine, pytest.raises(InputError, match=r"this engine takes \(B, 3, 32, 32\)"):
        engine(np.zeros((1, 3, 64, 64), np.float32))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_reach_the_session(model: Path, threads: int) -> None:
    with OrtEngine(model, threads=threads) as engine:
        assert engine._session is not None
        assert engine._session.get_session_options().intra_op_num_threads == threads


def test_a_closed_engine_says_so(model: Path) -> None:
    engine = OrtEngine(model)
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine(pictures(1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "input"}, r"has inputs input; an engine needs image"),
        ({"joints": "joints"}, r"has outputs joints, verts_uvd; an engine needs joints_uvd, verts_uvd"),
        ({"side": "S"}, "the crop's side must be fixed"),
        ({"batch": 2}, r"'image' is tensor\(float\) \(2, 3, 32, 32\); it must be .*-1 being any batch"),
        ({"element": TensorProto.FLOAT16}, r"is tensor\(float16\).*it must be tensor\(float\)"),
    ],
)
def test_a_graph_of_another_form_is_refused_by_name(tmp_path: Path, options: dict[str, int | str], said: str) -> None:
    path = save_onnx(tmp_path / "model.onnx", **options)
    with pytest.raises(InputError, match=said):
        OrtEngine(path)


def test_what_is_no_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(InputError, match="is not an ONNX graph") as caught:
        OrtEngine(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.onnx does not exist"):
        OrtEngine(tmp_path / "nowhere.onnx")


def test_running_a_model_never_imports_torch(model: Path) -> None:
    program = (
        "import sys, pathlib, numpy\n"
        "from engines.open import open_engine\n"
        "with open_engine(pathlib.Path(sys.argv[1]), threads=1) as engine:\n"
        f"    print(engine(numpy.zeros((1, 3, {SIDE}, {SIDE}), numpy.float32)).verts_uvd.shape)\n"
        "print(sorted(name for name in ('torch', 'timm', 'lightning') if name in sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(model)], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines() == ["(1, 778, 3)", "[]"], result.stderr


@pytest.mark.parametrize(("quantised", "asked"), [(True, True), (False, False)])
def test_exact_sums_are_asked_for_where_there_are_sums_of_8_bits_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantised: bool, *, asked: bool
) -> None:
    seen: list[ort.SessionOptions] = []
    session = ort.InferenceSession

    def opened(path: str, options: ort.SessionOptions, **named: object) -> ort.InferenceSession:
        seen.append(options)
        return session(path, options, **named)

    monkeypatch.setattr("engines.runtimes.ort.ort.InferenceSession", opened)
    OrtEngine(save_graph(tmp_path / "model.onnx", quantised=quantised)).close()
    if asked:
        assert seen[0].get_session_config_entry(EXACT_SUMS) == "1"
    else:
        with pytest.raises(RuntimeError, match=EXACT_SUMS):
            seen[0].get_session_config_entry(EXACT_SUMS)


ON_NOISE = """
import sys, numpy as np
from pathlib import Path
from engines.runtimes.ort import OrtEngine
with OrtEngine(Path(sys.argv[1]), threads=1) as engine:
    side = engine.input_size
    np.save(sys.argv[2], engine(np.random.default_rng(0).uniform(-1, 1, (1, 3, side, side)).astype("f4")).verts_uvd)
"""


@pytest.mark.slow
def test_a_processor_without_vnni_gives_the_same_int8_hands(tmp_path: Path) -> None:
    """Emulated; without exact sums the vertices are off by hundredths of their range."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None or platform.machine() != "x86_64":
        pytest.skip("no qemu-x86_64 to emulate a processor with AVX2 and without VNNI")
    graph = save_graph(tmp_path / "model.onnx", quantised=True)
    for words, name in (((), "here"), ((emulator, "-cpu", "Haswell-v4"), "there")):
        command = [*words, sys.executable, "-c", ON_NOISE, str(graph), str(tmp_path / name)]
        subprocess.run(command, check=True, capture_output=True)
    here, there = np.load(tmp_path / "here.npy"), np.load(tmp_path / "there.npy")
    np.testing.assert_allclose(there, here, atol=1e-4 * np.ptp(here))
