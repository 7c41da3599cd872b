"""TensorRT and TensorRT for RTX: plans built from ONNX graphs, described, and run.

Read `plan.PlanRecord` first (what a plan says about itself), then `build` (in `process`, which survives a builder that
dies), and `run` (a plan as an engine, by way of `cuda`). `flavour` is where the two libraries differ; inside this
package `import tensorrt` is the library.
"""
