-- Who else described a call: what a row says that may lose against another one of the same call.
CREATE TABLE IF NOT EXISTS {database}.llm_describers {on_cluster}
(
    entry_id       String,
    scope          LowCardinality(String),
    version        UInt64,
    usage_status   LowCardinality(String),
    input_tokens   Nullable(UInt64),
    output_tokens  Nullable(UInt64),
    environment    LowCardinality(String),
    tenant         LowCardinality(String),
    user_id        String,
    session_id     String,
    feature        LowCardinality(String),
    prompt_name    LowCardinality(String),
    agent_name     LowCardinality(String),
    tags           Map(LowCardinality(String), String),
    api_key_hash   LowCardinality(String),
    api_key_alias  LowCardinality(String)
)
ENGINE = {engine}ReplacingMergeTree(version)
ORDER BY (entry_id, scope)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.llm_describers_feed {on_cluster} TO {database}.llm_describers AS
SELECT entry_id, scope, version, usage_status, input_tokens, output_tokens, environment, tenant, user_id, session_id,
       feature, prompt_name, agent_name, tags, api_key_hash, api_key_alias
FROM {database}.llm_calls
WHERE line = 0 AND NOT is_deleted AND bitAnd(version, 255) = 0
  AND (source != 'spanledger' OR usage_status != 'reported');

-- Up to when rows have been settled, and other such moments.
CREATE TABLE IF NOT EXISTS {database}.ledger_marks {on_cluster}
(
    name String,
    at   DateTime64(3, 'UTC')
)
ENGINE = {engine}ReplacingMergeTree(at)
ORDER BY name;
