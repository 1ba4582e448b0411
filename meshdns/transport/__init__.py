"""Moving bytes: UDP and TCP listeners that hand queries to a function and send what it gives.

May import asyncio_dgram (``udp`` only), ``wire``, ``errors`` and the standard library.
Must never look inside a query beyond its length frame, nor know what answers it.
"""
