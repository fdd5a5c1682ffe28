"""TLS, client certificates and bearer tokens, on both transports, by both clients."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from integration.conftest import TRANSPORTS
from support.certificates import Authority
from support.health import health_of
from support.raw_calls import ENCODE, VAE
from support.raw_http2 import headers, wire_to
from support.servers import running_app, series, server_process
from vaeserve import AccessDenied, AsyncClient, Client, Tls, Unavailable
from vaeserve._cli import main
from vaeserve.v1 import vae_service_pb2 as pb, vae_service_pb2_grpc as pb_grpc
from vaeserve_server.app import App

Token = str | Callable[[], str]

TOKENS = "# two callers\nfirst-token\n\n  second-token\n"


@pytest.fixture(scope="module")
def digits_only(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    shutil.copytree(repository / "digits", folder / "digits")
    return folder


@pytest.fixture(scope="module", params=TRANSPORTS)
def guarded(
    request: pytest.FixtureRequest, digits_only: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[App]:
    """A server that asks for a token."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(TOKENS)
    with running_app(digits_only, transport=request.param, token_file=tokens) as app:
        yield app


def reflection_of(channel: grpc.Channel) -> Any:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub  # it has no types
    return stub(channel).ServerReflectionInfo


def address_of(app: App) -> str:
    return f"127.0.0.1:{app.port}"


@pytest.mark.parametrize("token", ["first-token", "second-token", lambda: "second-token"])
async def test_a_token_of_the_file_passes(guarded: App, token: Token) -> None:
    with Client(address_of(guarded), token=token) as client:
        assert [model.name for model in client.models()] == ["digits"]
        blocking = client.model("digits").sample(2, seed=1)
    async with AsyncClient(address_of(guarded), token=token) as other:
        awaited = await other.model("digits").sample(2, seed=1)
    np.testing.assert_array_equal(blocking, awaited)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (None, "TOKEN_MISSING"),
        ("another-token", "TOKEN_INVALID"),
        ("first-token2", "TOKEN_INVALID"),
        ("#", "TOKEN_INVALID"),
    ],
)
def test_others_are_refused_with_the_reason(guarded: App, token: str | None, reason: str) -> None:
    failed = (
        'grpc_server_handled_total{grpc_code="UNAUTHENTICATED",grpc_method="ListModels",'
        'grpc_service="vaeserve.v1.ModelService",grpc_type="unary"}'
    )
    before = series(guarded).get(failed, 0)
    with Client(address_of(guarded), token=token) as client:
        with pytest.raises(AccessDenied) as caught:
            client.models()
        with pytest.raises(AccessDenied, match=reason):
            client.model("digits").sample(1)
    assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", reason)
    assert series(guarded)[failed] == before + 1


@pytest.mark.parametrize("path", [ENCODE, f"{VAE}/SampleStream"])
def test_strangers_are_refused_before_they_have_sent_a_message(guarded: App, path: str) -> None:
    """Or each could hold a thread of the standard transport for a while."""
    with wire_to(guarded) as wire:
        wire.open().call(1, headers(path=path.encode()))
        assert wire.status(1) == str(grpc.StatusCode.UNAUTHENTICATED.value[0])


def test_streams_and_reflection_are_guarded_and_health_is_not(guarded: App) -> None:
    with grpc.insecure_channel(address_of(guarded)) as channel:
        for answers in (
            pb_grpc.VaeServiceStub(channel).EncodeStream(iter([pb.EncodeRequest(model="digits")])),
            pb_grpc.VaeServiceStub(channel).SampleStream(pb.SampleRequest(model="digits", n=1)),
            reflection_of(channel)(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            ),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                list(answers)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    ready = health_of(address_of(guarded), "models/digits")
    assert ready == health_pb2.HealthCheckResponse.SERVING


def test_the_header_is_read_as_it_is_written(guarded: App) -> None:
    request = pb.SampleRequest(model="digits", n=1, seed=1)
    with grpc.insecure_channel(address_of(guarded)) as channel:
        sample = pb_grpc.VaeServiceStub(channel).Sample
        sample(request, metadata=(("authorization", "bearer first-token"),))
        for header in ("first-token", "Basic first-token", "Bearer", ""):
            with pytest.raises(grpc.RpcError, match=r"asks for a token|not one of"):
                sample(request, metadata=(("authorization", header),))


class Encrypted:
    """A server with a certificate, and what its callers may have."""

    def __init__(self, app: App, authority: Authority, folder: Path) -> None:
        self.address = address_of(app)
        self.ca = authority.cert
        self.cert, self.key = authority.issue("caller")
        self.stranger = Authority(folder, "stranger")


@pytest.fixture(scope="module", params=TRANSPORTS)
def encrypted(
    request: pytest.FixtureRequest, digits_only: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Encrypted]:
    """A server that asks for a certificate and shows one."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "authority")
    cert, key = authority.issue("server")
    options = {"tls_cert": cert, "tls_key": key, "tls_client_ca": authority.cert}
    with running_app(digits_only, transport=request.param, **options) as app:
        yield Encrypted(app, authority, folder)


async def test_both_sides_prove_themselves(encrypted: Encrypted) -> None:
    by_path = Tls(ca=encrypted.ca, cert=str(encrypted.cert), key=encrypted.key)
    by_content = Tls(
        ca=encrypted.ca.read_bytes(),
        cert=encrypted.cert.read_bytes(),
        key=encrypted.key.read_bytes(),
    )
    with Client(encrypted.address, tls=by_path) as client:
        blocking = client.model("digits").sample(2, seed=1)
    async with AsyncClient(encrypted.address, tls=by_content) as other:
        awaited = await other.model("digits").sample(2, seed=1)
    np.testing.assert_array_equal(blocking, awaited)


def test_a_caller_without_proof_is_not_let_in(encrypted: Encrypted) -> None:
    cert, key = encrypted.stranger.issue("someone")
    for tls in (
        None,
        True,
        Tls(ca=encrypted.ca),
        Tls(ca=encrypted.ca, cert=cert, key=key),
        Tls(ca=encrypted.stranger.cert, cert=encrypted.cert, key=encrypted.key),
    ):
        with Client(encrypted.address, tls=tls, retries=0) as client, pytest.raises(Unavailable):
            client.models()


def test_a_new_certificate_is_taken_without_a_restart(digits_only: Path, tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    cert, key = old.issue("server")
    with running_app(digits_only, tls_cert=cert, tls_key=key) as app:
        with Client(address_of(app), tls=Tls(ca=old.cert)) as client:
            client.models()
        for fresh, place in zip(new.issue("renewed"), (cert, key), strict=True):
            fresh.replace(place)
        with Client(address_of(app), tls=Tls(ca=new.cert)) as client:
            client.models()
        with (
            Client(address_of(app), tls=Tls(ca=old.cert), retries=0) as client,
            pytest.raises(Unavailable),
        ):
            client.models()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tls-cert", "server.pem"), "belong together"),
        (("--tls-client-ca", "server.pem"), "needs tls_cert"),
        (("--tls-cert", "missing.pem", "--tls-key", "server.key"), "cannot read"),
        (("--tls-cert", "server.key", "--tls-key", "server.key"), "certificate"),
        (("--token-file", "missing"), "missing"),
        (("--token-file", "empty"), "holds no token"),
    ],
)
def test_what_cannot_protect_does_not_start(
    digits_only: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    Authority(tmp_path, "authority").issue("server")
    (tmp_path / "empty").write_text("# none\n")
    placed = [word if word.startswith("--") else str(tmp_path / word) for word in options]
    with server_process(digits_only, *placed) as server:
        code, err = server.finish()
    assert (code, message in err) == (3, True), err


def test_workers_ask_too(digits_only: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    cert, key = authority.issue("server")
    (tmp_path / "tokens").write_text("only-token")
    options = ("--workers", "2", "--tls-cert", str(cert), "--tls-key", str(key))
    with server_process(digits_only, *options, "--token-file", str(tmp_path / "tokens")) as server:
        address = server.wait_for("ready")["address"]
        with Client(address, tls=Tls(ca=authority.cert), token="only-token") as client:
            assert client.models()
        with Client(address, tls=Tls(ca=authority.cert)) as client, pytest.raises(AccessDenied):
            client.models()


def test_the_command_line_takes_them_by_option_and_by_environment(
    encrypted: Encrypted, guarded: App, tmp_path: Path
) -> None:
    run = CliRunner().invoke
    shown = ["--tls-ca", str(encrypted.ca), "--tls-cert", str(encrypted.cert)]
    done = run(main, ["models", encrypted.address, *shown, "--tls-key", str(encrypted.key)])
    assert done.exit_code == 0, done.output
    assert "digits" in done.output
    (tmp_path / "token").write_text("first-token\n")
    words = ["sample", address_of(guarded), "--model", "digits", "-o", str(tmp_path / "s.npz")]
    done = run(main, words, env={"VAESERVE_CLIENT_TOKEN_FILE": str(tmp_path / "token")})
    assert done.exit_code == 0, done.output
    refused = run(main, words)
    assert (refused.exit_code, "TOKEN_MISSING" in refused.output) == (1, True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_load_tests_send_the_token(guarded: App, tmp_path: Path, workers: str) -> None:
    (tmp_path / "token").write_text("first-token\n")
    common = ("--model", "digits", "--concurrency", "2", "--duration", "200ms", "--warmup", "0")
    command = ["loadtest", address_of(guarded), *common, "--workers", workers]
    result = CliRunner().invoke(main, [*command, "--token-file", str(tmp_path / "token"), "--json"])
    assert result.exit_code == 0, result.output
    (run,) = json.loads(result.stdout)["runs"]
    assert run["failed"] == 0
    assert run["succeeded"] > 0
    assert "first-token" not in result.stdout
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    assert "token" in refused.output
