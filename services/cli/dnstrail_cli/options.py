"""Options that several questions share."""

from __future__ import annotations

import click

from dnstrail_cli.moment import convert_moment

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
at_option = click.option("--at", metavar="TIME", callback=convert_moment, help="As of then: epoch seconds or RFC 3339.")
cache_option = click.option("--cache", help="Address of the cache (default: lookups.sock in the run-dir).")
