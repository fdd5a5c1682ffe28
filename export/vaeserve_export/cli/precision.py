"""How commands tell of a bundle's precision."""

from vaeserve.v1 import model_pb2

_NAMES = {model_pb2.PRECISION_FLOAT16: "float16", model_pb2.PRECISION_INT8: "int8"}
_ROWS = {
    "validation": "validation rows",
    "given": "the rows given at its export",
    "own": "decoded samples of its own",
}


def text(info: model_pb2.ModelInfo) -> str:
    """Name of the precision, and what it costs."""
    name = _NAMES.get(info.precision)
    if name is None:
        return "float32"
    rows = _ROWS.get(info.precision_cost_rows, "rows that are not stated")
    return f"{name}; -ELBO {info.precision_cost_nats:+.4f} nats a row, on {rows}"
