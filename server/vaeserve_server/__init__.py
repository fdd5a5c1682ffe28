"""The gRPC service: reads bundles, runs them on ONNX Runtime in batches, answers.

Needs the [server] or [gpu] extra. Imports neither torch nor onnx, and of the client only the
contract `vaeserve.v1`. docs/architecture.md follows a request through these modules.
"""
