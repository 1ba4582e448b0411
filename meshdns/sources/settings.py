"""What the operator says about a source that is not a control plane. Imports pydantic only."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

MAX_SOCKET_PATH = 107
"""Octets of a unix socket's path on Linux (``sun_path``, less its final zero)."""


def _check_socket_path(path: Path) -> Path:
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise ValueError(
            f"{length} octets long; the path of a unix socket may have {MAX_SOCKET_PATH} (mount it somewhere shorter)"
        )
    return path


class FileSettings(BaseModel):
    """Records in a YAML file, watched for change.

    path: the records file; a mounted ConfigMap's symlinks are followed anew at every look.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    type: Literal["file"]
    path: Path


class KumaDpSettings(BaseModel):
    """The ``/dns`` document of a kuma-dp (2.11 or later) in the same pod.

    socket: kuma-dp's dynamic-configuration socket, ``<its workdir>/kuma-mesh-metric-config.sock``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    type: Literal["kuma-dp"]
    socket: Annotated[Path, AfterValidator(_check_socket_path)]
