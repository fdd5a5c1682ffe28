from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from vaeserve_server import errors
from vaeserve_server.status import status_of


def leaves(cls: type[errors.ServiceError]) -> set[type[errors.ServiceError]]:
    below = cls.__subclasses__()
    return {leaf for sub in below for leaf in leaves(sub)} if below else {cls}


def make(cls: type[errors.ServiceError]) -> errors.ServiceError:
    error = cls.__new__(cls)
    errors.ServiceError.__init__(error, "what happened", reason="REASON")
    return error


def details(status: grpc.Status) -> status_pb2.Status:
    trailers = dict(status.trailing_metadata)
    return status_pb2.Status.FromString(trailers["grpc-status-details-bin"])


@pytest.mark.parametrize("cls", sorted(leaves(errors.ServiceError), key=repr))
def test_every_error_has_a_status_that_its_docstring_names(
    cls: type[errors.ServiceError],
) -> None:
    status = status_of(make(cls), "/s/m")
    assert status.code is not grpc.StatusCode.INTERNAL
    assert cls.__doc__ is not None
    assert cls.__doc__.startswith(status.code.name)
    assert details(status).code == status.code.value[0]


def test_reason_field_and_domain_travel() -> None:
    error = errors.InvalidArgument("3 is odd", reason="INVALID_OPTION", field="steps")
    rich = details(status_of(error, "/s/m"))
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert rich.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("INVALID_OPTION", "vaeserve")
    assert rich.details[1].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [("steps", "3 is odd")]


def test_overload_says_when_to_come_back_twice() -> None:
    status = status_of(errors.Overloaded("full", retry_after_s=0.25), "/s/m")
    assert dict(status.trailing_metadata)["grpc-retry-pushback-ms"] == "250"
    retry = error_details_pb2.RetryInfo()
    assert details(status).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 250


def test_the_unforeseen_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    status = status_of(ZeroDivisionError("secret"), "/s/m")
    assert status.code is grpc.StatusCode.INTERNAL
    assert "secret" not in status.details
    assert b"secret" not in dict(status.trailing_metadata)["grpc-status-details-bin"]
    (record,) = caplog.records
    assert record.__dict__["error_id"] in status.details
    assert "secret" in caplog.text


@pytest.mark.parametrize("character", ["x", "\N{CJK UNIFIED IDEOGRAPH-4E2D}", "\N{PILE OF POO}"])
def test_long_messages_are_cut_to_what_trailers_can_carry(character: str) -> None:
    status = status_of(errors.InvalidArgument(character * 9000, reason="R", field="f"), "/s/m")
    details = dict(status.trailing_metadata)["grpc-status-details-bin"]
    assert len(status.details.encode()) <= 1024
    # As they travel: percent-encoded and in base64, 8 KB with the key names at the most.
    assert len(quote(status.details)) + 4 * len(details) / 3 < 6000
