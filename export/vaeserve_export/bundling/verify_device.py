"""The numerical contract on a CUDA device: measured, held, and recorded beside the CPU's."""

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export.bundling.verify_buckets import BUCKETS, measure_buckets
from vaeserve_export.bundling.verify_parity import (
    Expected,
    Floats,
    run_in_batches,
)
from vaeserve_export.bundling.verify_sessions import (
    CUDA,
    ORT_VERSION,
    Graphs,
    cuda_graphs,
    device_name,
)


def measure_cuda(
    info: model_pb2.ModelInfo,
    files: dict[str, bytes],
    golden: dict[str, Floats],
    on_cpu: Graphs,
    index: int,
) -> list[model_pb2.DeviceNumerics]:
    """Measure a bundle on a CUDA device, without TF32 and with it.

    Args:
        info: the manifest, with the figures of the CPU.
        files: of the bundle.
        golden: its golden rows.
        on_cpu: its graphs on the CPU.
        index: number of the device.

    Raises:
        VerifyError: a graph does not run there as it must.
    """
    name = device_name(index)
    return [
        measure(
            info,
            golden,
            cuda_graphs(info, files, index, tf32=tf32),
            on_cpu,
            model_pb2.DeviceNumerics(
                device=name, provider=CUDA, tf32=tf32, onnxruntime_version=ORT_VERSION
            ),
        )
        for tf32 in (False, True)
    ]


def measure(
    info: model_pb2.ModelInfo,
    golden: dict[str, Floats],
    on_device: Graphs,
    on_cpu: Graphs,
    device: model_pb2.DeviceNumerics,
) -> model_pb2.DeviceNumerics:
    """Measure a bundle on any device.

    Args:
        info: the manifest, with the figures of the CPU.
        golden: its golden rows.
        on_device: runs its graphs there.
        on_cpu: runs them on the CPU.
        device: what is measured: device, provider, tf32, onnxruntime_version.

    Returns:
        The same with its figures.

    Raises:
        VerifyError: a graph does not run, gives outputs that are not PyTorch's, or rows that
            depend on their neighbours within a bucket.
    """
    where = f"{device.device} with TF32 {'on' if device.tf32 else 'off'}"
    allowed = bundle.golden_tolerances(info, tf32=device.tf32)
    encoder, decoder = (
        measure_buckets(
            run,
            graph,
            golden[source],
            [Expected(golden[name], allowed[name]) for name in names],
            run_in_batches(run_on_cpu, graph, golden[source], BUCKETS[-1]),
            where=where,
        )
        for run, run_on_cpu, graph, source, names in (
            (on_device.encode, on_cpu.encode, info.encoder, "x", ("mu", "log_var")),
            (on_device.decode, on_cpu.decode, info.decoder, "z", ("x_hat",)),
        )
    )
    measured = model_pb2.DeviceNumerics()
    measured.CopyFrom(device)
    measured.rows = len(golden["x"])
    measured.parity_mu, measured.parity_log_var = encoder.parity
    (measured.parity_x_hat,) = decoder.parity
    measured.within_bucket_difference = max(encoder.within, decoder.within)
    measured.across_buckets_difference = max(encoder.across, decoder.across)
    measured.cpu_difference = max(encoder.from_cpu, decoder.from_cpu)
    return measured


def replace_entries(info: model_pb2.ModelInfo, measured: list[model_pb2.DeviceNumerics]) -> None:
    """Put entries into a manifest, in place of those of the same device and setting of TF32."""
    entries = {(entry.device, entry.tf32): entry for entry in (*info.device_numerics, *measured)}
    ordered = [entries[key] for key in sorted(entries)]
    del info.device_numerics[:]
    info.device_numerics.extend(ordered)
