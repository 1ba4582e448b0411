"""xDS resources → tables: one module per kind of control plane.

May import the protobuf messages and ``inventory``. Must never do I/O or decide about ACK and NACK.
"""
