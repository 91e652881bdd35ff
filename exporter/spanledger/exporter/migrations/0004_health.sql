-- What a process could not do as it should. Each count is that of the process's whole life so far: the highest stands.
CREATE TABLE IF NOT EXISTS {database}.spanledger_health {on_cluster}
(
    host       LowCardinality(String),
    pid        UInt32,
    started_at DateTime64(9, 'UTC'),
    what       LowCardinality(String),
    reason     LowCardinality(String),
    count      UInt64,
    at         DateTime64(9, 'UTC')
)
ENGINE = {engine}ReplacingMergeTree(count)
ORDER BY (host, pid, started_at, what, reason)
SETTINGS non_replicated_deduplication_window = 10000;
