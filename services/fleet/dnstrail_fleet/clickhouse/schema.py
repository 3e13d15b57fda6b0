"""The tables in ClickHouse: each step of the list leads from one version to the next, and may be repeated."""

from __future__ import annotations

from typing import Final

from dnstrail.errors import SettingsError
from dnstrail_fleet.clickhouse.client import ClickHouseClient

KEY: Final = "question, owner, type, target, day, host, program, container, image"  # of a row
# A row is stored once for each text of it (`key`), so that one order finds it by target, owner and question. Rows of
# one key and day merge in the background: a reader merges what is left. `shares` counts at least the rows of a host.
VERSIONS: Final = (
    (
        f"""
        CREATE TABLE IF NOT EXISTS dnstrail_rows (key String CODEC(ZSTD(1)), day UInt32 CODEC(ZSTD(1)),
            question String CODEC(ZSTD(1)), owner String CODEC(ZSTD(1)), type UInt16 CODEC(ZSTD(1)),
            target String CODEC(ZSTD(1)), host LowCardinality(String) CODEC(ZSTD(1)),
            program LowCardinality(String) CODEC(ZSTD(1)), container LowCardinality(String) CODEC(ZSTD(1)),
            image LowCardinality(String) CODEC(ZSTD(1)),
            first SimpleAggregateFunction(min, Int64) CODEC(T64, ZSTD(1)),
            last SimpleAggregateFunction(max, Int64) CODEC(T64, ZSTD(1)),
            until SimpleAggregateFunction(max, Int64) CODEC(T64, ZSTD(1)),
            count SimpleAggregateFunction(max, Int64) CODEC(T64, ZSTD(1)),
            gaps SimpleAggregateFunction(max, Int64) CODEC(T64, ZSTD(1)),
            doubted SimpleAggregateFunction(max, Int64) CODEC(T64, ZSTD(1)),
            used SimpleAggregateFunction(max, Int64) CODEC(T64, ZSTD(1)))
        ENGINE = AggregatingMergeTree PARTITION BY intDiv(day, 7)
        ORDER BY (key, {KEY}) SETTINGS index_granularity = 1024, min_compress_block_size = 16384
        """,
        """
        CREATE TABLE IF NOT EXISTS dnstrail_shares (host String, day UInt32, rows SimpleAggregateFunction(sum, Int64))
        ENGINE = AggregatingMergeTree ORDER BY (host, day)
        """,
        """
        CREATE TABLE IF NOT EXISTS dnstrail_hosts (host String, heard SimpleAggregateFunction(max, Int64),
            state SimpleAggregateFunction(max, Tuple(Int64, Int64, Int64)), dropped SimpleAggregateFunction(max, Int64),
            lag SimpleAggregateFunction(max, Tuple(Int64, Int64)), trimmed SimpleAggregateFunction(max, Int64),
            left_out SimpleAggregateFunction(sum, Int64),
            refused SimpleAggregateFunction(sumMap, Map(String, Int64)))
        ENGINE = AggregatingMergeTree ORDER BY host
        """,
    ),
)


def make_tables(client: ClickHouseClient, versions: tuple[tuple[str, ...], ...] = VERSIONS) -> None:
    """Make the tables that are missing.

    Raises:
        SettingsError: A later version of dnstrail made them.
        StoreUnavailableError: They cannot be made now.
    """
    client.change("CREATE TABLE IF NOT EXISTS dnstrail_versions (version UInt32) ENGINE = MergeTree ORDER BY version")
    [(found,)] = client.select("SELECT max(version) FROM dnstrail_versions", tuple[int])
    if found > len(versions):
        raise SettingsError(
            f"{client}: a later version of dnstrail made its tables: use that version, or another database"
        )
    for number, step in enumerate(versions[found:], found + 1):
        for statement in step:
            client.change(statement)
        client.insert("dnstrail_versions", "version", [(number,)])
