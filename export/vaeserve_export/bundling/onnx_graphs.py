"""A trained model to two ONNX graphs: x -> mu, log_var and z -> x_hat."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx
import torch
from torch import Tensor, nn

from vaeserve_export.bundling.graph_checks import all_graphs, check_graph
from vaeserve_export.errors import ExportError
from vaeserve_export.vae.model import Vae

OPSET = 20  # read by ONNX Runtime 1.17 and later
BATCH_AXIS = "batch"
ENCODER_INPUT, ENCODER_OUTPUTS = "x", ("mu", "log_var")
DECODER_INPUT, DECODER_OUTPUTS = "z", ("x_hat",)

_EXAMPLE_ROWS = 2  # with one row the exporter may take the batch for a constant


def encoder_graph(vae: Vae) -> bytes:
    """The encoder: x [batch, *input_shape] -> mu, log_var [batch, latent_dim].

    Raises:
        ExportError: the exporter gave no program, or one without a batch axis.
        VerifyError: the exporter wrote something that must not be published.
    """
    example = torch.zeros(_EXAMPLE_ROWS, *vae.config.input_shape)
    return _export(vae.encoder, example, "encoder", ENCODER_INPUT, ENCODER_OUTPUTS)


def decoder_graph(vae: Vae) -> bytes:
    """The decoder: z [batch, latent_dim] -> x_hat [batch, *input_shape].

    Raises:
        ExportError: the exporter gave no program, or one without a batch axis.
        VerifyError: the exporter wrote something that must not be published.
    """
    example = torch.zeros(_EXAMPLE_ROWS, vae.config.latent_dim)
    return _export(vae.decoder, example, "decoder", DECODER_INPUT, DECODER_OUTPUTS)


def _export(
    module: nn.Module, example: Tensor, name: str, input_name: str, output_names: Sequence[str]
) -> bytes:
    """Export one module; equal weights give equal bytes, on whatever path the program lies."""
    with _quiet_exporter():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_shapes=({0: BATCH_AXIS},),
            verbose=False,
        )
    if program is None:
        raise ExportError(f"{name}: PyTorch gave no ONNX program")
    model = program.model_proto
    _strip(model, name)
    content: bytes = model.SerializeToString(deterministic=True)
    check_graph(content, name, input_name, output_names)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim[0].dim_param != BATCH_AXIS:
            raise ExportError(f"{name}: the first axis of {value.name} is not {BATCH_AXIS}")
    return content


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
