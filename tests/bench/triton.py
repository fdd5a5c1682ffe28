"""Baseline (d): Triton with its Python backend, out of the PyPI wheel nvidia-pytriton."""

import shutil
import sys
import sysconfig
from pathlib import Path

from bench.cases import Case
from bench.models import graph_file
from bench.processes import Process, free_port
from bench.servers import Server, Settings
from bench.wires import InferWire

_MOST_ROWS = 256
_HERE = Path(__file__).parent


def installed(home: Path) -> bool:
    """Whether `make bench-peers` has been run."""
    return _binary(home / "peers").exists()


def start(settings: Settings) -> Server:
    """Start it with the model's two graphs."""
    peers = settings.home / "peers"
    models = settings.home / "triton" / settings.model.name
    shutil.rmtree(models, ignore_errors=True)
    for rpc in ("encode", "decode"):
        _write_model(models, Case(settings.model, rpc, 1), settings)
    root = _binary(peers).parents[1]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = "triton_python_backend_stub"
    # Where Triton looks for it; the wheel holds one for each Python.
    shutil.copy(root / "python_backend_stubs" / version / stub, root / "backends/python" / stub)
    port = free_port()
    command = [str(_binary(peers).resolve()), "--model-repository", str(models.resolve())]
    command += ["--backend-directory", str((root / "backends").resolve())]
    command += ["--grpc-address", "127.0.0.1", "--grpc-port", str(port)]
    command += ["--allow-http", "false", "--allow-metrics", "false"]
    environment = {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
    # The stub ignores PYTHONPATH but looks for modules where it runs. There it finds numpy 1: with
    # numpy 2 it returns empty tensors.
    packages = peers / "triton-python"
    process = Process(command, settings.home / "logs" / "triton.log", environment, packages)
    return Server("triton", port, InferWire(), process)


def _binary(peers: Path) -> Path:
    return peers / "triton-server" / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def _write_model(models: Path, case: Case, settings: Settings) -> None:
    folder = models / f"{case.model.name}_{case.graph}"
    (folder / "1").mkdir(parents=True)
    shutil.copy(_HERE / "triton_model.py", folder / "1" / "model.py")
    input_shape = case.input().shape[1:]
    outputs = [_tensor(name, case.output_shape) for name in case.outputs]
    file = graph_file(settings.repository, case.model, case.graph).resolve()
    (folder / "config.pbtxt").write_text(
        f"""
backend: "python"
max_batch_size: {_MOST_ROWS}
input [ {_tensor(case.graph_input, input_shape)} ]
output [ {", ".join(outputs)} ]
dynamic_batching {{ }}
instance_group [ {{ kind: KIND_CPU }} ]
parameters {{ key: "file" value {{ string_value: "{file}" }} }}
parameters {{ key: "threads" value {{ string_value: "{settings.threads}" }} }}
"""
    )


def _tensor(name: str, shape: tuple[int, ...]) -> str:
    return f'{{ name: "{name}", data_type: TYPE_FP32, dims: {list(shape)} }}'
