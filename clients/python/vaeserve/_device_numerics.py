"""What was measured of a model on a GPU."""

from dataclasses import dataclass
from typing import Self

from vaeserve.v1 import model_pb2


@dataclass(frozen=True, slots=True)
class DeviceNumerics:
    """How far outputs on a GPU were from PyTorch's, from each other and from the CPU's.

    Differences are the largest of an element, over mu, log_var and x_hat, in batches padded with
    zeros to 1, 2, 4, ..., 64 rows: the buckets.

    Attributes:
        device: its name by its driver, as "NVIDIA H200".
        provider: ONNX Runtime's provider.
        tf32: whether float32 factors were allowed to be rounded to TF32's 10 bits.
        rows: golden rows that were compared.
        parity_mu: of mu from PyTorch's.
        parity_log_var: of log_var.
        parity_x_hat: of x_hat.
        within_bucket_difference: of a row from itself, in one bucket, whatever the rows beside it
            and its place among them; 0 is bit-identical, nothing else passes `vaeserve verify`.
        across_buckets_difference: of a row from itself, between buckets.
        cpu_difference: of a row from what the CPU provider made of it.
        onnxruntime_version: that it was measured with.
    """

    device: str
    provider: str
    tf32: bool
    rows: int
    parity_mu: float
    parity_log_var: float
    parity_x_hat: float
    within_bucket_difference: float
    across_buckets_difference: float
    cpu_difference: float
    onnxruntime_version: str

    @classmethod
    def from_message(cls, numerics: model_pb2.DeviceNumerics) -> Self:
        """Read one entry of the manifest."""
        return cls(
            device=numerics.device,
            provider=numerics.provider,
            tf32=numerics.tf32,
            rows=numerics.rows,
            parity_mu=numerics.parity_mu,
            parity_log_var=numerics.parity_log_var,
            parity_x_hat=numerics.parity_x_hat,
            within_bucket_difference=numerics.within_bucket_difference,
            across_buckets_difference=numerics.across_buckets_difference,
            cpu_difference=numerics.cpu_difference,
            onnxruntime_version=numerics.onnxruntime_version,
        )
