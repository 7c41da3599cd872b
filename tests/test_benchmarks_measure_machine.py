import json
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace

from benchmarks.measure.machine import cpu_name, gpu_name, machine_facts, usable_cores


def test_facts_name_this_machine_and_fit_into_json() -> None:
    facts = machine_facts()
    assert list(facts) == ["cpu", "cores", "memory_gib", "load", "os", "gpu"]
    assert facts["cpu"]
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_cores_are_those_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_the_processor_is_read_from_linux_and_named_without_it(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Abacus 3000\nprocessor\t: 1\nmodel name\t: Abacus 3000\n")
    assert cpu_name(info) == "Abacus 3000"
    assert cpu_name(tmp_path / "missing")


def test_a_gpu_is_named_only_by_a_torch_that_is_loaded_and_sees_one() -> None:
    def torch_with(*, available: bool) -> ModuleType:
        module = ModuleType("torch")
        module.cuda = SimpleNamespace(is_available=lambda: available, get_device_name=lambda index: f"GPU {index}")
        return module

    assert gpu_name(None) is None
    assert gpu_name(torch_with(available=False)) is None
    assert gpu_name(torch_with(available=True)) == "GPU 0"
