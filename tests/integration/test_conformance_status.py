"""The same request gets the same answer of either transport, to the last detail."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from support.oip import infer_request
from support.raw_calls import (
    ENCODE,
    MODELS,
    OIP,
    REQUEST,
    ROWS,
    VAE,
    Counts,
    Ending,
    begin,
    begin_open,
    channel_to,
    ending,
    ending_of,
)
from support.raw_http2 import headers, wait_until_read, wire_to
from support.servers import held_engines, running_app, wait_for
from vaeserve.inference import grpc_service_pb2 as oip_pb
from vaeserve.v1 import model_service_pb2, vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve_server.app import App
from vaeserve_server.engine import EngineMemoryError

Z = np.zeros((2, 20), np.float32)
SPOILT = ROWS.copy()
SPOILT[1, 0, 3, 3] = np.nan
Code = grpc.StatusCode


def encode(**changes: object) -> pb.EncodeRequest:
    fields = {"model": "digits", "input": to_tensor(ROWS), **changes}
    return pb.EncodeRequest(**fields)  # type: ignore[arg-type]  # each case names real fields


def edit(**changes: object) -> pb.EditRequest:
    fields = {"model": "digits", "input": to_tensor(ROWS), "amounts": {"smile": 2.0}, **changes}
    return pb.EditRequest(**fields)  # type: ignore[arg-type]  # each case names real fields


def score(**changes: object) -> pb.ScoreRequest:
    fields = {"model": "digits", "input": to_tensor(ROWS), **changes}
    return pb.ScoreRequest(**fields)  # type: ignore[arg-type]  # each case names real fields


EDIT, SCORE, SAMPLE = f"{VAE}/Edit", f"{VAE}/Score", f"{VAE}/Sample"

CASES: dict[str, tuple[str, Message | bytes, Code, str | None]] = {
    "encode": (ENCODE, encode(), Code.OK, None),
    "sample": (f"{VAE}/Sample", pb.SampleRequest(model="rgb", n=3, seed=5), Code.OK, None),
    "decode": (
        f"{VAE}/Decode",
        pb.DecodeRequest(model="digits", latents=to_tensor(Z)),
        Code.OK,
        None,
    ),
    "sample of the fitted prior": (
        SAMPLE,
        pb.SampleRequest(model="digits", n=3, seed=5, prior=pb.PRIOR_FITTED),
        Code.OK,
        None,
    ),
    "sample of a prior that was not fitted": (
        SAMPLE,
        pb.SampleRequest(model="rgb", n=3, seed=5, prior=pb.PRIOR_FITTED),
        Code.FAILED_PRECONDITION,
        "NO_FITTED_PRIOR",
    ),
    "sample of an unknown prior": (
        SAMPLE,
        pb.SampleRequest(model="digits", n=3, prior=9),  # type: ignore[arg-type]
        Code.INVALID_ARGUMENT,
        "INVALID_OPTION",
    ),
    "edit": (EDIT, edit(preserve=["hat"], outputs=[1, 2]), Code.OK, None),
    "edit of latents": (EDIT, edit(input=None, latents=to_tensor(Z)), Code.OK, None),
    "edit of many": (EDIT, edit(input=to_tensor(np.tile(ROWS, (128, 1, 1, 1)))), Code.OK, None),
    "edit of nothing": (EDIT, edit(input=None), Code.INVALID_ARGUMENT, "INVALID_OPTION"),
    "edit of NaN": (EDIT, edit(input=to_tensor(SPOILT)), Code.INVALID_ARGUMENT, "NOT_FINITE"),
    "edit of latents that are NaN": (
        EDIT,
        edit(input=None, latents=to_tensor(Z * np.nan), outputs=[2]),
        Code.INVALID_ARGUMENT,
        "NOT_FINITE",
    ),
    "edit in another latent space": (
        EDIT,
        edit(input=None, latents=to_tensor(Z), latent_space_id="0" * 32),
        Code.FAILED_PRECONDITION,
        "LATENT_SPACE_MISMATCH",
    ),
    "edit by nobody knows what": (
        EDIT,
        edit(amounts={"\N{SNOWMAN}" * 99: 1}),
        Code.NOT_FOUND,
        "ATTRIBUTE_NOT_FOUND",
    ),
    "edit that preserves nobody knows what": (
        EDIT,
        edit(preserve=["age"]),
        Code.NOT_FOUND,
        "ATTRIBUTE_NOT_FOUND",
    ),
    "edit that preserves what it moves": (
        EDIT,
        edit(preserve=["smile"]),
        Code.INVALID_ARGUMENT,
        "INVALID_OPTION",
    ),
    "edit without end": (
        EDIT,
        edit(amounts={"smile": np.inf}),
        Code.INVALID_ARGUMENT,
        "INVALID_OPTION",
    ),
    "edit of a model without attributes": (
        EDIT,
        edit(model="vectors", input=to_tensor(np.zeros((1, 6), np.float32))),
        Code.FAILED_PRECONDITION,
        "NO_ATTRIBUTES",
    ),
    "score": (SCORE, score(), Code.OK, None),
    "score with draws": (SCORE, score(draws=300, seed=5), Code.OK, None),
    "score of NaN": (SCORE, score(input=to_tensor(SPOILT)), Code.INVALID_ARGUMENT, "NOT_FINITE"),
    "score with too many draws": (
        SCORE,
        score(draws=2**31),
        Code.OUT_OF_RANGE,
        "TOO_MANY_ROWS",
    ),
    "score from beyond the last row": (
        SCORE,
        score(draws=1, first_row=2**40),
        Code.INVALID_ARGUMENT,
        "INVALID_OPTION",
    ),
    "list": (f"{MODELS}/ListModels", model_service_pb2.ListModelsRequest(), Code.OK, None),
    "an empty message": (f"{OIP}/ServerLive", b"", Code.OK, None),
    "infer": (f"{OIP}/ModelInfer", infer_request("digits_encoder", ROWS), Code.OK, None),
    "no protobuf": (ENCODE, b"\xff" * 20, Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    "half a message": (ENCODE, REQUEST[:-7], Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    "another shape": (
        ENCODE,
        encode(input=to_tensor(ROWS[:, :, :7])),
        Code.INVALID_ARGUMENT,
        "INVALID_TENSOR",
    ),
    "NaN": (ENCODE, encode(input=to_tensor(SPOILT)), Code.INVALID_ARGUMENT, "NOT_FINITE"),
    "an option": (
        f"{VAE}/Sample",
        pb.SampleRequest(model="digits", n=1, temperature=-1),
        Code.INVALID_ARGUMENT,
        "INVALID_OPTION",
    ),
    "too many rows": (
        f"{VAE}/Sample",
        pb.SampleRequest(model="digits", n=10**6),
        Code.OUT_OF_RANGE,
        "TOO_MANY_ROWS",
    ),
    "no such model": (ENCODE, encode(model="nobody"), Code.NOT_FOUND, "MODEL_NOT_FOUND"),
    "a name beyond ASCII": (
        ENCODE,
        encode(model="\N{SNOWMAN}" * 999),
        Code.NOT_FOUND,
        "MODEL_NOT_FOUND",
    ),
    "no such version": (ENCODE, encode(version=7), Code.NOT_FOUND, "VERSION_NOT_FOUND"),
    "another latent space": (
        f"{VAE}/Decode",
        pb.DecodeRequest(model="digits", latents=to_tensor(Z), latent_space_id="0" * 32),
        Code.FAILED_PRECONDITION,
        "LATENT_SPACE_MISMATCH",
    ),
    "not enabled": (
        f"{OIP}/SystemSharedMemoryRegister",
        oip_pb.SystemSharedMemoryRegisterRequest(name="r", key="/k", byte_size=8),
        Code.UNIMPLEMENTED,
        "NOT_ENABLED",
    ),
    "no such method": (f"{VAE}/Nothing", REQUEST, Code.UNIMPLEMENTED, None),
    "no such service": ("/no.Service/Encode", REQUEST, Code.UNIMPLEMENTED, None),
    "over the limit": (ENCODE, bytes((64 << 20) + 1), Code.RESOURCE_EXHAUSTED, None),
}


def endings(apps: dict[str, App], path: str, data: bytes) -> Iterator[Ending]:
    for app in apps.values():
        with channel_to(app) as channel:
            yield ending(channel, path, data)


@pytest.mark.parametrize("case", CASES)
def test_both_answer_alike(transports: dict[str, App], case: str) -> None:
    path, request, code, reason = CASES[case]
    data = request if isinstance(request, bytes) else request.SerializeToString()
    lane, standard = endings(transports, path, data)
    assert (lane.code, lane.reason) == (code, reason)
    assert lane == standard


def test_what_the_public_api_refuses_by_itself(served: App) -> None:
    """Calls of a unary method that bring no message, or two."""
    counts = Counts(served)
    with channel_to(served) as channel:
        assert ending_of(begin_open(channel, ENCODE, iter(()))).code is Code.UNIMPLEMENTED
        two = ending_of(begin_open(channel, ENCODE, iter((REQUEST, b"\xff"))))
        assert two == ending(channel, ENCODE, REQUEST)
    counts.settle_somehow()
    ended = counts()
    assert ended["OK"] == 2
    assert (ended["started"], ended["UNIMPLEMENTED"]) == (3, 1)


def test_calls_that_never_send_their_message_are_ended(
    repository: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the standard transport each holds one of 512 threads, and on the lane none."""
    monkeypatch.setattr("vaeserve_server.standard.PATIENCE_S", 1.0)
    with running_app(repository, transport=transport) as app, wire_to(app) as half:
        half.open()
        for stream in range(1, 2 * 520, 2):
            half.call(stream, headers(path=f"{MODELS}/ListModels".encode()))
        wait_until_read(half)
        with channel_to(app) as channel:
            assert ending(channel, f"{MODELS}/ListModels", b"", timeout=30).code is Code.OK


@pytest.fixture
def crowded(repository: Path, transport: str) -> Iterator[App]:
    settings = {"placement": "thread", "max_rows": 2, "max_queue_rows": 2}
    with running_app(repository, transport=transport, **settings) as app:
        yield app


def test_refusals_say_when_to_come_back(crowded: App) -> None:
    counts = Counts(crowded)
    with held_engines() as engines, channel_to(crowded) as channel:
        running = begin(channel, ENCODE, REQUEST)
        engines.wait_for_a_run()
        waiting = begin(channel, ENCODE, REQUEST)
        wait_for(crowded, 'vaeserve_queue_rows{graph="encoder",model="digits"}', 2)
        refused = ending(channel, ENCODE, REQUEST)
        engines.release()
        assert running.result() == waiting.result()
    counts.settle(started=3, received=3, sent=2, OK=2, RESOURCE_EXHAUSTED=1)
    assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert refused.trailers == {"grpc-retry-pushback-ms": str(refused.retry_after_ms)}


def test_failures_of_the_engine(patient: App, caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts(patient)
    with held_engines() as engines, channel_to(patient) as channel:
        engines.release()
        engines.failure = EngineMemoryError("2 rows do not fit into memory")
        refused = ending(channel, ENCODE, REQUEST)
        engines.failure = ZeroDivisionError("secret")
        failed = ending(channel, ENCODE, REQUEST)
    assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY")
    assert refused.retry_after_ms == 1000
    assert refused.trailers == {"grpc-retry-pushback-ms": "1000"}
    assert (failed.code, failed.reason, failed.trailers) == (Code.INTERNAL, "INTERNAL", {})
    assert "secret" not in failed.text
    (record,) = (record for record in caplog.records if "error_id" in record.__dict__)
    assert record.__dict__["error_id"] in failed.text
    counts.settle(started=2, received=2, RESOURCE_EXHAUSTED=1, INTERNAL=1)
