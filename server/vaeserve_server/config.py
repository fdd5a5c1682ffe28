"""Settings of a server, validated when made."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Transport = Literal["auto", "lane", "standard"]
Placement = Literal["auto", "inline", "thread"]
Execution = Literal["auto", "plain", "bound"]

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest gRPC message, both directions; the SDK sets the same. Advertised in ModelInfo.limits."""


@dataclass(frozen=True)
class Tuning:
    """How ONNX Runtime is to use a CUDA device.

    Attributes:
        tf32: whether float32 products may round their factors to TF32's 10 bits.
        memory_limit_bytes: of the arena of one session; 0 for none.
        cuda_graphs: whether runs are recorded once for each bucket and replayed.
        tensorrt: whether TensorRT runs what it can of a graph, CUDA the rest.
        engine_cache: folder where TensorRT keeps what it builds; None builds at every start.
    """

    tf32: bool = True
    memory_limit_bytes: int = 0
    cuda_graphs: bool = False
    tensorrt: bool = False
    engine_cache: Path | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Options of `vaeserve serve` that made it other than it is by default."""
        given = {
            "--no-tf32": not self.tf32,
            "--gpu-memory-limit-mb": self.memory_limit_bytes > 0,
            "--cuda-graphs": self.cuda_graphs,
            "--tensorrt": self.tensorrt,
        }
        return tuple(option for option, is_given in given.items() if is_given)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What `vaeserve serve` was told.

    Attributes:
        repository: folder of bundles, <model>/<version>/.
        address: HOST:PORT of the gRPC port; port 0 takes a free one.
        metrics_address: HOST:PORT of the Prometheus endpoint; port 0 takes a free one.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `cuda:N,M` for several.
        tf32: on CUDA, whether float32 products may round their factors to TF32's 10 bits.
        gpu_memory_limit_mb: MiB that the arena of one session may take of a CUDA device; 0 for no
            limit.
        cuda_graphs: on CUDA, whether runs are recorded once for each bucket and replayed.
        tensorrt: on CUDA, whether TensorRT runs what it can of a graph.
        engine_cache: folder where TensorRT keeps what it builds; None builds at every start.
        threads: ONNX Runtime threads a graph; 0 measures.
        transport: `auto` is the fast lane where this grpcio is one it knows, else the public API;
            `lane` insists, `standard` is the public API.
        placement: where batches run: `auto` goes by measured run times, `inline` is the lane's
            thread, `thread` the graph's own. Always the latter with `max_delay_ms` and without the
            lane.
        execution: how graphs are run: `plain` feeds them batches as they are; `bound` pads them to
            a bucket between buffers that never move, and keeps latents on the device; `auto` is
            `bound` on CUDA and `plain` on the CPU.
        buckets: row counts that `bound` runs, beside `max_rows`; none for the powers of two.
        deterministic: whether there is one bucket only, so that a row's bits do not depend on how
            many came with it.
        max_rows: most rows of a request and of a batch.
        max_queue_rows: rows that may wait for one graph; beyond it callers are refused.
        max_delay_ms: how long a batch may wait for company while the engine is free; 0 starts at
            once.
        drain_delay_s: seconds that SIGTERM leaves between "not ready" and refusing new calls.
        grace_s: seconds that calls in flight get to finish.
        system_shared_memory: whether callers may have any POSIX shared memory object of this host
            read and written, by its key.
        workers: processes that share the gRPC port; 1 serves in this one. The queue's limit and
            `threads` are each worker's own.
        tls_cert: certificate chain of the gRPC port, PEM; None for plaintext.
        tls_key: its private key.
        tls_client_ca: authority whose certificates callers must show (mTLS); None asks for none.
        token_file: bearer tokens that callers must send, one a line; None asks for none.
    """

    repository: Path
    address: str = "127.0.0.1:50051"
    metrics_address: str = "127.0.0.1:9464"
    device: str = "auto"
    tf32: bool = True
    gpu_memory_limit_mb: int = 0
    cuda_graphs: bool = False
    tensorrt: bool = False
    engine_cache: Path | None = None
    threads: int = 0
    transport: Transport = "auto"
    placement: Placement = "auto"
    execution: Execution = "auto"
    buckets: tuple[int, ...] = ()
    deterministic: bool = False
    max_rows: int = 256
    max_queue_rows: int = 4096
    max_delay_ms: float = 0.0
    drain_delay_s: float = 5.0
    grace_s: float = 20.0
    system_shared_memory: bool = False
    workers: int = 1
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        if self.workers < 1:
            raise ValueError("workers must be at least 1")
        if self.workers > 1 and self.system_shared_memory:
            raise ValueError(
                "--system-shared-memory with --workers: a region is known to one worker only, and "
                "whoever connects again may meet another; leave one of them out"
            )
        if self.max_rows < 1:
            raise ValueError("max_rows must be at least 1")
        if self.max_queue_rows < self.max_rows:
            raise ValueError("max_queue_rows must be at least max_rows, or no full request fits")
        for name in ("threads", "max_delay_ms", "drain_delay_s", "grace_s", "gpu_memory_limit_mb"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number from 0 on")
        for name, choices in (
            ("transport", Transport),
            ("placement", Placement),
            ("execution", Execution),
        ):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        for name in ("address", "metrics_address"):
            split_address(getattr(self, name))
        self._refuse_buckets()
        self._refuse_tuning()

    @property
    def tuning(self) -> Tuning:
        """What was asked of a CUDA device."""
        return Tuning(
            tf32=self.tf32,
            memory_limit_bytes=self.gpu_memory_limit_mb << 20,
            cuda_graphs=self.cuda_graphs,
            tensorrt=self.tensorrt,
            engine_cache=self.engine_cache,
        )

    def _refuse_buckets(self) -> None:
        if any(bucket < 1 for bucket in self.buckets):
            raise ValueError("buckets must be at least 1")
        if self.execution == "plain" and (self.buckets or self.deterministic):
            raise ValueError("buckets and deterministic are of bound execution: leave plain out")
        if self.buckets and self.deterministic:
            raise ValueError("deterministic is one bucket of max_rows: leave buckets out")

    def _refuse_tuning(self) -> None:
        options = self.tuning.options
        if self.device == "cpu" and options:
            raise ValueError(f"{', '.join(options)}: of no use with --device cpu, leave it out")
        if self.engine_cache is not None and not self.tensorrt:
            raise ValueError("--engine-cache: only TensorRT fills it, so give --tensorrt too")
        if self.tensorrt and self.cuda_graphs:
            raise ValueError("--tensorrt with --cuda-graphs: only CUDA's own kernels are recorded")
        if self.tensorrt and not self.tf32:
            raise ValueError(
                "--tensorrt with --no-tf32: ONNX Runtime cannot tell TensorRT to leave TF32 alone; "
                "leave one of them out"
            )

    def row_buckets(self, max_rows: int) -> tuple[int, ...]:
        """Row counts that `bound` runs of a model that takes `max_rows`, ascending."""
        if self.deterministic:
            return (max_rows,)
        sizes = self.buckets or [1 << power for power in range(max_rows.bit_length())]
        return (*sorted({size for size in sizes if size < max_rows}), max_rows)


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT or [IPV6]:PORT into its parts.

    Raises:
        ValueError: no port, or one outside 0..65535.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def with_port(address: str, port: int) -> str:
    """The address with the port it got."""
    host, _ = split_address(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
