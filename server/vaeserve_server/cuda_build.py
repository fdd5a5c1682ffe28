"""What this build of ONNX Runtime is, and which of the libraries it needs do not load.

ONNX Runtime itself only logs why its CUDA provider could not be made, and goes on without it.
"""

import contextlib
import ctypes
import functools
import io
import os
from importlib import metadata

# ONNX Runtime reports its use to its maker, from its import on, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

ORT_VERSION: str = ort.__version__
"""Of the installed ONNX Runtime."""

_CUDNN = "libcudnn.so.9"
# What libonnxruntime_providers_tensorrt.so is linked with beside what CUDA needs.
_TENSORRT = ("libnvinfer.so.10", "libnvonnxparser.so.10")


def available_providers() -> list[str]:
    """Names of the providers that this build of ONNX Runtime has."""
    return list(ort.get_available_providers())


def built_for() -> tuple[int, int] | None:
    """CUDA version that this build is for, major and minor; None for a build without CUDA."""
    version: str = getattr(ort, "cuda_version", "")
    if CUDA not in available_providers() or not version:
        return None
    major, minor, *_ = map(int, (*version.split("."), "0"))
    return major, minor


def both_installed() -> bool:
    """Whether the packages onnxruntime and onnxruntime-gpu are both there, in one folder."""
    return all(map(package_version, ("onnxruntime", "onnxruntime-gpu")))


def package_version(package: str) -> str | None:
    """Version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def preload() -> None:
    """Load the libraries of the nvidia-* packages, which no search path of the system knows."""
    # It prints what it does not find; standard output is the log's. `missing` tells it.
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()


def missing_required() -> list[str]:
    """Why libraries without which the CUDA provider itself does not load do not load."""
    build = built_for()
    if build is None:
        return []
    major = build[0]
    names = (f"libcublasLt.so.{major}", f"libcublas.so.{major}", f"libcudart.so.{major}")
    return _missing(*names, "libcurand.so.10")


def missing_libraries() -> list[str]:
    """Why libraries that some graph needs do not load: the required ones, cuDNN and cuFFT."""
    build = built_for()
    if build is None:
        return []
    cufft = "libcufft.so.12" if build[0] >= 13 else "libcufft.so.11"
    return missing_required() + _missing(_CUDNN, cufft)


def tensorrt_problem() -> str | None:
    """Why the TensorRT provider cannot be had; None if nothing is known against it."""
    if TENSORRT not in available_providers():
        return f"this onnxruntime ({ORT_VERSION}) was built without TensorRT"
    if missing := _missing(*_TENSORRT):
        return "; ".join(missing) + ": install TensorRT 10 where the loader finds it"
    return None


def cudnn_version() -> str | None:
    """Version of the cuDNN that is loaded, such as 9.28.1; None if none loads."""
    if _missing(_CUDNN):
        return None
    get_version = ctypes.CDLL(_CUDNN).cudnnGetVersion
    get_version.restype = ctypes.c_size_t
    number = int(get_version())
    return f"{number // 10000}.{number % 10000 // 100}.{number % 100}"


def _missing(*names: str) -> list[str]:
    preload()
    missing = []
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError as error:
            # The loader's text begins with the library it wants, which may be another one.
            text = str(error)
            missing.append(f"{name} does not load ({text.removeprefix(name).lstrip(': ')})")
    return missing
