"""argv → one call: a file a verb.

May import everything. Must never do work that another room could do, and loads a verb's imports only for that verb:
a verb's file has ``add_arguments(parser)`` and ``run(arguments) -> exit code``, and is imported only when asked for.
"""
