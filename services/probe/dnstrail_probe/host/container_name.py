"""The name, the image and the labels of a container, as a runtime states them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple

from dnstrail.captured import Labels

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,399}", re.ASCII)  # the names that Docker, Podman and Kubernetes accept
_LONGEST_IMAGE = 512  # characters
#: bytes of the value of a label -> the label is left out: `container_labels_left_out`
LONGEST_LABEL = 256


def owner_key(kind: str) -> str:
    """Return the key of the label for an owner of a pod (OpenTelemetry's semantic conventions: `k8s`)."""
    return f"k8s.{kind.lower()}.name"


# No label of a container, pod or image has these keys: whoever makes it could state any owner.
OWNER_KEYS = frozenset(map(owner_key, ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob")))


class ContainerName(NamedTuple):
    """The name of a container, the image that it was made from, and its selected labels; "" and () if unknown."""

    name: str = ""
    image: str = ""
    labels: Labels = ()


NAMELESS = ContainerName()


class LabelSelection:
    """The keys of the labels that are read, without OWNER_KEYS.

    `left_out` counts the labels that were not read; threads share it.
    """

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        self.keys = tuple(sorted({*keys} - OWNER_KEYS))
        self.left_out = 0
        self._lock = Lock()

    def of(self, stated: Any) -> Labels:
        """Return the selected ones of all labels; of another object than a mapping, none.

        A value that is no printable text of LONGEST_LABEL bytes at most is left out: a part of it could fit a pattern.
        """
        known = stated if isinstance(stated, Mapping) else {}
        found = [(key, known[key]) for key in self.keys if key in known]
        labels = tuple((key, value) for key, value in found if _is_value(value))
        self.leave_out(len(found) - len(labels))
        return labels

    def leave_out(self, count: int) -> None:
        """Count labels that were left out."""
        with self._lock:
            self.left_out += count


NO_LABELS = LabelSelection()


def container_name(name: Any, image: Any, labels: Labels = ()) -> ContainerName:
    """Return name, image and labels of a container.

    Raises:
        ValueError: the name is none that a runtime accepts, or the image is no printable text of a bounded length.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("no name of a container")
    if not isinstance(image, str) or len(image) > _LONGEST_IMAGE or not image.isprintable():
        raise ValueError("no name of an image")
    return ContainerName(name, image, labels)


def _is_value(value: object) -> bool:
    """Return whether a value is kept; printable text contains no half of a pair that UTF-8 cannot hold."""
    return isinstance(value, str) and value.isprintable() and len(value.encode()) <= LONGEST_LABEL
