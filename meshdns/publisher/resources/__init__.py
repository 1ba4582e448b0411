"""Envoy's resources as protobuf: listeners, clusters, endpoints, the table of names in both encodings.

May import protobuf, and of this room the view, the model and the node. Must never do I/O. Everything is a function
of values, and serialized deterministically: equal input gives equal bytes.
"""
