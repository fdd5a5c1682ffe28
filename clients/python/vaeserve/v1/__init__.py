"""The contract: generated messages and stubs, and the few rules that both sides must apply alike.

Beside the generated modules, four are written by hand: `arrays` (tensors on the wire), `noise`
(the draws that a seed stands for), `bundle` (the folder that export writes and the server reads)
and `archives` (the arrays in it). Client, server and exporter may import this package; it
imports none of them.
"""
