"""What `vaeserve doctor` says about GPUs: driver, CUDA, cuDNN, devices."""

from vaeserve_server import nvidia
from vaeserve_server.cuda_build import (
    built_for,
    cudnn_version,
    missing_libraries,
    missing_required,
    tensorrt_problem,
)
from vaeserve_server.cuda_check import cuda_problem
from vaeserve_server.cuda_driver import CudaDriverError, Gpu, read_driver


def examine_gpus() -> tuple[dict[str, str], list[str]]:
    """Look at everything that serving on CUDA needs.

    Returns:
        findings by name; and problems in words, none for a build without CUDA, which needs nothing.
    """
    build = built_for()
    findings = {
        "onnxruntime's CUDA": "none" if build is None else _dotted(build),
        "NVIDIA driver": _driver_version(),
    }
    problems = []
    try:
        driver = read_driver()
    except CudaDriverError:
        findings["driver's CUDA"] = "none"
    else:
        findings["driver's CUDA"] = f"up to {_dotted(driver.cuda)}"
        findings["CUDA devices"] = str(len(driver.gpus))
        findings |= {f"cuda:{gpu.index}": _described(gpu) for gpu in driver.gpus}
    if build is not None:
        findings["cuDNN"] = cudnn_version() or "none"
        findings["TensorRT"] = tensorrt_problem() or "loads"
        if problem := cuda_problem(0):
            problems.append(f"CUDA cannot be used: {problem}")
        required = missing_required()
        problems += [
            f"{missing}: graphs that need it cannot run on CUDA; vaeserve[gpu] brings it"
            for missing in missing_libraries()
            if missing not in required
        ]
    return findings, problems


def _driver_version() -> str:
    try:
        return nvidia.driver_version()
    except nvidia.ManagementError as error:
        return f"unknown: {error}"


def _described(gpu: Gpu) -> str:
    try:
        now = nvidia.memory(gpu.identity)
        memory = f"{now.used >> 20} of {now.total >> 20} MiB used"
    except nvidia.ManagementError as error:
        memory = f"memory unknown: {error}"
    tf32 = "with TF32" if gpu.has_tf32 else "without TF32"
    return f"{gpu.name}, {memory}, compute capability {_dotted(gpu.compute_capability)}, {tf32}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
