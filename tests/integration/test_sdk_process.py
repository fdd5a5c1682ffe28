"""The SDK among threads, at the interpreter's exit, and after a fork."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vaeserve import Client

ENDS_WITHIN_S = 30

BLOCKING = """
    import sys, threading
    from vaeserve import Client
    client = Client(sys.argv[1])
    digits = client.model("digits")
    digits.sample(1)
"""

NEVER_CLOSED = {
    "idle": BLOCKING,
    "a stream half read": f"""{BLOCKING}
    stream = digits.sample_stream(100_000)
    next(stream)
""",
    "a daemon thread amid calls": f"""{BLOCKING}
    began = threading.Event()
    def work():
        while True:
            digits.sample(64)
            began.set()
    threading.Thread(target=work, daemon=True).start()
    began.wait()
""",
    "asyncio amid a call": """
    import asyncio, sys
    from vaeserve import AsyncClient
    async def main():
        global client, call
        client = AsyncClient(sys.argv[1])
        await client.model("digits").sample(1)
        call = asyncio.ensure_future(client.model("digits").sample(100_000))
        await asyncio.sleep(0)
    asyncio.run(main())
""",
}

FORKED = f"""{BLOCKING}
    import os
    from vaeserve import ClientClosed
    stream = digits.sample_stream(100_000)
    next(stream)
    child = os.fork()
    if child == 0:
        for call in (lambda: digits.sample(1), client.models, lambda: list(stream)):
            try:
                call()
            except ClientClosed as error:
                assert "made before this process was forked" in str(error), error
            else:
                sys.exit("it was not refused")
        client.close()
        os._exit(0)  # as forked workers end; gRPC's own destructors may crash here
    assert os.waitpid(child, 0)[1] == 0
    stream.close()
    digits.sample(1)
    client.close()
"""


def run(code: str, address: str) -> subprocess.CompletedProcess[str]:
    # Later Pythons warn of any fork beside threads, and that is what is tested.
    command = [sys.executable, "-W", "error", "-W", "ignore:This process", "-c"]
    return subprocess.run(
        [*command, textwrap.dedent(code), address],
        env=os.environ | {"GRPC_VERBOSITY": "NONE"},  # gRPC says at times that it skips a fork
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


@pytest.mark.parametrize("name", NEVER_CLOSED)
def test_an_interpreter_ends_quietly_with_a_client_open(address: str, name: str) -> None:
    done = run(NEVER_CLOSED[name], address)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_is_told_and_the_parent_goes_on(address: str) -> None:
    done = run(FORKED, address)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_client_serves_many_threads(client: Client) -> None:
    digits = client.model("digits")  # its first call is made by all of them at once
    whole = client.model("digits").sample(64, seed=3)

    def work(number: int) -> None:
        for first in range(number, 64, 8):
            drawn = digits.sample(1, seed=3, first_row=first, latents=True)
            np.testing.assert_array_equal(drawn[0], whole[first])
            assert drawn.latents is not None
            np.testing.assert_array_equal(digits.decode(drawn.latents)[0], whole[first])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
