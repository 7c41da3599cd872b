"""OpenVINO follows the engine protocol, computes FP32 in FP32 and INT8 graphs as ONNX Runtime does."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE, expected, save_onnx
from onnx import TensorProto
from planted_graphs import images, save_planted

from benchmarks.measure.machine import usable_cores
from cliphand.errors import InputError
from engines.runtimes.openvino_cpu import OpenVinoEngine, OpenVinoOptions, load, load_reduced
from engines.runtimes.ort import OrtEngine
from export.precision.quantise import calibrate, write_quantised

pytest.importorskip("openvino", reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_onnx(tmp_path_factory.mktemp("openvino") / "model.onnx")


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_are_the_graphs_at_any_batch(model: Path, batch: int) -> None:
    with OpenVinoEngine(model, threads=1) as engine:
        output = engine(pictures(batch))
    for name, value in (("joints_uvd", output.joints_uvd), ("verts_uvd", output.verts_uvd)):
        assert value.dtype == np.float32
        # bfloat16, which OpenVINO takes unless told otherwise, would be off by 1e-3.
        np.testing.assert_allclose(value, expected(pictures(batch), name), atol=2e-6)


def test_an_output_stays_the_callers_after_the_next_call(model: Path) -> None:
    with OpenVinoEngine(model, threads=1) as engine:
        first = engine(pictures(2))
        kept = first.verts_uvd.copy()
        engine(-pictures(2))
    np.testing.assert_array_equal(first.verts_uvd, kept)


def test_the_hint_that_forbids_bfloat16_is_set(model: Path) -> None:
    with OpenVinoEngine(model, threads=1) as engine:
        compiled = engine._compiled
        assert compiled is not None
        assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


def reduced_or_skip(model: Path) -> OpenVinoEngine:
    try:
        return load_reduced(model, precision="fp32", threads=1)
    except InputError as error:
        pytest.skip(str(error))


def test_reduced_precision_goes_by_the_name_that_openvino_reports(model: Path) -> None:
    engine = reduced_or_skip(model)
    with engine:
        assert engine._compiled is not None
        hint = engine._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        assert engine.precision == {"bf16": "bf16", "f16": "fp16"}[hint]
        difference = np.abs(engine(pictures(2)).verts_uvd - expected(pictures(2), "verts_uvd")).max()
    # bfloat16 has 8 bits, float16 has 11: further off than FP32's rounding, nearer than a wrong result.
    assert 1e-6 < difference < 2e-2
    with load_reduced(model, precision="int8", threads=1) as engine:
        assert engine.precision == f"int8-{ {'bf16': 'bf16', 'f16': 'fp16'}[hint] }"


def test_reduced_precision_that_gives_nothing_is_refused(model: Path) -> None:
    """oneDNN kept to AVX2 has no bfloat16, which OpenVINO takes all the same; its outputs then have no rows."""
    code = (
        "import sys, pathlib, numpy as np\n"
        "from cliphand.errors import InputError\n"
        "from engines.runtimes.openvino_cpu import load_reduced\n"
        "try:\n"
        "    engine = load_reduced(pathlib.Path(sys.argv[1]), precision='fp32', threads=1)\n"
        f"    print(len(engine(np.zeros((2, 3, {SIDE}, {SIDE}), np.float32)).verts_uvd))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", code, str(model)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout == "2\n" or "run the graph in FP32" in result.stdout


def test_a_processor_without_reduced_precision_says_so(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        OpenVinoOptions, "settings", lambda self: {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    with pytest.raises(InputError, match="no reduced precision of this processor"):
        load_reduced(model, precision="fp32", threads=1)


def test_calls_side_by_side_give_each_caller_its_own(model: Path) -> None:
    options = OpenVinoOptions(mode="throughput", threads=2, streams=2)
    with OpenVinoEngine(model, options=options) as engine, ThreadPoolExecutor(4) as pool:
        assert engine.parallel_calls >= min(2, usable_cores())
        batches = [pictures(count) for count in (1, 2, 3, 4) * 5]
        found = list(pool.map(engine, batches))
    for images_, output in zip(batches, found, strict=True):
        np.testing.assert_allclose(output.verts_uvd, expected(images_, "verts_uvd"), atol=2e-6)


def test_a_cache_keeps_what_was_compiled(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for _ in range(2):
        with load(model, precision="fp32", threads=1, cache=cache) as engine:
            np.testing.assert_allclose(engine(pictures(2)).verts_uvd, expected(pictures(2), "verts_uvd"), atol=2e-6)
    assert [path.suffix for path in cache.iterdir()] == [".blob"]


def test_read_only_images_are_taken(model: Path) -> None:
    images_ = pictures(1)
    images_.flags.writeable = False
    with OpenVinoEngine(model, threads=1) as engine:
        np.testing.assert_allclose(engine(images_).verts_uvd, expected(images_, "verts_uvd"), atol=2e-6)


def test_the_bare_call_computes_the_same_without_a_copy(model: Path) -> None:
    images_ = pictures(1)
    with OpenVinoEngine(model, threads=1) as engine:
        call = engine.bare_call(images_)
        call()
        images_ *= -1  # the input is this very array
        call()
        engine.close()
        with pytest.raises(RuntimeError, match="closed"):
            engine.bare_call(images_)


@pytest.mark.parametrize("options", [{"threads": 0}, {"streams": 0}])
def test_no_threads_or_streams_are_too_few(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        OpenVinoOptions(**options)


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_an_int8_graph_is_as_near_to_fp32_as_in_onnx_runtime(tmp_path: Path, rest: str) -> None:
    source, calibrated, path = (tmp_path / f"{name}.onnx" for name in ("model", "calibrated", "int8"))
    save_planted(source)
    calibrate(source, calibrated, keep=(), images=images(2), method="max")
    write_quantised(calibrated, path, unquantise=(), rest=rest, keep_fp32=(), image=images(1))
    with (
        OpenVinoEngine(path, precision="int8", threads=1) as ours,
        OrtEngine(path) as theirs,
        OrtEngine(source) as exact,
    ):
        found = [engine(images(3)).verts_uvd for engine in (ours, theirs, exact)]
        assert (ours.name, ours.precision, ours.input_size) == ("openvino", "int8", 32)
    ours_error, theirs_error = (np.sqrt(np.square(value - found[2]).mean()) for value in found[:2])
    # Equal where both have 32-bit sums, three times where OpenVINO's saturate at 16 bits (x86 without VNNI); scales on
    # the wrong axis would cost a hundred times as much.
    assert 0 < ours_error < 10 * theirs_error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joints": "joints"}, "has outputs"),
        ({"image": "picture"}, "has inputs"),
        ({"batch": 1}, "'image' is f32"),
        ({"element": TensorProto.FLOAT16}, "is f16"),
    ],
)
def test_a_graph_with_other_tensors_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        OpenVinoEngine(save_onnx(tmp_path / "model.onnx", **change))


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x00no graph")
    with pytest.raises(InputError, match="is not an ONNX graph"):
        OpenVinoEngine(path)
    with pytest.raises(InputError, match="does not exist"):
        OpenVinoEngine(tmp_path / "none.onnx")


def test_a_wrong_batch_is_refused_before_it_runs(model: Path) -> None:
    with OpenVinoEngine(model, threads=1) as engine, pytest.raises(InputError, match="this engine takes"):
        engine(np.zeros((1, 3, 64, 64), np.float32))


def test_a_closed_engine_says_so(model: Path) -> None:
    engine = load(model, precision="fp32", threads=1)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine(pictures(1))


def test_without_openvino_one_sentence_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[openvino\]'"):
        OpenVinoEngine(model)


def test_it_needs_no_torch() -> None:
    code = "import sys, engines.runtimes.openvino_cpu; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX does")
def test_a_signal_reaches_python_after_models_were_closed_in_any_order(model: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from engines.runtimes.openvino_cpu import load\n"
        "signal.signal(signal.SIGTERM, lambda number, frame: print('heard', flush=True))\n"
        "models = [load(Path(sys.argv[1]), precision='fp32', threads=1) for _ in range(4)]\n"
        "for place in (1, 2, 3):\n"
        "    models[place].close()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, model], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
