"""Our .proto file of the Open Inference Protocol against the one that tritonclient ships."""

from collections.abc import Iterable

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from support import triton
from vaeserve.inference import grpc_service_pb2


def fields(messages: Iterable[DescriptorProto], prefix: str = "") -> dict[str, tuple[object, ...]]:
    """Every field by its full name: number, type, label, message type and oneof."""
    found: dict[str, tuple[object, ...]] = {}
    for message in messages:
        path = f"{prefix}{message.name}."
        for field in message.field:
            oneof = (
                message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            )
            found[path + field.name] = (
                field.number,
                field.type,
                field.label,
                field.type_name,
                oneof,
            )
        found |= fields(message.nested_type, path)
    return found


def signature(method: MethodDescriptorProto) -> tuple[str, str, str, bool, bool]:
    """Name, messages, and which of them are streams."""
    streams = method.client_streaming, method.server_streaming
    return method.name, method.input_type, method.output_type, *streams


def test_names_and_numbers_are_the_published_ones() -> None:
    with triton.new_pool() as pool:
        files = [
            FileDescriptorProto.FromString(data)
            for data in triton.Triton(pool, "")(triton.published_files)
        ]
    published = fields(message for file in files for message in file.message_type)
    ours = FileDescriptorProto()
    grpc_service_pb2.DESCRIPTOR.CopyToProto(ours)

    assert fields(ours.message_type).items() <= published.items()
    methods = {
        signature(method) for file in files for service in file.service for method in service.method
    }
    assert set(map(signature, ours.service[0].method)) <= methods
    values = {
        value.name: value.number
        for file in files
        for enum in file.enum_type
        for value in enum.value
    }
    for value in ours.enum_type[0].value:
        assert value.number == values[value.name]
