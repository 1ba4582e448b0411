"""Keeps gRPC's C core from writing a line of its own to stderr for every lost connection: ours says it better.

To be imported before grpc, which reads the variable once. An operator's own value stays.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
