"""A trained model to two ONNX graphs: x -> mu, log_var and z -> x_hat."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx
import torch
from torch import Tensor, nn

from vaeserve_export.bundling.graph_checks import all_graphs, check_graph
from vaeserve_export.bundling.pair import Pair
from vaeserve_export.errors import ExportError

OPSET = 20  # read by ONNX Runtime 1.17 and later
BATCH_AXIS = "batch"
ENCODER_INPUT, ENCODER_OUTPUTS = "x", ("mu", "log_var")
DECODER_INPUT, DECODER_OUTPUTS = "z", ("x_hat",)

_EXAMPLE_ROWS = 2  # with one row the exporter may take the batch for a constant


def encoder_graph(pair: Pair) -> bytes:
    """The encoder: x [batch, *input_shape] -> mu, log_var [batch, *latent_shape].

    Raises:
        ExportError: the exporter cannot follow the module, or gave no batch axis.
        VerifyError: the exporter wrote something that must not be published.
    """
    example = torch.zeros(_EXAMPLE_ROWS, *pair.input_shape)
    return _export(pair.encoder, example, "encoder", ENCODER_INPUT, ENCODER_OUTPUTS)


def decoder_graph(pair: Pair) -> bytes:
    """The decoder: z [batch, *latent_shape] -> x_hat [batch, *input_shape].

    Raises:
        ExportError: the exporter cannot follow the module, or gave no batch axis.
        VerifyError: the exporter wrote something that must not be published.
    """
    example = torch.zeros(_EXAMPLE_ROWS, *pair.latent_shape)
    return _export(pair.decoder, example, "decoder", DECODER_INPUT, DECODER_OUTPUTS)


def _export(
    module: nn.Module, example: Tensor, name: str, input_name: str, output_names: Sequence[str]
) -> bytes:
    """Export one module; equal weights give equal bytes, on whatever path the program lies."""
    with _quiet_exporter():
        try:
            program = torch.onnx.export(
                _Net(module),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=list(output_names),
                dynamic_shapes=({0: BATCH_AXIS},),
                verbose=False,
            )
        except Exception as error:  # torch.export has classes of its own, with pages of text
            raise ExportError(
                f"{name}: PyTorch cannot export it: {_cause(error)}; a forward() of tensor "
                "operations, without Python that looks at values or at the batch size, exports"
            ) from error
    if program is None:
        raise ExportError(f"{name}: PyTorch gave no ONNX program")
    model = program.model_proto
    content = plain_bytes(model, name)
    check_graph(content, name, input_name, output_names)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim[0].dim_param != BATCH_AXIS:
            raise ExportError(f"{name}: the first axis of {value.name} is not {BATCH_AXIS}")
    return content


class _Net(nn.Module):
    """Puts "net." before the names of a module's weights, which else could be those of outputs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.training = net.training

    def forward(self, rows: Tensor) -> object:
        return self.net(rows)


def plain_bytes(model: onnx.ModelProto, name: str) -> bytes:
    """The computation and nothing else, always in the same bytes; the model is changed."""
    _strip(model, name)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _cause(error: BaseException) -> str:
    """One line of what was at the bottom of a chain of errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _strip(model: onnx.ModelProto, name: str) -> None:
    """Remove what is no computation: the exporter writes source lines and paths into every node."""
    del model.metadata_props[:]
    model.ClearField("doc_string")
    for graph in all_graphs(model.graph):
        graph.name = name
        del graph.value_info[:], graph.metadata_props[:]
        values = (*graph.input, *graph.output)
        for part in (graph, *graph.node, *graph.initializer, *values):
            part.ClearField("doc_string")
            part.ClearField("metadata_props")


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about itself and not about the model."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    # "torchvision is not installed", four times an export: its operators are not used here.
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch.export copies a tree specification in a way that PyTorch itself deprecates.
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            yield
    finally:
        registration.setLevel(level)
