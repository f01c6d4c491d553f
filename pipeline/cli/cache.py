"""Commands on the store of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import VerifyError
from . import common

if TYPE_CHECKING:
    pass


@click.group()
def cache() -> None:
    """Look at the store of results, and make it smaller."""


@cache.command(name="show")
@common.config_option
@common.store_option
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
def show_cache(path: Path | None, store_url: str | None, is_json: bool) -> None:
    """What the store holds, and where."""
    from ..report import terminal as report

    store = common.given_store(path, store_url)
    report.print_usage(store.url, store.usage(), report.console(), is_json=is_json)


@cache.command(name="check")
@common.config_option
@common.store_option
def check_cache(path: Path | None, store_url: str | None) -> None:
    """Read every file of the store and name those that are damaged."""
    store = common.given_store(path, store_url)
    usage = store.usage(is_checked=True)
    for name in usage.damaged:
        common.echo(f"damaged: {name}")
    if usage.damaged:
        raise VerifyError(
            f"{len(usage.damaged)} files of the store '{store.url}' are damaged. A build that needs one makes it anew."
        )
    common.echo(f"{len(usage.entries)} results, {usage.bytes:,} bytes, none damaged")


@cache.command(name="prune")
@common.config_option
@common.store_option
@click.option("--max-gigabytes", type=common.FiniteRange(0, 1e6), help="Instead of [store] max_gigabytes.")
def prune_cache(path: Path | None, store_url: str | None, max_gigabytes: float | None) -> None:
    """Drop the results that were not used for longest, until the rest fits."""
    store = common.given_store(path, store_url)
    limit = common.read_config(path).store.max_gigabytes if max_gigabytes is None else max_gigabytes
    dropped, freed = store.prune(int(limit * 1e9))
    common.echo(f"dropped {dropped} results, {freed:,} bytes")


@cache.command(name="clear")
@common.config_option
@common.store_option
def clear_cache(path: Path | None, store_url: str | None) -> None:
    """Drop every result."""
    store = common.given_store(path, store_url)
    store.clear()
    common.echo(f"'{store.url}' is empty")


TITLE = "Results of earlier builds"
COMMANDS = (cache,)
