"""What `import vaeserve` offers, and what it costs."""

import inspect
import re
import subprocess
import sys
from compileall import compile_dir
from pathlib import Path

import pytest

import vaeserve
from vaeserve import AsyncClient, AsyncModel, Client, Model
from vaeserve.v1 import vae_service_pb2


def test_all_is_complete() -> None:
    public = {
        name
        for name, value in vars(vaeserve).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert set(vaeserve.__all__) == public | {"__version__"}
    assert len(vaeserve.__all__) == len(set(vaeserve.__all__))


def test_twins_have_the_same_methods_and_arguments() -> None:
    for blocking, awaiting in ((Client, AsyncClient), (Model, AsyncModel)):
        names = {name for name in vars(blocking) if not name.startswith("_")} - {"close"}
        assert names == {name for name in vars(awaiting) if not name.startswith("_")} - {"aclose"}
        for name in names - {"info"}:
            ours = inspect.signature(getattr(blocking, name)).parameters.values()
            theirs = inspect.signature(getattr(awaiting, name)).parameters.values()
            # Streams of the asyncio client take asynchronous iterables too.
            assert [(each.name, each.kind, each.default) for each in ours] == [
                (each.name, each.kind, each.default) for each in theirs
            ]


def test_every_rpc_is_a_method() -> None:
    rpcs = vae_service_pb2.DESCRIPTOR.services_by_name["VaeService"].methods
    names = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rpc.name).lower() for rpc in rpcs}
    assert {"encode", "edit", "score", "encode_stream"} < names
    assert names <= {*dir(Model)}
    assert names <= {*dir(AsyncModel)}


def test_import_is_cheap() -> None:
    code = (
        "import sys, vaeserve; heavy = {'click', 'PIL', 'torch', 'onnx', 'onnxruntime', 'hdrh'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def import_seconds(modules: str) -> float:
    """CPU time of a process that only imports, its start included."""
    code = f"import time, {modules}; print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return float(done.stdout)


@pytest.mark.alone
def test_import_takes_under_four_tenths_of_a_second() -> None:
    """Or, where what it cannot do without takes as long by itself, a quarter more than that."""
    # Once installed it is compiled, as they are; here Python may have been told not to.
    assert compile_dir(Path(vaeserve.__file__).parent, quiet=1)
    ours, theirs = [], []
    for _ in range(40):  # one that the machine left in peace
        ours.append(import_seconds("vaeserve"))
        theirs.append(import_seconds("grpc.aio, grpc_status.rpc_status, numpy"))
        if min(ours) < max(0.4, 1.25 * min(theirs)):
            return
    pytest.fail(f"{min(ours)} s, and {min(theirs)} s without anything of ours")


def test_a_stream_takes_what_its_call_takes() -> None:
    for name in ("encode", "decode", "sample"):
        call = inspect.signature(getattr(Model, name)).parameters
        stream = inspect.signature(getattr(Model, f"{name}_stream")).parameters
        assert list(call)[2:] == list(stream)[2:]
