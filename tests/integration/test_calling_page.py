"""docs/calling.md: what it shows is what happens."""

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

from vaeserve import Client
from vaeserve.v1 import vae_service_pb2 as pb, vae_service_pb2_grpc

PROTO = Path(__file__).resolve().parents[2] / "proto"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "calling.md"
REQUESTS = {"Encode": pb.EncodeRequest, "Sample": pb.SampleRequest, "Decode": pb.DecodeRequest}

# Source of Go packages as Debian installs it, and a file of each that the program needs; the last
# came with release 1.4, older ones cannot marshal what protoc-gen-go generates today.
GO_SOURCE = Path("/usr/share/gocode/src")
GO_GRPC = GO_SOURCE / "google.golang.org" / "grpc" / "clientconn.go"
GO_FILES = (
    GO_GRPC,
    GO_SOURCE / "google.golang.org" / "genproto" / "googleapis" / "rpc" / "errdetails",
    GO_SOURCE / "github.com" / "golang" / "protobuf" / "proto" / "wire.go",
)
GO_TOOLS = ("go", "gofmt", "protoc-gen-go", "protoc-gen-go-grpc")
GO_INSTALL = (
    "apt-get install golang-go protoc-gen-go-1-5 protoc-gen-go-grpc golang-google-grpc-dev"
    " golang-google-genproto-dev golang-github-golang-protobuf-1-5-dev"
)

# What grpc-go before 1.63 has instead. The page shows what does not make linters complain today.
GO_BEFORE_NEW_CLIENT = {
    '\t"google.golang.org/grpc/credentials/insecure"\n': "",
    "grpc.WithTransportCredentials(insecure.NewCredentials())": "grpc.WithInsecure()",
    "grpc.NewClient(": "grpc.Dial(",
}


def here(text: str, address: str) -> str:
    """The page's text, for the server and the model of the tests."""
    changes = {"localhost:50051": address, '"mnist"': '"digits"', "28, 28": "8, 8", "28*28": "8*8"}
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
def go_environment(tmp_path: Path) -> dict[str, str]:
    """For a Go that builds within `tmp_path`, a GOPATH, from Debian's packages; fetches nothing."""
    missing = [tool for tool in GO_TOOLS if not shutil.which(tool)]
    missing += [str(file) for file in GO_FILES if not file.exists()]
    if missing:
        pytest.skip(f"there is no {', '.join(missing)}; on Debian: {GO_INSTALL}")
    protoc = tmp_path / "bin" / "protoc"
    protoc.parent.mkdir()
    protoc.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    return os.environ | {
        "PATH": f"{protoc.parent}{os.pathsep}{os.environ['PATH']}",
        "GOPATH": f"{tmp_path}{os.pathsep}{GO_SOURCE.parent}",
        "GO111MODULE": "off",
        "GOFLAGS": "",
    }


@pytest.mark.timeout(400)  # the first build compiles grpc-go, twenty seconds of CPU; Go caches it
def test_go(address: str, client: Client, tmp_path: Path, go_environment: dict[str, str]) -> None:
    section = PAGE.read_text().split("\n## Go\n")[1].split("\n## ")[0]
    (program,) = re.findall(r"```go\n(.*?)```", section, re.DOTALL)
    (generate,) = re.findall(r"^    (proto=.*?)\n\n", section, re.DOTALL | re.MULTILINE)
    shown = re.findall(r"^    (.*)$", section.split("```")[-1], re.MULTILINE)
    if "func NewClient(" not in GO_GRPC.read_text():
        for today, before in GO_BEFORE_NEW_CLIENT.items():
            assert program.count(today) == 1
            program = program.replace(today, before)

    module = tmp_path / "src" / "example.com" / "caller"
    module.mkdir(parents=True)
    (module / "main.go").write_text(here(program, address))

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=module, env=go_environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("gofmt", "-l", ".") == ""
    run("sh", "-euc", generate.replace("../vaeserve/proto", str(PROTO)))
    run("go", "build", "-o", "caller", ".")
    lines = run("./caller").splitlines()

    mu = client.model("digits").encode(np.zeros((1, 1, 8, 8), np.float32)).mu[0, :3]
    name, *printed = re.sub(r"[\[\]]", "", lines[0]).split()
    assert name == "mu"
    np.testing.assert_array_equal(np.array(printed, np.float32), mu)
    assert lines[1:] == [line.replace("28 28", "8 8") for line in shown[1:]]
    assert re.fullmatch(r"mu \[(-?[\d.]+ ?){3}\]", shown[0])


@pytest.fixture
def latent_dim(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        reply = vae_service_pb2_grpc.VaeServiceStub(channel).Sample(
            pb.SampleRequest(model="digits", n=1, outputs=[pb.GENERATE_OUTPUT_LATENTS]), timeout=10
        )
    return int(reply.latents.shape[1])
