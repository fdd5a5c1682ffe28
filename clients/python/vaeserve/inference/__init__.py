"""Generated code of the Open Inference Protocol, for the server.

Nothing of the SDK imports it: one process cannot hold it beside the generated code of another
client of the protocol, such as tritonclient's, for both define the same protobuf names.
"""
