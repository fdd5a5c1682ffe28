"""What `vaeserve doctor` looks at: versions, providers, threads, limits, bundles."""

import os
import platform
import resource
from pathlib import Path

from vaeserve.v1 import bundle
from vaeserve_server.config import MAX_MESSAGE_BYTES
from vaeserve_server.cpus import cgroup_quota, usable_cpus
from vaeserve_server.cuda_build import CUDA, available_providers, both_installed, package_version
from vaeserve_server.devices import choose_devices
from vaeserve_server.errors import StartupError
from vaeserve_server.gpu_report import examine_gpus
from vaeserve_server.loading import find_versions, read_bundle

_PACKAGES = (
    "vaeserve",
    "onnxruntime",
    "onnxruntime-gpu",
    "nvidia-ml-py",
    "grpcio",
    "protobuf",
    "numpy",
    "prometheus-client",
)
_FEW_FILES = 1024


def examine(repository: Path | None) -> tuple[dict[str, str], list[str]]:
    """Look at the machine and, when given, at the bundles of a repository.

    Returns:
        findings by name, and problems in words.
    """
    versions = {name: package_version(name) for name in _PACKAGES}
    providers = available_providers()
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    quota = cgroup_quota()
    findings = {
        "python": platform.python_version(),
        **{name: version or "not installed" for name, version in versions.items()},
        "providers": ", ".join(providers),
        "device auto": str(choose_devices("auto")[0]),
        "cpus": f"{os.cpu_count()} on the host, {len(os.sched_getaffinity(0))} by affinity, "
        f"quota {'none' if quota is None else f'{quota:g}'}",
        "threads": f"1 to {usable_cpus()}, as measured for each graph",
        "message limit": f"{MAX_MESSAGE_BYTES} bytes",
        "open files": str(files),
    }
    gpu_findings, problems = examine_gpus()
    findings |= gpu_findings
    if both_installed():
        problems.append(
            "onnxruntime and onnxruntime-gpu are both installed and own one import name: "
            "uninstall both, then install vaeserve[server] or vaeserve[gpu]"
        )
    if versions["onnxruntime-gpu"] and CUDA not in providers:
        problems.append("onnxruntime-gpu is installed, but CUDA is not among its providers")
    if files < _FEW_FILES:
        problems.append(
            f"only {files} files may be open; each connection needs one: raise ulimit -n"
        )
    if repository is not None:
        bundles, refused = _check_bundles(repository)
        findings["bundles"] = ", ".join(bundles) or "none"
        problems += refused
    return findings, problems


def _check_bundles(repository: Path) -> tuple[list[str], list[str]]:
    sound: list[str] = []
    refused: list[str] = []
    try:
        models = find_versions(repository)
    except StartupError as error:
        return sound, [str(error)]
    for version in (version for versions in models.values() for version in versions):
        try:
            read_bundle(version)
        except bundle.BundleError as error:
            refused.append(str(error))
        else:
            sound.append(f"{version.parent.name}/{version.name}")
    if not sound and not refused:
        refused.append(f"{repository}: holds no bundle; `vaeserve export` writes one")
    return sound, refused
