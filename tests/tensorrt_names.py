"""Every name of TensorRT that the engines' source uses, looked up in the real bindings. Run as a program.

`python tensorrt_names.py MODULE FILE...` imports MODULE (`tensorrt` or `tensorrt_rtx`), reads each source file, and
prints one JSON object: names used, names that the module lacks, and keyword arguments that a signature lacks.
"""

import ast
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

# What a variable or attribute (without its leading underscore) holds.
VARIABLES = {
    "builder": "Builder",
    "cache": "IRuntimeCache",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "network": "INetworkDefinition",
    "parser": "OnnxParserRefitter",
    "refitter": "Refitter",
    "runtime": "Runtime",
    "runtime_config": "IRuntimeConfig",
}
RETURNS = {"get_input": "ITensor", "get_output": "ITensor", "get_layer": "ILayer", "data": "ITensor"}
# Members that only exist in TensorRT for RTX, and are only reached there.
ONLY_RTX = {
    "ComputeCapability",
    "CudaGraphStrategy",
    "EngineInvalidityDiagnostics",
    "EngineValidity",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "IRuntimeCache",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.cuda_graph_strategy",
    "IRuntimeConfig.set_runtime_cache",
    "Runtime.get_engine_validity",
}
MODULE_OWN = {"__name__", "__version__", "__members__"}


def base_name(node: ast.expr) -> str | None:
    """`trt`, `_trt`, `self._trt` and `parsed.trt` alike give `trt`."""
    if isinstance(node, ast.Name):
        return node.id.lstrip("_")
    return node.attr.lstrip("_") if isinstance(node, ast.Attribute) else None


def owner_of(node: ast.expr) -> str | None:
    """The class whose member is taken from `node`; an empty name is the module itself."""
    name = base_name(node)
    if name == "trt":
        return ""
    if isinstance(node, ast.Attribute) and base_name(node.value) == "trt":
        return node.attr
    if isinstance(node, ast.Subscript) and base_name(node.value) == "contexts":
        return "IExecutionContext"
    if isinstance(node, ast.Call):
        return RETURNS.get(base_name(node.func) or "")
    return VARIABLES.get(name or "")


def uses(tree: ast.AST) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(owner, member, keywords it is called with) of everything taken from TensorRT."""
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (owner := owner_of(node.value)) is not None:
            call = called.get(id(node))
            keywords = tuple(word.arg for word in call.keywords if word.arg) if call else ()
            yield owner, node.attr, keywords


def main(module_name: str, files: list[str]) -> dict[str, object]:
    """Look up every use in the module."""
    module = importlib.import_module(module_name)
    found: set[str] = set()
    missing: set[str] = set()
    bad_keywords: set[str] = set()
    for file in files:
        for owner, member, keywords in uses(ast.parse(Path(file).read_text())):
            full = f"{owner}.{member}" if owner else member
            if member in MODULE_OWN:
                continue
            found.add(full)
            if module_name == "tensorrt" and (full in ONLY_RTX or owner in ONLY_RTX):
                continue
            holder = getattr(module, owner, None) if owner else module
            if not hasattr(holder, member):
                missing.add(full)
                continue
            text = getattr(holder, member).__doc__ or ""
            bad_keywords.update(f"{full}({word}=)" for word in keywords if f"{word}:" not in text)
    return {
        "version": module.__version__,
        "found": sorted(found),
        "missing": sorted(missing),
        "bad_keywords": sorted(bad_keywords),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2:])))
