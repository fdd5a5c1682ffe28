"""`--device`, `doctor` and sessions on machines that have, or lack, one thing that CUDA needs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from support.cuda_machine import (
    OPTIONAL,
    PROVIDERS,
    REQUIRED,
    TENSORRT,
    CudaMachine,
    Sessions,
    cuda_machine,
)
from vaeserve_server.config import ServerConfig, Tuning
from vaeserve_server.devices import CPU, CUDA, Device, choose_devices
from vaeserve_server.doctor import examine
from vaeserve_server.errors import StartupError
from vaeserve_server.sessions import create_session


@pytest.fixture
def machine() -> Iterator[CudaMachine]:
    """Two sound GPUs."""
    with cuda_machine() as made:
        yield made


def break_build(machine: CudaMachine) -> None:
    machine.providers = [CPU]
    machine.packages = {"onnxruntime": "1.32.0"}


def break_packages(machine: CudaMachine) -> None:
    machine.providers = [CPU]
    machine.packages["onnxruntime"] = "1.32.0"


def break_driver(machine: CudaMachine) -> None:
    machine.driver = None


def break_start(machine: CudaMachine) -> None:
    machine.init_code = 802


def age_driver(machine: CudaMachine) -> None:
    machine.driver = 12040


def take_gpus(machine: CudaMachine) -> None:
    machine.gpus = []


def break_libraries(machine: CudaMachine) -> None:
    machine.libraries.remove("libcublasLt.so.13")


CAUSES = [
    (break_build, r"was built without CUDA; install vaeserve\[gpu\]"),
    (break_packages, "are both installed and own one import name: uninstall both"),
    (break_driver, r"there is no NVIDIA driver \(libcuda.so.1: cannot open.*--gpus all"),
    (break_start, r"driver does not work: cuInit: system not yet initialized \(802\)"),
    (
        age_driver,
        "supports CUDA up to 12.4, .* was built for 13.0: install a driver from 580",
    ),
    (take_gpus, "there is no CUDA device 0: this process sees none"),
    (break_libraries, r"libcublasLt.so.13 does not load .*: install vaeserve\[gpu\]"),
]


@pytest.mark.parametrize(("broken", "cause"), CAUSES)
def test_cuda_is_refused_with_the_cause_and_auto_takes_the_cpu_for_it(
    machine: CudaMachine, caplog: pytest.LogCaptureFixture, broken: Any, cause: str
) -> None:
    assert choose_devices("cuda") == (Device(CUDA),)
    broken(machine)
    with pytest.raises(StartupError, match=f"--device cuda: .*{cause}"):
        choose_devices("cuda")
    with caplog.at_level("INFO"):
        assert choose_devices("auto") == (Device(CPU),)
    (record,) = caplog.records
    assert (record.message, record.device) == ("device chosen", "cpu")  # type: ignore[attr-defined]
    assert re.search(cause, record.reason)  # type: ignore[attr-defined]


def test_devices_are_those_that_cuda_numbers(
    machine: CudaMachine, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_devices("cuda:1,0") == (Device(CUDA, 1), Device(CUDA, 0))
    sees = "this process sees 0 NVIDIA H200, 1 Quadro RTX 8000"
    with pytest.raises(StartupError, match=f"--device cuda:1,2: there is no CUDA device 2: {sees}"):
        choose_devices("cuda:1,2")
    with caplog.at_level("INFO"):
        assert choose_devices("auto") == (Device(CUDA, may_fall_back=True),)
    assert caplog.records[-1].device == "cuda:0"  # type: ignore[attr-defined]


def test_libraries_that_only_some_graphs_need_refuse_no_device(machine: CudaMachine) -> None:
    machine.libraries -= OPTIONAL
    assert choose_devices("cuda") == (Device(CUDA),)


def test_nothing_is_printed_beside_the_json_logs(
    machine: CudaMachine, capfd: pytest.CaptureFixture[str]
) -> None:
    choose_devices("cuda")
    assert capfd.readouterr().out == ""


def test_doctor_shows_driver_libraries_and_devices(machine: CudaMachine) -> None:
    findings, problems = examine(None)
    assert problems == []
    assert findings["NVIDIA driver"] == "580.95.05"
    assert findings["driver's CUDA"] == "up to 13.0"
    assert findings["onnxruntime's CUDA"] == "13.0"
    assert findings["cuDNN"] == "9.28.1"
    assert findings["device auto"] == "cuda:0"
    assert findings["cuda:0"] == (
        "NVIDIA H200, 3 of 64 MiB used, compute capability 9.0, with TF32"
    )
    assert findings["cuda:1"] == (
        "Quadro RTX 8000, 5 of 64 MiB used, compute capability 7.5, without TF32"
    )


@pytest.mark.parametrize(("broken", "cause"), CAUSES[1:])
def test_doctor_names_what_is_wrong(machine: CudaMachine, broken: Any, cause: str) -> None:
    broken(machine)
    _, problems = examine(None)
    assert re.search(cause, "\n".join(problems))


def test_doctor_finds_nothing_wrong_where_cuda_is_not_meant(machine: CudaMachine) -> None:
    break_build(machine)
    findings, problems = examine(None)
    assert problems == []
    assert findings["onnxruntime's CUDA"] == "none"


def test_doctor_goes_on_without_the_management_library(machine: CudaMachine) -> None:
    machine.nvml_works = False
    findings, problems = examine(None)
    assert problems == []
    assert findings["NVIDIA driver"] == "unknown: NVML Shared Library Not Found"
    assert "memory unknown" in findings["cuda:0"]


def test_doctor_names_libraries_that_some_graphs_need(machine: CudaMachine) -> None:
    machine.libraries -= OPTIONAL
    findings, (cudnn, cufft) = examine(None)
    assert "libcudnn.so.9 does not load" in cudnn
    assert "libcufft.so.12 does not load" in cufft
    assert findings["cuDNN"] == "none"


@pytest.fixture
def sessions(machine: CudaMachine, monkeypatch: pytest.MonkeyPatch) -> Sessions:
    made = Sessions(PROVIDERS[1:])
    monkeypatch.setattr(ort, "InferenceSession", made)
    return made


def create(tuning: Tuning, model: bytes = b"graph") -> None:
    create_session(model, "encoder.onnx", Device(CUDA, 1), 1, tuning)


def test_a_session_must_not_leave_cuda_by_itself(sessions: Sessions) -> None:
    create(Tuning())
    (asked,) = sessions.asked
    assert [name for name, _ in asked["providers"]] == [CUDA]
    assert asked["options"].get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
    assert asked["enable_fallback"] == 0


def test_a_session_that_left_cuda_is_refused_with_what_is_missing(
    machine: CudaMachine, sessions: Sessions
) -> None:
    sessions.got = [CPU]
    machine.libraries.remove("libcudnn.so.9")
    expected = f"encoder.onnx: runs on {CPU}, not on {CUDA}; libcudnn.so.9 does not load"
    with pytest.raises(StartupError, match=expected):
        create(Tuning())


def test_options_reach_the_provider(sessions: Sessions) -> None:
    create(Tuning())
    by_default = sessions.provider_options(CUDA)
    assert (by_default["device_id"], by_default["use_tf32"]) == (1, 1)
    assert by_default["enable_cuda_graph"] == 0
    assert "gpu_mem_limit" not in by_default
    config = ServerConfig(
        repository=Path(), tf32=False, gpu_memory_limit_mb=3, cuda_graphs=True, device="cuda"
    )
    create(config.tuning)
    tuned = sessions.provider_options(CUDA)
    assert (tuned["use_tf32"], tuned["enable_cuda_graph"]) == (0, 1)
    assert tuned["gpu_mem_limit"] == 3 << 20


def test_tensorrt_comes_first_and_cuda_takes_the_rest(sessions: Sessions) -> None:
    sessions.got = PROVIDERS
    create(Tuning(tensorrt=True))
    assert [name for name, _ in sessions.asked[-1]["providers"]] == PROVIDERS[:2]
    assert sessions.provider_options(PROVIDERS[0]) == {"device_id": 1}
    sessions.got = PROVIDERS[1:]
    with pytest.raises(StartupError, match="not on TensorrtExecutionProvider, CUDA"):
        create(Tuning(tensorrt=True))


def test_engines_are_cached_by_the_weights_too(sessions: Sessions, tmp_path: Path) -> None:
    sessions.got = PROVIDERS
    folders = []
    for model in (b"graph, weights 1", b"graph, weights 2", b"graph, weights 1"):
        create(Tuning(tensorrt=True, engine_cache=tmp_path / "cache"), model)
        options = sessions.provider_options(PROVIDERS[0])
        assert options["trt_engine_cache_enable"] is options["trt_timing_cache_enable"] is True
        folders.append(Path(options["trt_engine_cache_path"]))
        assert folders[-1].is_dir()
    assert folders[0] == folders[2] != folders[1]


def test_a_cache_that_cannot_be_made_is_named(sessions: Sessions, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"--engine-cache .*: Not a directory"):
        create(Tuning(tensorrt=True, engine_cache=tmp_path / "file"))


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_tensorrt_is_refused_where_it_cannot_be_had(machine: CudaMachine, device: str) -> None:
    tuning = Tuning(tensorrt=True)
    assert choose_devices(device, tuning)[0].on_cuda
    machine.libraries -= TENSORRT
    with pytest.raises(StartupError, match=r"--tensorrt: libnvinfer.so.10 does not load"):
        choose_devices(device, tuning)
    machine.providers = PROVIDERS[1:]
    with pytest.raises(StartupError, match=r"--tensorrt: .* built without TensorRT"):
        choose_devices(device, tuning)


def test_options_of_cuda_are_ignored_aloud_where_auto_takes_the_cpu(
    machine: CudaMachine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.libraries -= REQUIRED
    assert choose_devices("auto", Tuning(tf32=False, cuda_graphs=True)) == (Device(CPU),)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.options == ("--no-tf32", "--cuda-graphs")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tf32": False}, "--no-tf32: of no use with --device cpu"),
        (
            {"gpu_memory_limit_mb": 1, "cuda_graphs": True},
            "-limit-mb, --cuda-graphs: of no",
        ),
        ({"tensorrt": True}, "--tensorrt: of no use"),
        ({"engine_cache": Path("cache")}, "give --tensorrt too"),
        ({"device": "cuda", "gpu_memory_limit_mb": -1}, "gpu_memory_limit_mb must be a number"),
        (
            {"device": "cuda", "tensorrt": True, "cuda_graphs": True},
            "with --cuda-graphs",
        ),
        ({"device": "cuda", "tensorrt": True, "tf32": False}, "--tensorrt with --no-tf32"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerConfig(repository=Path(), **{"device": "cpu", **settings})
