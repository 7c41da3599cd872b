"""Run-times of an exported hand model behind one protocol.

The way in is `engines.open.open_engine`; read it and the protocol, `engines.base.Engine`, first. The rooms in reading
order:

1. `artefact`: what a file is, as the manifest beside it says.
2. `runtimes`: PyTorch, ONNX Runtime, OpenVINO, AOTInductor; one file each.
3. `tensorrt`: plans built (`build`) and run (`run`), apart.
4. `host`: what this machine has.
5. `choice`: the engine of an export folder that is best here.
6. `hands`: from a photograph on disk to a hand in metres.
"""
