"""Who runs: supervisor, responder, sync; the only place where rooms meet.

May import every room below. Must never hold a rule of DNS, xDS or naming: it hands values from room to room.
``responder`` must load neither grpc nor protobuf (a test).
"""
