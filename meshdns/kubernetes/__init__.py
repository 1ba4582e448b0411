"""Writing for Kubernetes and for other resolvers: ExternalName Services, their linting, stanzas, manifests.

May import ``store``, ``zone``, ``inventory``, ``errors`` and PyYAML. Text and values in, text and values out.
Must never talk to a cluster, and never write a port that no listener has.
"""
