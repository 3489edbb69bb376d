"""The engine: what a hook is, when it is due, and what became of it.

Nothing in this package speaks gRPC, protobuf, HTTP or to a terminal; those are in ``server``.
"""
