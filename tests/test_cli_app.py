"""The command line as a user meets it, in processes of its own."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cliphand import __version__

COMMAND = Path(sys.executable).parent / "cliphand"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


def test_help_answers_in_under_half_a_second() -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        result = run("--help")
        times.append(time.perf_counter() - start)
        assert result.returncode == 0
    assert "export" in result.stdout
    assert min(times) < 0.5  # the machine may be busy; the fastest run says what the program needs


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, cliphand.cli.app; print({*sys.modules} & {'torch', 'onnxruntime', 'cv2', 'numpy'})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_version_is_the_packages() -> None:
    assert run("--version").stdout == f"cliphand {__version__}\n"


def test_bad_input_is_one_sentence_on_stderr_and_exit_code_2(tmp_path: Path) -> None:
    result = run("export", tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"cliphand: {tmp_path} is not a checkpoint")
    assert result.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run("--debug", "export", tmp_path)
    assert result.returncode != 0
    assert "Traceback" in result.stderr
    assert "InputError" in result.stderr


@pytest.mark.parametrize("arguments", [("nosuch",), ("train", "--epochs", "many"), ("bench", "--root", "guess")])
def test_misspelt_commands_and_options_exit_with_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--input-size", "100", "input_size is 100; it must be a positive multiple of 32."),
        ("--prompt-joints", "22", "prompts name 22 joints; valid are 2 to 21."),
        ("--precision", "fp8", "options: precision is 'fp8'; valid are ['32-true', 'bf16-mixed', '16-mixed']."),
        ("--crop", "tight", "--crop: rule is 'tight'; valid are ['whole', 'centre', 'mask', 'joints']."),
        ("--epochs", "0", "epochs is 0; it must be at least 1."),
    ],
)
def test_train_refuses_values_out_of_range(tmp_path: Path, option: str, value: str, sentence: str) -> None:
    result = run("train", "--data", tmp_path, "--out", tmp_path / "run", option, value)
    assert result.returncode == 2
    assert result.stderr == f"cliphand: {sentence}\n"
    assert not (tmp_path / "run").exists()
