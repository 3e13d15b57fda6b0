"""Options that several questions share."""

from __future__ import annotations

import click

from dnstrail_cli.timestamps import convert_moment

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
at_option = click.option("--at", metavar="TIME", callback=convert_moment, help="As of then: epoch seconds or RFC 3339.")
cache_option = click.option("--cache", help="Address of the cache (default: lookups.sock in the run-dir).")
capture_option = click.option("--capture", metavar="FILE", help="Ask a capture file, at its end unless --at says when.")
dnscache_option = click.option("--dnscache", multiple=True, metavar="OPTIONS", help="With --capture: size=X, grace=X.")
