"""The engines of one model: on the CPU, or bound to one or several devices."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from vaeserve.v1 import model_pb2
from vaeserve_server.bound_engine import BoundSlot, LoadedGraph, Place
from vaeserve_server.call import Outputs
from vaeserve_server.chain import ChainSlot
from vaeserve_server.config import ServerConfig
from vaeserve_server.cpus import cpu_share
from vaeserve_server.cuda_memory import CudaMemory
from vaeserve_server.device_ends import Outlet, Posterior
from vaeserve_server.device_graphs import DeviceGraphs
from vaeserve_server.device_turn import DeviceTurn
from vaeserve_server.devices import Device
from vaeserve_server.engine import Slot
from vaeserve_server.errors import StartupError
from vaeserve_server.memory import HostMemory
from vaeserve_server.models import levels_of, takes_unit_interval
from vaeserve_server.onnx_engine import OnnxEngine
from vaeserve_server.packing import Buffers, Packer

_log = logging.getLogger(__name__)

# One packs, and on devices copies, while the other computes.
_SLOTS = 2


class Engines(NamedTuple):
    """What runs a model.

    Attributes:
        encoder: one slot or more.
        decoder: likewise.
        chain: slots of both graphs in one go; none on a CPU.
        threads: ONNX Runtime threads of encoder and decoder.
        on_cuda: whether they run on GPUs.
    """

    encoder: list[Slot]
    decoder: list[Slot]
    chain: list[Slot]
    threads: tuple[int, int]
    on_cuda: bool


class EngineRoom:
    """Makes engines for every model on the devices that were chosen."""

    def __init__(self, config: ServerConfig, devices: Sequence[Device]) -> None:
        """Take the devices.

        Args:
            config: how graphs are run.
            devices: where.

        Raises:
            StartupError: a device cannot be had.
        """
        self._config = config
        self._places: list[Place] = []
        if config.execution == "bound" or (config.execution == "auto" and devices[0].on_cuda):
            try:
                self._places = [self._place(device) for device in devices]
            except StartupError as error:
                if not devices[0].may_fall_back:
                    raise
                _log.warning("CUDA cannot be had, using the CPU", extra={"problem": str(error)})
        if config.buckets and not self._places:
            _log.warning("--buckets is ignored: nothing is padded on the CPU")

    def engines(
        self,
        info: model_pb2.ModelInfo,
        files: Mapping[str, bytes],
        encoded: Callable[[Outputs], None],
    ) -> Engines:
        """Make the engines of a model.

        Args:
            info: its manifest with the server's limits.
            files: its graphs by name.
            encoded: told the posteriors that a chain computes.

        Raises:
            StartupError: a graph does not fit its manifest, or did not get the device.
        """
        if not self._places:
            return self._cpu_engines(info, files)
        if self._places[0].device.on_cuda and info.precision == model_pb2.PRECISION_INT8:
            raise StartupError(
                "int8 graphs are for CPUs: CUDA has no kernels for their int32 biases; serve them "
                "with --device cpu, or export float32 or fp16"
            )
        return self._bound_engines(info, files, encoded)

    def _cpu_engines(self, info: model_pb2.ModelInfo, files: Mapping[str, bytes]) -> Engines:
        cpus, max_rows = cpu_share(self._config.workers), info.limits.max_rows
        encoder, decoder = (
            OnnxEngine(
                files[graph.file],
                graph,
                threads=self._config.threads,
                cpus=cpus,
                preprocessing=decoded,
            )
            for graph, decoded in ((info.encoder, None), (info.decoder, _preprocessing(info)))
        )
        _check_rows(info, encoder, decoder)
        return Engines(
            [Slot(encoder, _input_packer(encoder.buffers(max_rows), info)) for _ in range(_SLOTS)],
            [
                Slot(decoder, Packer(decoder.buffers(max_rows), field="latents"))
                for _ in range(_SLOTS)
            ],
            [],
            (encoder.threads, decoder.threads),
            on_cuda=False,
        )

    def _bound_engines(
        self,
        info: model_pb2.ModelInfo,
        files: Mapping[str, bytes],
        encoded: Callable[[Outputs], None],
    ) -> Engines:
        levels = levels_of(info)
        latent_shape, input_shape = tuple(info.latent_shape), tuple(info.input_shape)
        buckets = self._config.row_buckets(info.limits.max_rows)
        threads = self._config.threads or 1
        on_cuda = self._places[0].device.on_cuda
        engines = Engines([], [], [], (threads, threads), on_cuda)
        for number, place in enumerate(self._places):
            encoder, decoder = (
                LoadedGraph(
                    files[graph.file],
                    graph,
                    place,
                    buckets=buckets,
                    threads=threads,
                )
                for graph in (info.encoder, info.decoder)
            )
            _check_rows(info, encoder, decoder)
            for _ in range(_SLOTS):
                posterior = Posterior(place.memory, buckets[-1], latent_shape)
                pictures = Outlet(
                    place.memory, place.graphs, buckets[-1], input_shape, _preprocessing(info)
                )
                encodes = BoundSlot(encoder, posterior, levels)
                decodes = BoundSlot(decoder, pictures)
                chain = ChainSlot(
                    encoder,
                    decoder,
                    info,
                    levels=levels,
                    unit_interval=takes_unit_interval(info),
                    encoded=encoded,
                )
                engines.encoder.append(Slot(encodes, _input_packer(encodes.buffers, info), number))
                engines.decoder.append(
                    Slot(decodes, Packer(decodes.buffers, field="latents"), number)
                )
                engines.chain.append(Slot(chain, chain, number))
        return engines

    def _place(self, device: Device) -> Place:
        memory = CudaMemory(device.index) if device.on_cuda else HostMemory()
        graphs = DeviceGraphs(device)
        graphs.levels  # noqa: B018  a session: whether the device can be had is known before models
        turn = DeviceTurn(own_thread=self._config.tuning.cuda_graphs)
        return Place(device, memory, self._config.tuning, graphs, turn)


def _input_packer(buffers: Buffers, info: model_pb2.ModelInfo) -> Packer:
    return Packer(
        buffers,
        field="input",
        unit_interval=takes_unit_interval(info),
        levels=levels_of(info),
    )


def _preprocessing(info: model_pb2.ModelInfo) -> model_pb2.Preprocessing | None:
    """Scale and offset of a model's pictures; None if its rows are none."""
    return info.preprocessing if info.HasField("preprocessing") else None


class _Rows(Protocol):
    """What a graph takes."""

    row_shape: tuple[int, ...]


def _check_rows(info: model_pb2.ModelInfo, encoder: _Rows, decoder: _Rows) -> None:
    for graph, shape in ((encoder, info.input_shape), (decoder, info.latent_shape)):
        if graph.row_shape != tuple(shape):
            raise StartupError(
                f"a graph takes rows {graph.row_shape}, its manifest says {tuple(shape)}"
            )
