"""The whole path on real input in one command: train, export, verify, serve, call, load-test, draw.

A user like any other: it runs `vaeserve` sub-commands as processes and calls the server through the
public SDK.
"""
