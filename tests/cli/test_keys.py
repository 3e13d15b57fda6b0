"""`dnstrail keys` with any key."""

from __future__ import annotations

import pytest

from dnstrail.bus.keys import CLIENTS, SERVERS, public_keys
from live.processes import dnstrail, run_dir

DASHED = (
    "-/P6Yi72EjV}3kP1tHqiC[#%$HnO{qEIorZNylV{",
    "--P6Yi72EjV}3kP1tHqiC[#%$HnO{qEIorZNylV{",
    "-hP6Yi72EjV}3kP1tHqiC[#%$hnO{qEIorZNylV{",
)


@pytest.mark.parametrize("key", DASHED)
@pytest.mark.parametrize(("option", "kind"), [((), CLIENTS), (("--server",), SERVERS)])
def test_a_key_that_begins_with_a_dash_is_allowed(key: str, option: tuple[str, ...], kind: str) -> None:
    """A key is no option, whatever its first characters are."""
    with run_dir() as folder:
        assert dnstrail("keys", "new", DNSTRAIL_KEYS=str(folder / "keys")).returncode == 0
        done = dnstrail("keys", "allow", *option, "192.0.2.1", key, DNSTRAIL_KEYS=str(folder / "keys"))
        assert done.returncode == 0, done.stderr
        assert public_keys(folder / "keys", kind) == {"192.0.2.1": key}
