"""Asking others: settings, special names, choice of server, exchange over UDP, TCP and TLS, checking, cache, forwarder.

May import asyncio_dgram (``exchange`` only), cachetools (``cache`` only), ``wire`` and ``errors``.
Must never know a store, a zone or a listener, and never ask anybody for, or keep, what is ours: it is told by a
function what that is. Nothing is imported here, so that ``upstream.settings`` can be read without loading the rest.
"""
