"""meshdns resolves service-mesh names to virtual IPs that a control plane pushes.

Two streets meet in one store: the push street (``xds``, ``sources``) writes it, the query street
(``transport``, ``resolver``) reads it. ``docs/how-it-works.md`` walks both. Nothing is imported here, so that
each process loads only what it uses.
"""

__version__ = "0.1.0"
