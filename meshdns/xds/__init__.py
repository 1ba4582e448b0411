"""Listening to a control plane: session state machines (sans-IO), decoders, node identity, the gRPC client.

May import grpc (``client`` only), protobuf (``decode`` and ``client``), ``inventory`` and ``errors``.
Must never touch the store; tables leave as events of an async iterator. Nothing is imported here, so that
``xds.settings`` can be read without loading gRPC.
"""
