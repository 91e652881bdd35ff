-- One row a call of a billable kind; docs/ledger.md explains every column.
CREATE TABLE IF NOT EXISTS {database}.llm_calls {on_cluster}
(
    -- key
    event_date             Date,
    entry_id               String,
    line                   UInt16,
    version                UInt64,
    is_deleted             UInt8,
    ingested_at            DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),

    -- trace
    trace_id               String,
    span_id                String,
    parent_span_id         String,
    ancestor_span_ids      Array(String),
    service_name           LowCardinality(String),
    environment            LowCardinality(String),
    scope                  LowCardinality(String),
    scope_version          LowCardinality(String),
    source                 LowCardinality(String),

    -- time
    start_time             DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ns            UInt64,
    time_to_first_token_ns Nullable(UInt64),

    -- call
    provider               LowCardinality(String),
    operation              LowCardinality(String),
    request_model          LowCardinality(String),
    response_model         LowCardinality(String),
    response_id            String,
    region                 LowCardinality(String),
    service_tier           LowCardinality(String),
    processing             LowCardinality(String),
    stream                 Bool,
    retries                UInt16,

    -- outcome
    status                 LowCardinality(String),
    error_type             LowCardinality(String),
    error_message          String,
    finish_reasons         Array(LowCardinality(String)),

    -- usage
    input_tokens           Nullable(UInt64),
    output_tokens          Nullable(UInt64),
    total_tokens           Nullable(UInt64),
    cache_read_tokens      Nullable(UInt64),
    cache_write_tokens     Nullable(UInt64),
    reasoning_tokens       Nullable(UInt64),
    usage                  Map(LowCardinality(String), Decimal(38, 9)),
    unmapped               Map(LowCardinality(String), Decimal(38, 9)),
    usage_status           LowCardinality(String),
    raw_usage              String CODEC(ZSTD(3)),

    -- cost
    cost                   Nullable(Decimal(38, 18)),
    cost_input             Nullable(Decimal(38, 18)),
    cost_output            Nullable(Decimal(38, 18)),
    cost_cache             Nullable(Decimal(38, 18)),
    cost_tools             Nullable(Decimal(38, 18)),
    cost_details           Map(LowCardinality(String), Decimal(38, 18)),
    currency               LowCardinality(String),
    cost_base              Nullable(Decimal(38, 18)),
    base_currency          LowCardinality(String),
    price_status           LowCardinality(String),
    cost_estimated         Bool,
    cost_reasons           Array(LowCardinality(String)),
    reported_cost          Nullable(Decimal(38, 18)),
    priced_model           LowCardinality(String),
    price_snapshot         LowCardinality(String),

    -- attribution
    tenant                 LowCardinality(String),
    user_id                String,
    session_id             String,
    feature                LowCardinality(String),
    prompt_name            LowCardinality(String),
    agent_name             LowCardinality(String),
    tags                   Map(LowCardinality(String), String),
    api_key_hash           LowCardinality(String),
    api_key_alias          LowCardinality(String),
    given_names            Array(LowCardinality(String)),

    -- content
    request_body_uri       String,
    response_body_uri      String,

    INDEX trace_id_index trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX ingested_at_index ingested_at TYPE minmax GRANULARITY 1
)
ENGINE = {engine}ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(event_date)
ORDER BY (event_date, entry_id, line)
SETTINGS non_replicated_deduplication_window = 10000;
