-- So too a call of unknown price: whoever calls through a gateway sees its host, the gateway sees whose model it is.
ALTER TABLE {database}.llm_describers_feed {on_cluster} MODIFY QUERY
SELECT entry_id, scope, version, usage_status, input_tokens, output_tokens, environment, tenant, user_id, session_id,
       feature, prompt_name, agent_name, tags, api_key_hash, api_key_alias
FROM {database}.llm_calls
WHERE line = 0 AND NOT is_deleted AND bitAnd(version, 255) = 0
  AND (source != 'spanledger' OR usage_status != 'reported' OR price_status = 'unpriced');
