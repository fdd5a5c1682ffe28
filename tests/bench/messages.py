"""Messages of the other dialects, described here instead of generated: a few fields each.

Field numbers are those of the Open Inference Protocol; `bench.Floats` is the baseline's own.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto

_FIELDS = {
    # name: (field, number, type), repeated where the name ends with "*"
    "Floats": [("values*", 1, "float"), ("rows", 2, "uint32"), ("seed", 3, "uint64")],
    "Outputs": [("first*", 1, "float"), ("second*", 2, "float")],
    "InferTensor": [("name", 1, "string"), ("datatype", 2, "string"), ("shape*", 3, "int64")],
    "InferRequest": [
        ("model_name", 1, "string"),
        ("inputs*", 5, ".bench.InferTensor"),
        ("raw_input_contents*", 7, "bytes"),
    ],
    "InferResponse": [
        ("model_name", 1, "string"),
        ("outputs*", 5, ".bench.InferTensor"),
        ("raw_output_contents*", 6, "bytes"),
    ],
}


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")
    for message, fields in _FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            field = described.field.add(name=name.rstrip("*"), number=number)
            field.label = _Field.LABEL_REPEATED if name.endswith("*") else _Field.LABEL_OPTIONAL
            if kind.startswith("."):
                field.type, field.type_name = _Field.TYPE_MESSAGE, kind
            else:
                field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_described())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"bench.{name}"))


# Their fields are known at run time only.
Floats: Any = _class("Floats")
Outputs: Any = _class("Outputs")
InferRequest: Any = _class("InferRequest")
InferResponse: Any = _class("InferResponse")
