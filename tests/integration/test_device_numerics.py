"""Figures measured on a GPU reach a caller, whatever the server itself runs on."""

from pathlib import Path

from support.servers import running_app
from vaeserve import Client, DeviceNumerics
from vaeserve.v1 import bundle

DEVICE = {"device": "NVIDIA H200", "provider": "CUDAExecutionProvider", "rows": 256}
FIGURES = {
    "parity_mu": 0.001,
    "parity_log_var": 0.002,
    "parity_x_hat": 0.0005,
    "within_bucket_difference": 0.0,
    "across_buckets_difference": 0.0015,
    "cpu_difference": 0.0025,
}


def test_the_manifests_entries_are_those_of_the_client(own_repository: Path) -> None:
    folder = own_repository / "digits" / "1"
    info = bundle.read_manifest(folder)
    for tf32 in (False, True):
        info.device_numerics.add(tf32=tf32, onnxruntime_version="1.31.0", **DEVICE, **FIGURES)
    bundle.write_manifest(folder, info)

    with running_app(own_repository) as app, Client(f"127.0.0.1:{app.port}") as client:
        served = client.model("digits").info

    assert served.device_numerics == tuple(
        DeviceNumerics(tf32=tf32, onnxruntime_version="1.31.0", **DEVICE, **FIGURES)  # type: ignore[arg-type]
        for tf32 in (False, True)
    )
    assert list(served.manifest.device_numerics) == list(info.device_numerics)
