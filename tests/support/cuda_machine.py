"""A machine with GPUs, made of what the server asks: libcuda, libraries, NVML, ONNX Runtime."""

import ctypes
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

from vaeserve_server import cuda_build, nvidia

REQUIRED = {"libcublasLt.so.13", "libcublas.so.13", "libcudart.so.13", "libcurand.so.10"}
OPTIONAL = {"libcudnn.so.9", "libcufft.so.12"}
TENSORRT = {"libnvinfer.so.10", "libnvonnxparser.so.10"}
PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


class NVMLError(Exception):
    """As pynvml's."""


class CudaMachine:
    """Everything is as it should be until a test breaks it.

    Attributes:
        providers: of the build of ONNX Runtime.
        packages: installed ones, beside those that really are.
        libraries: those that load.
        driver: newest CUDA of the driver, as it tells it; None without a driver.
        init_code: what cuInit returns.
        gpus: name and compute capability of each, in CUDA's order.
        used: bytes used on each, in the same order.
        nvml_works: whether the management library can be started.
    """

    def __init__(self) -> None:
        self.providers = list(PROVIDERS)
        self.packages = {"onnxruntime-gpu": "1.31.0"}
        self.libraries = REQUIRED | OPTIONAL | TENSORRT
        self.driver: int | None = 13000
        self.init_code = 0
        self.gpus = [("NVIDIA H200", (9, 0)), ("Quadro RTX 8000", (7, 5))]
        self.used = [3 << 20, 5 << 20]
        self.nvml_works = True

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it in the place of this machine."""
        monkeypatch.setattr(ctypes, "CDLL", self._load)
        monkeypatch.setattr(ort, "get_available_providers", lambda: self.providers)
        monkeypatch.setattr(ort, "cuda_version", "13.0")
        monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load: noise"))  # noqa: T201
        monkeypatch.setattr(metadata, "version", self._version)
        monkeypatch.setitem(sys.modules, "pynvml", self._pynvml())

    def _load(self, name: str, *_: Any, **__: Any) -> Any:
        if name == "libcuda.so.1" and self.driver is not None:
            return self._libcuda()
        if name not in self.libraries:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")

        def cudnn_version() -> int:
            return 92801

        return SimpleNamespace(cudnnGetVersion=cudnn_version)

    def _version(self, package: str) -> str:
        if package in ("onnxruntime", "onnxruntime-gpu") and package not in self.packages:
            raise metadata.PackageNotFoundError(package)
        return self.packages.get(package, "1.0")

    def identity(self, index: int) -> uuid.UUID:
        return uuid.UUID(int=index + 1)

    def _libcuda(self) -> Any:
        def out(value: Callable[..., Any]) -> Callable[..., int]:
            """A function of the driver that writes to its first argument."""

            def function(target: Any, *arguments: Any) -> int:
                target._obj.value = value(*(getattr(each, "value", each) for each in arguments))
                return 0

            return function

        def name(buffer: Any, _: int, device: Any) -> int:
            buffer.value = self.gpus[device.value][0].encode()
            return 0

        def identity(target: Any, device: Any) -> int:
            target._obj[:] = self.identity(device.value).bytes
            return 0

        def error_string(_: int, target: Any) -> int:
            target._obj.value = b"system not yet initialized"
            return 0

        return SimpleNamespace(
            cuDriverGetVersion=out(lambda: self.driver),
            cuInit=lambda _: self.init_code if self.gpus else 100,
            cuDeviceGetCount=out(lambda: len(self.gpus)),
            cuDeviceGet=out(lambda index: index),
            cuDeviceGetName=name,
            cuDeviceGetUuid_v2=identity,
            cuDeviceGetAttribute=out(lambda what, device: self.gpus[device][1][what - 75]),
            cuGetErrorString=error_string,
        )

    def _pynvml(self) -> Any:
        def init() -> None:
            if not self.nvml_works:
                raise NVMLError("NVML Shared Library Not Found")

        def handle(name: str) -> int:
            # In the order of the bus, and blind to CUDA_VISIBLE_DEVICES: only the UUID tells.
            for index in range(len(self.gpus)):
                if name == f"GPU-{self.identity(index)}":
                    return index
            raise NVMLError("Not Found")

        def memory(index: int) -> SimpleNamespace:
            if not self.nvml_works:
                raise NVMLError("GPU is lost")
            return SimpleNamespace(used=self.used[index], total=64 << 20)

        return SimpleNamespace(
            NVMLError=NVMLError,
            nvmlInit=init,
            nvmlSystemGetDriverVersion=lambda: "580.95.05",
            nvmlDeviceGetHandleByUUID=handle,
            nvmlDeviceGetMemoryInfo=memory,
        )


@contextmanager
def cuda_machine() -> Iterator[CudaMachine]:
    """Be on such a machine."""
    made = CudaMachine()
    cached = (cuda_build.preload, nvidia._library)
    with pytest.MonkeyPatch.context() as patch:
        made.install(patch)
        for function in cached:
            function.cache_clear()
        yield made
    for function in cached:
        function.cache_clear()


class Sessions:
    """Stands in for `ort.InferenceSession`: notes what is asked, answers with `got`."""

    def __init__(self, got: list[str]) -> None:
        self.got = got
        self.asked: list[dict[str, Any]] = []

    def __call__(self, model: bytes, options: Any, **settings: Any) -> Any:
        self.asked.append({"model": model, "options": options, **settings})
        return SimpleNamespace(get_providers=lambda: self.got)

    def provider_options(self, name: str) -> dict[str, Any]:
        """Of the last session."""
        return dict(self.asked[-1]["providers"])[name]  # type: ignore[no-any-return]
