"""The bare echo: the lane itself, answering without reading the request; no model, no batch."""

import argparse
import threading

from google.protobuf.message import Message

from vaeserve.v1.vae_service_pb2 import EncodeRequest
from vaeserve_server.call import Call, Reply
from vaeserve_server.health import Health
from vaeserve_server.methods import BIDI_STREAM, Method
from vaeserve_server.metrics import Metrics
from vaeserve_server.transport import Transport
from vaeserve_server.turn import Turn

SERVICE = "bench.Echo"


class _Echo(Method):
    def answer(self, request: bytes | Message, call: Call, reply: Reply) -> None:
        reply(self.handler(request))  # type: ignore[arg-type]  # ours gives bytes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--reply-bytes", type=int)
    options = parser.parse_args()
    answer = bytes(options.reply_bytes)
    methods: list[Method] = [
        _Echo(f"/{SERVICE}/Unary", EncodeRequest, lambda _: answer),
        _Echo(f"/{SERVICE}/Stream", EncodeRequest, lambda _: answer, BIDI_STREAM),
    ]
    transport = Transport(
        methods,
        Metrics(),
        Turn(),
        Health(),
        choice="lane",
        reuse_port=False,
        on_death=lambda: None,
    )
    transport.start(f"127.0.0.1:{options.port}")
    threading.Event().wait()


if __name__ == "__main__":
    main()
