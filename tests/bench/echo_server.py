"""The bare echo: the least that a gRPC server here can take to answer, without a model.

A plain grpc.server. Another transport's echo takes its place by answering bench.Echo/Unary here.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "bench.Echo"
_THREADS = 16


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--reply-bytes", type=int)
    options = parser.parse_args()
    answer = bytes(options.reply_bytes)

    def unary(_: bytes, __: grpc.ServicerContext) -> bytes:
        return answer

    def stream(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        return (answer for _ in requests)

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
