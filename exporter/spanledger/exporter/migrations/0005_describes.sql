-- Which call a span describes that is in another trace, or beside the call in the same one.
ALTER TABLE {database}.llm_calls {on_cluster} ADD COLUMN IF NOT EXISTS describes String AFTER ancestor_span_ids;
