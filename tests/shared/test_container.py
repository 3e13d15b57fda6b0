from __future__ import annotations

import pytest

from dnstrail.container import container_text, fits_container, is_roots, user_of

ID = "0123456789abcdef" * 4
OF_ROOT = ID, "web", "docker.io/library/nginx:1"
OF_ALICE = f"alice/{ID}", "alice/web", "docker.io/library/nginx:1"
FITTING = {
    "an id": (ID, True, False),
    "the beginning of an id": ("0123", True, False),
    "a name": ("web", True, False),
    "a pattern of names": ("w*", True, False),
    "all of root": ("*", True, False),
    "an image": ("docker.io/library/nginx:1", True, False),
    "a pattern of images": ("docker.io/*", True, False),
    "a name of a user": ("alice/web", False, True),
    "a pattern of a user": ("alice/*", False, True),
    "a name of any user": ("*/web", False, True),
    "an id of a user": ("alice/0123", False, True),
    "a user": ("alice", False, False),
    "another user": ("bob/*", False, False),
    "the beginning of a user": ("al", False, False),
    "the end of a name": ("*web", True, False),
    "an empty text": ("", True, False),
}


@pytest.mark.parametrize(("given", "of_root", "of_alice"), FITTING.values(), ids=FITTING)
def test_containers_of_a_user_fit_only_with_the_user(given: str, of_root: bool, of_alice: bool) -> None:
    """A user who names a container, or an image, like one of root fits nothing that is written for root's."""
    assert (fits_container(*OF_ROOT, given), fits_container(*OF_ALICE, given)) == (of_root, of_alice)
    assert not fits_container("", "", "", given)


LABELS = (("app", "web-1"), ("app.kubernetes.io/name", "shop"), ("note", "db"))
BY_LABEL = {
    "a label": ("app=web-1", True, False),
    "a pattern of a value": ("app=web-*", True, False),
    "a value alone": ("db", False, False),
    "a key alone": ("app", False, False),
    "a pattern of keys": ("a*=web-1", False, False),
    "a pattern of names": ("a*", False, False),
    "another value": ("app=db", False, False),
    "an absent key": ("tier=web-1", False, False),
    "an absent key without a value": ("tier=", False, False),
    "a key of Kubernetes": ("app.kubernetes.io/name=shop", True, False),
    "a label of a user": ("alice/app=web-1", False, True),
    "a key of Kubernetes of a user": ("alice/app.kubernetes.io/name=shop", False, True),
    "a label of any user": ("*/app=web-?", False, True),
    "a label of another user": ("bob/app=web-1", False, False),
    "a user without a key": ("alice/=web-1", False, False),
}


@pytest.mark.parametrize(("given", "of_root", "of_alice"), BY_LABEL.values(), ids=BY_LABEL)
def test_a_label_fits_by_its_key(given: str, of_root: bool, of_alice: bool) -> None:
    """No label fits what is written for a name; the label of a user's container fits only with the user."""
    named = [("0" * 64, "x", "y"), (f"alice/{'0' * 64}", "alice/x", "y")]
    assert [fits_container(*one, given, LABELS) for one in named] == [of_root, of_alice]
    assert not fits_container("", "", "", given, LABELS)


def test_a_container_without_a_name_fits_by_its_id() -> None:
    """A pattern fits no name that is unknown; one of all containers of a user needs none."""
    assert not fits_container(ID, "", "", "*")
    assert fits_container(f"alice/{ID}", "", "", "alice/*")
    assert fits_container(ID, "", "", ID[:12])


def test_a_container_for_people() -> None:
    """A container without a name has the beginning of its id; that of a user begins with the user, and is no other."""
    shown = [container_text(one, "") for one in ("", ID, f"c0ffee42c0ff/{ID}")]
    assert shown == ["", "0123456789ab", "c0ffee42c0ff/0123456789ab"]
    assert container_text(f"alice/{ID}", "alice/web") == "alice/web"


def test_the_user_of_a_container() -> None:
    """Ids and names of containers of users begin with the user; the host is no container."""
    assert [user_of(one) for one in ("", ID, f"alice/{ID}", "alice/web")] == ["", "", "alice", "alice"]
    assert [is_roots(one) for one in ("", ID, f"alice/{ID}")] == [False, True, False]
