"""`dnstrail open`: a link to the page of a running dnstrail, also at a name or an address."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode, urlsplit

import click

from dnstrail.bus.trust import distrust
from dnstrail.errors import SettingsError
from dnstrail.process.command import default_run_dir, examples, optional_run_dir_option
from dnstrail.regular_file import read_regular
from dnstrail_cli.lookups.lookup import check_keys

_OF_UNIT = Path("/run/dnstrail-web")
_LONGEST = 4096  # bytes of the file
_EXAMPLES = examples("dnstrail open", "dnstrail open 203.0.113.7")


@click.command("open", epilog=_EXAMPLES)
@click.argument("key", required=False)
@optional_run_dir_option
def open_page(key: str | None, run_dir: Path | None) -> None:
    """Print a link to the page, also at a name or address.

    A link lets one browser in, for a day. Root and the user of `dnstrail web` can read it.
    """
    if key is not None:
        check_keys(click.get_current_context(), click.Argument(["key"]), key)
    link = _link(run_dir)
    if key is not None:
        found = urlsplit(link)
        link = found._replace(path="/trail", query=f"{urlencode({'key': key})}&{found.query}").geturl()
    click.echo(link)


def _link(run_dir: Path | None) -> str:
    """Return the link of the page that runs.

    Raises:
        SettingsError: none runs here, or this user may not read its link.
    """
    from dnstrail_web.access import LINK

    folders = [default_run_dir(), _OF_UNIT] if run_dir is None else [run_dir]
    faults = []
    for folder in folders:
        try:
            if fault := distrust(folder):
                faults.append(fault)
                continue
            return read_regular(folder / LINK, _LONGEST, links=False).decode("ascii").strip()
        except FileNotFoundError:
            faults.append(f"{folder}: no page runs there")
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{folder / LINK}: {error}")
    raise SettingsError(f"{'; '.join(faults)}: start `dnstrail --web PORT` or `dnstrail web`, or name its --run-dir")
