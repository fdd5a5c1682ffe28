"""Why CUDA cannot be used, before a session is made that would run somewhere else."""

from vaeserve_server.cuda_build import (
    CUDA,
    ORT_VERSION,
    available_providers,
    both_installed,
    built_for,
    missing_required,
)
from vaeserve_server.cuda_driver import CudaDriver, CudaDriverError, read_driver

# Oldest driver for each major version of CUDA, from NVIDIA's "Minor Version Compatibility".
_OLDEST_DRIVER = {12: 525, 13: 580}


def cuda_problem(index: int) -> str | None:
    """Look for what keeps sessions from running on a CUDA device.

    Nothing that would run is refused: that a session really runs there is only known once it does
    (`sessions.create_session`).

    Args:
        index: CUDA's number of the device.

    Returns:
        the first cause found, and what to do about it; None if there is none.
    """
    if CUDA not in available_providers():
        return _no_cuda_build()
    try:
        driver = read_driver()
    except CudaDriverError as error:
        return str(error)
    build = built_for()
    if build is not None and driver.cuda[0] < build[0]:
        return _old_driver(driver.cuda, build)
    if index >= len(driver.gpus):
        return f"there is no CUDA device {index}: {_listed(driver)}"
    if missing := missing_required():
        return f"{'; '.join(missing)}: install vaeserve[gpu], which brings it"
    return None


def _no_cuda_build() -> str:
    text = f"this onnxruntime ({ORT_VERSION}) was built without CUDA"
    if both_installed():
        return (
            f"{text}, because onnxruntime and onnxruntime-gpu are both installed and own one "
            "import name: uninstall both, then install vaeserve[gpu]"
        )
    return (
        f"{text}; install vaeserve[gpu] in an environment without the package onnxruntime, "
        "for both own one import name"
    )


def _old_driver(supported: tuple[int, int], build: tuple[int, int]) -> str:
    oldest = _OLDEST_DRIVER.get(build[0])
    wanted = f"a driver from {oldest} on" if oldest else "a newer driver"
    return (
        f"the NVIDIA driver supports CUDA up to {supported[0]}.{supported[1]}, this onnxruntime "
        f"({ORT_VERSION}) was built for {build[0]}.{build[1]}: install {wanted}, or an "
        f"onnxruntime-gpu that was built for CUDA {supported[0]}"
    )


def _listed(driver: CudaDriver) -> str:
    if not driver.gpus:
        return "this process sees none (CUDA_VISIBLE_DEVICES, docker run --gpus)"
    gpus = ", ".join(f"{gpu.index} {gpu.name}" for gpu in driver.gpus)
    return f"this process sees {gpus} (CUDA_VISIBLE_DEVICES, docker run --gpus)"
