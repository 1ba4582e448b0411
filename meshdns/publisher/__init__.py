"""Being a small control plane: Kuma's resources as YAML → VIPs → names, Envoy's listeners, clusters and endpoints.

May import ``inventory``, ``errors``, ``duration``, ``yaml_document``; protobuf only in ``resources``, grpc only in
``server``. Must never touch our own store (its table leaves as events, like any source's) and never end because of
bad input. Nothing is imported here, so that ``publisher.settings`` can be read without loading protobuf.
"""
