-- Sums by hour and day of the dates that have not changed since; rollup_dates says which generation stands for a date.
CREATE TABLE IF NOT EXISTS {database}.llm_calls_rollup {on_cluster}
(
    volume               UInt64, -- the month of an old date, as 202611; else the generation
    event_date           Date,
    generation           UInt64,
    grain                LowCardinality(String),
    hours                UInt8,
    slot                 DateTime('UTC'),

    provider             LowCardinality(String),
    operation            LowCardinality(String),
    model                LowCardinality(String),
    service              LowCardinality(String),
    environment          LowCardinality(String),
    tenant               LowCardinality(String),
    user                 String,
    feature              LowCardinality(String),
    prompt               LowCardinality(String),
    agent                LowCardinality(String),
    key                  LowCardinality(String),
    tier                 LowCardinality(String),
    status               LowCardinality(String),
    error                LowCardinality(String),
    price_status         LowCardinality(String),
    usage_status         LowCardinality(String),
    currency             LowCardinality(String),
    base_currency        LowCardinality(String),
    price_snapshot       LowCardinality(String),

    calls                UInt64,
    rows                 UInt64,
    errors               UInt64,
    input_tokens         Nullable(UInt64),
    output_tokens        Nullable(UInt64),
    total_tokens         Nullable(UInt64),
    cache_read_tokens    Nullable(UInt64),
    cache_write_tokens   Nullable(UInt64),
    reasoning_tokens     Nullable(UInt64),
    cost                 Nullable(Decimal(38, 18)),
    unknown_costs        UInt64,
    priced               UInt64,
    estimated            UInt64,
    unpriced             UInt64,
    usage_missing        UInt64,
    not_billed           UInt64,
    free                 UInt64,
    usage_reported       UInt64,
    usage_estimated      UInt64,
    usage_incomplete     UInt64,
    usage_contradictory  UInt64,
    error_types          Map(String, UInt64),
    duration             AggregateFunction(quantilesBFloat16(0.5, 0.95, 0.99), Float64),
    time_to_first_token  AggregateFunction(quantilesBFloat16(0.5, 0.95, 0.99), Float64),
    usage                Map(String, Decimal(38, 9)),
    costs                Map(String, Decimal(38, 18)),
    cost_parts           Map(String, Decimal(38, 18)),
    converted_parts      Map(String, Decimal(38, 18))
)
ENGINE = {engine}MergeTree
PARTITION BY volume
ORDER BY (grain, hours, user, slot, tenant, model)
SETTINGS index_granularity = 512, non_replicated_deduplication_window = 1000;

-- Which generation of a date in llm_calls_rollup stands for it.
CREATE TABLE IF NOT EXISTS {database}.rollup_dates {on_cluster}
(
    event_date Date,
    generation UInt64,
    volume     UInt64,
    made_at    DateTime64(3, 'UTC'),
    took_ms    UInt64,
    until      DateTime64(3, 'UTC'), -- its sums are of rows with an earlier ingested_at
    keys       UInt64,               -- how many of these have different keys
    first      DateTime('UTC'), -- hours in which the first and the last call of the date began
    last       DateTime('UTC')
)
ENGINE = {engine}ReplacingMergeTree(made_at)
ORDER BY event_date;
