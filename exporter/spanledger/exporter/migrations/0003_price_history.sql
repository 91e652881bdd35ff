-- What rows cost before they were priced again.
CREATE TABLE IF NOT EXISTS {database}.price_history {on_cluster}
(
    entry_id       String,
    line           UInt16,
    version        UInt64,
    event_date     Date,
    replaced_at    DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    cost           Nullable(Decimal(38, 18)),
    cost_details   Map(LowCardinality(String), Decimal(38, 18)),
    currency       LowCardinality(String),
    cost_base      Nullable(Decimal(38, 18)),
    base_currency  LowCardinality(String),
    price_status   LowCardinality(String),
    cost_reasons   Array(LowCardinality(String)),
    priced_model   LowCardinality(String),
    price_snapshot LowCardinality(String)
)
ENGINE = {engine}ReplacingMergeTree(replaced_at)
ORDER BY (entry_id, line, version);
