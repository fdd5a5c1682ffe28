"""docs/calling.md: what it shows is what happens."""

import base64
import re
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format

from vaeserve.v1 import vae_service_pb2 as pb, vae_service_pb2_grpc

PAGE = Path(__file__).resolve().parents[2] / "docs" / "calling.md"
REQUESTS = {"Encode": pb.EncodeRequest, "Sample": pb.SampleRequest, "Decode": pb.DecodeRequest}


def here(text: str, address: str) -> str:
    """The page's text, for the server and the model of the tests."""
    changes = {"localhost:50051": address, '"mnist"': '"digits"', "28, 28": "8, 8"}
    for shown, ours in changes.items():
        text = text.replace(shown, ours)
    return text


def test_python(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(here(program, address), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "samples (16, 1, 8, 8)",
        "decoded (1, 1, 8, 8)",
        "NOT_FOUND MODEL_NOT_FOUND",
    ]


@pytest.mark.parametrize("method", REQUESTS)
def test_the_json_of_grpcurl_is_a_request(address: str, method: str, latent_dim: int) -> None:
    page = PAGE.read_text()
    line = next(line for line in page.splitlines() if f"VaeService/{method}" in line)
    body = re.search(r"-d '(\{.*?\})'", line)
    text = body[1] if body else page[page.index(line) :].splitlines()[1].strip()
    text = here(text, address).replace("[1, 50]", f"[1, {latent_dim}]")
    sizes = {"head -c 784": 64, "head -c 200": 4 * latent_dim}
    for shown, size in sizes.items():
        data = base64.b64encode(bytes(size)).decode()
        text = text.replace(f"$({shown} /dev/zero | base64 -w0)", data)
    request = json_format.Parse(text, REQUESTS[method]())
    with grpc.insecure_channel(address) as channel:
        stub = vae_service_pb2_grpc.VaeServiceStub(channel)
        assert getattr(stub, method)(request, timeout=10).version == 1


@pytest.fixture
def latent_dim(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        reply = vae_service_pb2_grpc.VaeServiceStub(channel).Sample(
            pb.SampleRequest(model="digits", n=1, outputs=[pb.GENERATE_OUTPUT_LATENTS]), timeout=10
        )
    return int(reply.latents.shape[1])
