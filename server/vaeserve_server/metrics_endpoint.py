"""The /metrics endpoint of a process."""

from http.server import HTTPServer

from prometheus_client import CollectorRegistry, start_http_server

from vaeserve_server.config import split_address
from vaeserve_server.errors import StartupError


def listen(address: str, registry: CollectorRegistry) -> tuple[HTTPServer, int]:
    """Serve a registry.

    Args:
        address: HOST:PORT; port 0 takes a free one.
        registry: read at each scrape, on a thread of its own.

    Returns:
        the endpoint, to be shut down, and the port it got.

    Raises:
        StartupError: the address is taken or not ours.
    """
    host, port = split_address(address)
    try:
        endpoint, _ = start_http_server(port, host, registry=registry)
    except OSError as error:
        raise StartupError(f"cannot listen on {address}: {error.strerror}") from error
    return endpoint, int(endpoint.server_address[1])
