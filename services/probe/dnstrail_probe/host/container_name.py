"""The name and the image of a container, as a runtime states them."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,399}", re.ASCII)  # the names that Docker, Podman and Kubernetes accept
_LONGEST_IMAGE = 512  # characters


class ContainerName(NamedTuple):
    """The name of a container and the image that it was made from; "" if unknown."""

    name: str = ""
    image: str = ""


NAMELESS = ContainerName()


def container_name(name: Any, image: Any) -> ContainerName:
    """Return name and image of a container.

    Raises:
        ValueError: the name is none that a runtime accepts, or the image is no printable text of a bounded length.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("no name of a container")
    if not isinstance(image, str) or len(image) > _LONGEST_IMAGE or not image.isprintable():
        raise ValueError("no name of an image")
    return ContainerName(name, image)
