"""The blocking client. Its twin is `_async_client`; what both share is pure."""

from typing import Self

from vaeserve import _channel
from vaeserve._connection import Connection
from vaeserve._info import ModelState
from vaeserve._model import Model
from vaeserve._security import Tls, Token, security
from vaeserve.v1 import model_service_pb2


class Client:
    """A connection to a vaeserve server, for any number of threads.

    It connects with the first call. Every call has a deadline, and its parts and retries share it.
    A call refused because the queue is full is repeated when the server said to come back, if the
    deadline allows.

    Args:
        target: "host:port", or a gRPC name such as "dns:///vaeserve.example:50051", whose addresses
            are then used in turn, or "unix:/run/vaeserve.sock".
        timeout: seconds for a call that states none; float("inf") for no limit.
        retries: how often a call that finds no server, or one that is loading or stopping, is
            repeated, 0 .. 4; a full queue is waited for as long as the deadline allows. 0 for
            neither: to see every refusal, as a load test must.
        tls: True for TLS with gRPC's authorities, or `Tls` with certificates of one's own. Without,
            the connection is plaintext.
        token: bearer token sent with each call, or a function that returns one: it is called before
            each, so it should keep its token until that expires. Over plaintext a token is sent to
            this machine only, unless `tls=False` says that the network is trusted.

    Raises:
        InvalidInput: a target without a port, a timeout or number of retries that means nothing, a
            certificate that cannot be read, or a token that cannot be sent or would be overheard.
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
