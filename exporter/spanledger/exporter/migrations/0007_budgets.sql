-- What was told of budgets and to whom, so that it is told once; `active` is 0 when a rolling window is below again.
CREATE TABLE IF NOT EXISTS {database}.budget_alerts {on_cluster}
(
    budget    LowCardinality(String),
    scope     String,
    since     DateTime('UTC'),
    amount    Decimal(38, 18),
    threshold Decimal(18, 6),
    channel   LowCardinality(String),
    active    UInt8,
    spent     Decimal(38, 18),
    currency  LowCardinality(String),
    at        DateTime64(3, 'UTC')
)
ENGINE = {engine}ReplacingMergeTree(at)
ORDER BY (budget, scope, since, amount, threshold, channel)
SETTINGS non_replicated_deduplication_window = 1000;
