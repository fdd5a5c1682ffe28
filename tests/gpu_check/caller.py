"""A closed loop of unary calls, as a process: each thread sends its next request on the answer.

Prints JSON: calls of each message, seconds, latencies in ms. An error ends it with a traceback.
"""

import argparse
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

_ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_TIMEOUT_S = 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("path", help="/package.Service/Method")
    parser.add_argument("messages", type=Path, nargs="+", help="Requests, drawn at random.")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--warm", type=float, help="Seconds that are not counted.")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    messages = [file.read_bytes() for file in options.messages]
    begin = time.perf_counter() + options.warm
    end = begin + options.seconds
    calls, latencies = [0] * len(messages), list[float]()
    with grpc.insecure_channel(options.address, _ANY_SIZE) as channel:
        method: Any = channel.unary_unary(options.path)

        def loop(number: int) -> None:
            rng = random.Random(options.seed * 1000 + number)  # noqa: S311  no secret
            while (began := time.perf_counter()) < end:
                chosen = rng.randrange(len(messages))
                method(messages[chosen], timeout=_TIMEOUT_S, wait_for_ready=True)
                ended = time.perf_counter()
                if begin <= ended < end:
                    calls[chosen] += 1
                    latencies.append((ended - began) * 1e3)

        with ThreadPoolExecutor(options.threads) as pool:
            list(pool.map(loop, range(options.threads)))
    report = {"calls": calls, "seconds": options.seconds, "ms": latencies}
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
