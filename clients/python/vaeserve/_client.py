"""The blocking client. Its twin is `_async_client`; what both share is pure."""

<<<<<<< HEAD
from typing import Self

from vaeserve import _channel
from vaeserve._connection import Connection
from vaeserve._info import ModelState
from vaeserve._model import Model
=======
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Self

import grpc
import numpy as np
import numpy.typing as npt

from vaeserve import _channel, _requests
from vaeserve._connection import Connection, Pending, held
from vaeserve._errors import InvalidInput, NotFound, VersionChanged
from vaeserve._foreign import PictureLike
from vaeserve._info import ModelInfo, ModelState
from vaeserve._latency import BatchTime, asked, with_latency
from vaeserve._plan import Plan, ReplyT, RequestT, ResultT
from vaeserve._results import Array, Generated, Posterior
>>>>>>> sdk
from vaeserve._security import Tls, Token, security
from vaeserve._streams import encode_planner, in_order, results, sample_plans
from vaeserve.v1 import model_service_pb2


class Client:
    """A connection to a vaeserve server, for any number of threads.

    It connects with the first call. Every call has a deadline, and its parts and retries share it.
    A call refused because the queue is full is repeated when the server said to come back, if the
    deadline allows.

    Args:
        target: "host:port", or a gRPC name such as "dns:///vaeserve.example:50051", whose addresses
            are then used in turn.
        timeout: seconds for a call that states none.
        retries: how often a call that finds no server, or one that is loading or stopping, is
            repeated; a full queue is waited for as long as the deadline allows. 0 for neither: to
            see every refusal, as a load test must.
        tls: True for TLS with gRPC's authorities, or `Tls` with certificates of one's own. Without,
            the connection is plaintext.
        token: bearer token sent with each call, or a function that returns one: it is called before
            each, so it should keep its token until that expires. Over plaintext a token is sent to
            this machine only, unless `tls=False` says that the network is trusted.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float = _channel.DEFAULT_TIMEOUT,
        retries: int = _channel.DEFAULT_RETRIES,
        tls: bool | Tls | None = None,
        token: Token | None = None,
    ) -> None:
        self._connection = Connection(target, timeout, retries, security(target, tls, token))

    def models(self, *, timeout: float | None = None) -> list[ModelState]:
        """List every model of the server's repository, served or not, ordered by name."""
        request = model_service_pb2.ListModelsRequest()
        deadline = self._connection.deadline(timeout)
        reply = self._connection.call(self._connection.catalogue.ListModels, request, deadline)
        return [ModelState.from_message(state) for state in reply.models]

    def model(self, name: str, *, version: int | None = None) -> Model:
        """Make a handle for a model's calls; nothing is sent.

        Args:
            name: name of the model.
            version: version to hold on to; None follows the one being served.
        """
        return Model(self._connection, name, version)

    def close(self) -> None:
        """Cancel what is under way and disconnect; may be repeated.

        Calls from now on raise ClientClosed.
        """
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
<<<<<<< HEAD
=======


class Model:
    """A model of the server, by name. Made by `Client.model`; any number of threads may use it.

    Rows go in and come out as numpy arrays. A batch has the shape [rows, *info.input_shape] (or
    latent_shape); one row may be given without the batch axis, and comes back as a batch of one.
    Pictures are uint8 levels, sent as they are, or floats in model values; tensors of PyTorch and
    pictures of Pillow, one or a list, are taken as they are. Calls of any size are
    split to fit the server's limits, without changing a bit of the result; the parts are sent a few
    at a time.

    Every call raises InvalidInput for input that does not fit, and any other VaeserveError when it
    fails.

    Attributes:
        name: name of the model.
        version: the version held on to, or None.
    """

    def __init__(self, connection: Connection, name: str, version: int | None) -> None:
        self.name = name
        self.version = version
        self._connection = connection
        self._fetching = threading.Lock()
        self._info: ModelInfo | None = None

    @property
    def info(self) -> ModelInfo:
        """What the model is: shapes, likelihood, limits.

        Fetched once, and again after the served version changed.
        """
        return self._info_by(self._connection.deadline(None))

    def encode(
        self,
        x: PictureLike,
        *,
        draws: int = 0,
        seed: int | None = None,
        first_row: int = 0,
        timeout: float | None = None,
    ) -> Posterior:
        """Posterior q(z|x) of each row.

        Args:
            x: pictures, [rows, *input_shape].
            draws: draws per row made by the server; `Posterior.sample` makes the same ones here.
            seed: seed of the draws, 0 .. 2^64 - 1; None for a fresh one, returned with the result.
            first_row: absolute number of the first row, below 2^40, to continue an earlier call's
                draws.
            timeout: seconds; None for the client's.
        """
        return self._run(
            self._connection.vae.Encode,
            timeout,
            lambda info: _requests.encode(
                info, self.version or 0, x, draws=draws, seed=seed, first_row=first_row
            ),
        )

    def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        temperature: float = 1.0,
        first_row: int = 0,
        latents: bool = False,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generated:
        """Draw latents from the prior and decode them.

        Args:
            n: number of rows, at least 1.
            seed: 0 .. 2^64 - 1; None for a fresh one, returned with the result.
            temperature: standard deviation of the draws, 0 .. 10.
            first_row: absolute number of the first row, below 2^40: 10 continues a call for n = 10.
            latents: also return what was decoded.
            dtype: float32 for model values, uint8 for levels.
            timeout: seconds; None for the client's.
        """
        return self._run(
            self._connection.vae.Sample,
            timeout,
            lambda info: _requests.sample(
                info,
                self.version or 0,
                n,
                seed=seed,
                temperature=temperature,
                first_row=first_row,
                latents=latents,
                dtype=dtype,
            ),
        )

    def decode(
        self,
        z: npt.ArrayLike,
        *,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Array:
        """Mean of p(x|z) of each latent row.

        Args:
            z: [rows, *latent_shape]; `Latents` of another model are refused.
            dtype: float32 for model values, uint8 for levels.
            timeout: seconds; None for the client's.

        Returns:
            [rows, *input_shape].
        """
        return self._run(
            self._connection.vae.Decode,
            timeout,
            lambda info: _requests.decode(info, self.version or 0, z, dtype=dtype),
        )

    def reconstruct(
        self,
        x: PictureLike,
        *,
        draw: bool = False,
        seed: int | None = None,
        first_row: int = 0,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Array:
        """Encode and decode in one call.

        Args:
            x: pictures, [rows, *input_shape].
            draw: decode a draw from the posterior of each row instead of its mean.
            seed: seed of the draws, 0 .. 2^64 - 1; None for a fresh one.
            first_row: as for `encode`.
            dtype: float32 for model values, uint8 for levels.
            timeout: seconds; None for the client's.

        Returns:
            [rows, *input_shape].
        """
        return self._run(
            self._connection.vae.Reconstruct,
            timeout,
            lambda info: _requests.reconstruct(
                info, self.version or 0, x, draw=draw, seed=seed, first_row=first_row, dtype=dtype
            ),
        )

    def interpolate(
        self,
        start: PictureLike,
        end: PictureLike,
        *,
        steps: int = 8,
        path: str = "lerp",
        latents: bool = False,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generated:
        """Decode a path through latent space between each pair of rows.

        Args:
            start: first ends: pictures, or `Latents`.
            end: last ends, of the same kind and shape.
            steps: points on each path, both ends included, at least 2.
            path: "lerp" for a straight line; "slerp" for a great circle, which keeps the norms of a
                prior's draws.
            latents: also return the points.
            dtype: float32 for model values, uint8 for levels.
            timeout: seconds; None for the client's.

        Returns:
            Pictures [pairs, steps, *input_shape], or [steps, *input_shape] for one pair without a
            batch axis.
        """
        return self._run(
            self._connection.vae.Interpolate,
            timeout,
            lambda info: _requests.interpolate(
                info,
                self.version or 0,
                start,
                end,
                steps=steps,
                path=path,
                latents=latents,
                dtype=dtype,
            ),
        )

    def encode_stream(
        self,
        batches: Iterable[PictureLike],
        *,
        draws: int = 0,
        seed: int | None = None,
        first_row: int = 0,
        timeout: float | None = None,
    ) -> Generator[Posterior, None, None]:
        """Encode more rows than fit into memory, batch by batch.

        Batches are taken from the iterable as there is room: a few are under way at a time, and
        their results come in order. To end early, close the iterator or leave it behind.

        Args:
            batches: pictures, each as for `encode`; 256 rows or more travel best.
            draws: as for `encode`.
            seed: as for `encode`; one for all batches, whose rows are numbered through.
            first_row: as for `encode`, of the first batch.
            timeout: seconds for each batch.

        Yields:
            a posterior for each batch.

        Raises:
            VersionChanged: the served version changed meanwhile.
        """
        return self._stream(
            self._connection.vae.Encode,
            timeout,
            lambda info: map(
                encode_planner(
                    info, self.version or 0, draws=draws, seed=seed, first_row=first_row
                ),
                batches,
            ),
        )

    def decode_stream(
        self,
        batches: Iterable[npt.ArrayLike],
        *,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generator[Array, None, None]:
        """Decode more rows than fit into memory, as `encode_stream`.

        Args:
            batches: latents, each as for `decode`.
            dtype: as for `decode`.
            timeout: seconds for each batch.

        Yields:
            pictures of each batch.
        """
        return self._stream(
            self._connection.vae.Decode,
            timeout,
            lambda info: (
                _requests.decode(info, self.version or 0, z, dtype=dtype) for z in batches
            ),
        )

    def sample_stream(
        self,
        n: int,
        *,
        seed: int | None = None,
        temperature: float = 1.0,
        first_row: int = 0,
        latents: bool = False,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generator[Generated, None, None]:
        """Draw more rows than fit into memory: the rows of `sample(n)`, some at a time.

        Args:
            n: number of rows in all.
            seed: as for `sample`.
            temperature: as for `sample`.
            first_row: as for `sample`.
            latents: as for `sample`.
            dtype: as for `sample`.
            timeout: seconds for each request.

        Yields:
            as many rows as the server gives at once, in order.
        """
        return self._stream(
            self._connection.vae.Sample,
            timeout,
            lambda info: sample_plans(
                info,
                self.version or 0,
                n,
                seed=seed,
                first_row=first_row,
                temperature=temperature,
                latents=latents,
                dtype=dtype,
            ),
        )

    def __repr__(self) -> str:
        pinned = "" if self.version is None else f", version={self.version}"
        return f"<Model {self.name!r}{pinned} at {self._connection.target}>"

    def _info_by(self, deadline: float) -> ModelInfo:
        if (known := self._info) is not None:
            return known
        with held(self._fetching, deadline):
            if self._info is None:
                request = _requests.get_model(self.name, self.version)
                method = self._connection.catalogue.GetModel
                reply = self._connection.call(method, request, deadline)
                self._info = ModelInfo.from_message(reply.model)
            return self._info

    def _run(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        timeout: float | None,
        plan_for: Callable[[ModelInfo], Plan[RequestT, ReplyT, ResultT]],
    ) -> ResultT:
        """Carry out a call, a few parts at a time."""
        deadline = self._connection.deadline(timeout)
        info = self._info_by(deadline)
        began, batches = time.monotonic(), asked()
        try:
            plan = plan_for(info)
            replies = self._send_all(method, plan, deadline, batches)
        except (InvalidInput, NotFound):
            self._info = None  # perhaps another version is served by now: look again next time
            raise
        if replies[-1].version != info.version:
            self._info = None
        result = plan.join(replies)
        return result if batches is None else with_latency(result, began, batches)

    def _send_all(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        plan: Plan[RequestT, ReplyT, ResultT],
        deadline: float,
        batches: list[BatchTime] | None,
    ) -> Sequence[ReplyT]:
        """Send the parts; the first failure ends those still under way."""
        if len(plan.parts) == 1:
            return [self._connection.call(method, plan.build(plan.parts[0]), deadline, batches)]

        def begin(part: range) -> Pending[ReplyT]:
            return self._connection.begin(method, plan.build(part), deadline, batches)

        return list(in_order(begin, plan.parts))

    def _stream(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        timeout: float | None,
        plans_for: Callable[[ModelInfo], Iterable[Plan[RequestT, ReplyT, ResultT]]],
    ) -> Generator[ResultT, None, None]:
        """Results of plan after plan; each request has a deadline of its own."""
        info = self._info_by(self._connection.deadline(timeout))

        def begin(request: RequestT) -> Pending[ReplyT]:
            return self._connection.begin(method, request, self._connection.deadline(timeout))

        try:
            yield from results(plans_for(info), begin)
        except (InvalidInput, NotFound, VersionChanged):
            self._info = None
            raise
>>>>>>> sdk
