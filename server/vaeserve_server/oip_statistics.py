"""What models of the Open Inference Protocol have done, in the protocol's terms.

An encoder's and a decoder's figures are those of the graph, whoever called it and through whichever
service; so they fit together under any mix of calls.
"""

from collections.abc import Mapping

from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve_server.oip_models import InferCount, OipModel, Part
from vaeserve_server.statistics import GraphCount, GraphStatistics

_GRAPHS = {Part.ENCODER: "encoder", Part.DECODER: "decoder"}


def statistics_of(
    model: OipModel, graphs: Mapping[tuple[str, str], GraphStatistics]
) -> pb.ModelStatistics:
    """Everything counted of a model.

    Args:
        model: which.
        graphs: of every graph, by VAE and graph.
    """
    stats = pb.ModelStatistics(name=model.name, version=model.version)
    if model.part is Part.WHOLE:
        _add_whole(stats, model.count)
    else:
        _add_graph(stats, graphs[model.vae.info.name, _GRAPHS[model.part]].read())
    stats.inference_stats.fail.count = model.count.failed
    stats.inference_stats.fail.ns = model.count.failed_ns
    return stats


def _add_graph(stats: pb.ModelStatistics, count: GraphCount) -> None:
    stats.last_inference = count.last_ms
    stats.inference_count = count.rows
    stats.execution_count = sum(batch.batches for batch in count.batches.values())
    by_request = stats.inference_stats
    for part, ns in (
        (by_request.success, count.queue_ns + count.run_ns),
        (by_request.queue, count.queue_ns),
        (by_request.compute_input, 0),
        (by_request.compute_infer, count.run_ns),
        (by_request.compute_output, 0),
    ):
        part.count, part.ns = count.requests, ns
    for rows, batch in sorted(count.batches.items()):
        by_size = stats.batch_stats.add(batch_size=rows)
        by_size.compute_infer.count, by_size.compute_infer.ns = batch.batches, batch.run_ns
        by_size.compute_input.count = by_size.compute_output.count = batch.batches


def _add_whole(stats: pb.ModelStatistics, count: InferCount) -> None:
    """A pipeline: its requests; it has no queue and no run but its graphs'."""
    stats.last_inference = count.last_ms
    stats.inference_count = count.rows
    stats.execution_count = count.answered
    by_request = stats.inference_stats
    for part in (
        by_request.success,
        by_request.queue,
        by_request.compute_input,
        by_request.compute_infer,
        by_request.compute_output,
    ):
        part.count = count.answered
    by_request.success.ns = count.answered_ns
