"""Baseline (c): a minimal thread-pool server with `repeated float` messages and no batching."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

from bench import arguments, messages
from bench.cases import Floats, make_session

_THREADS = 16


def main() -> None:
    options = arguments.baseline()
    sessions = {
        graph: make_session(options.folder / f"{graph}.onnx", options.threads)
        for graph in ("encoder", "decoder")
    }

    def run(graph: str, rows: Floats) -> Any:
        entry = sessions[graph].get_inputs()[0]
        batch = rows.reshape(-1, *entry.shape[1:])
        outputs = sessions[graph].run(None, {entry.name: batch})
        fields = zip(("first", "second"), outputs, strict=False)
        return messages.Outputs(**{name: output.ravel().tolist() for name, output in fields})

    def encode(request: Any, _: grpc.ServicerContext) -> Any:
        return run("encoder", np.array(request.values, np.float32))

    def decode(request: Any, _: grpc.ServicerContext) -> Any:
        return run("decoder", np.array(request.values, np.float32))

    def sample(request: Any, _: grpc.ServicerContext) -> Any:
        rng = np.random.default_rng(request.seed)
        return run("decoder", rng.standard_normal((request.rows, options.latent), np.float32))

    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            handler, messages.Floats.FromString, messages.Outputs.SerializeToString
        )
        for name, handler in (("Encode", encode), ("Decode", decode), ("Sample", sample))
    }
    server = grpc.server(
        ThreadPoolExecutor(_THREADS), options=[("grpc.max_receive_message_length", -1)]
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Pool", handlers),))
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
