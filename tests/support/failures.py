"""What a call that must fail tells its caller."""

from collections.abc import Callable
from typing import cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def failure(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, str | None, str]:
    """Status, ErrorInfo.reason, the field at fault, and the message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    rich = rpc_status.from_call(cast("grpc.Call", raised.value))
    assert rich is not None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert rich.details[0].Unpack(info)
    assert info.domain == "vaeserve"
    field = None
    if len(rich.details) > 1 and rich.details[1].Unpack(bad):
        field = bad.field_violations[0].field
    return raised.value.code(), info.reason, field, rich.message
