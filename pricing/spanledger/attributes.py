"""Names of the span attributes: the contract between instrumentation and exporter (`docs/attributes.md`).

OpenTelemetry's GenAI names are kept here as our own constants: the packaged ones are deprecated and move.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "spanledger"
"""Instrumentation scope prefix of our own spans: `spanledger.openai`, `spanledger.anthropic`, ..."""

# OpenTelemetry GenAI conventions
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
AGENT_NAME: Final = "gen_ai.agent.name"
TOOL_NAME: Final = "gen_ai.tool.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
USER_ID: Final = "user.id"
SESSION_ID: Final = "session.id"

# ours
USAGE_PARTS: Final = "spanledger.usage.parts"  # JSON object: part -> quantity
USAGE_UNMAPPED: Final = "spanledger.usage.unmapped"  # JSON object
USAGE_RAW: Final = "spanledger.usage.raw"  # JSON, as the provider sent it
USAGE_STATUS: Final = "spanledger.usage.status"
USAGE_REASONS: Final = "spanledger.usage.reasons"  # list of strings
LINES: Final = "spanledger.lines"  # JSON list: other models' shares {model, parts, unmapped, status, reasons}
SERVICE_TIER: Final = "spanledger.service_tier"
PROCESSING: Final = "spanledger.processing"
REGION: Final = "spanledger.region"
RETRIES: Final = "spanledger.retries"
TIME_TO_FIRST_TOKEN_NS: Final = "spanledger.time_to_first_token_ns"
CREATED_NS: Final = "spanledger.created_ns"  # the provider's own time of the response
REPORTED_COST: Final = "spanledger.reported_cost"  # what the provider says it billed, USD, decimal text
NOT_BILLED: Final = "spanledger.not_billed"  # true: the call failed before anything was generated
ERROR_MESSAGE: Final = "spanledger.error.message"  # masked, at most 500 characters
REQUEST_BODY_URI: Final = "spanledger.request.body.uri"  # with content capture alone
RESPONSE_BODY_URI: Final = "spanledger.response.body.uri"
API_KEY_HASH: Final = "spanledger.api_key.hash"
API_KEY_ALIAS: Final = "spanledger.api_key.alias"
TENANT: Final = "spanledger.tenant"
FEATURE: Final = "spanledger.feature"
PROMPT_NAME: Final = "spanledger.prompt.name"
TAGS: Final = "spanledger.tags"  # JSON object: name -> value
COST: Final = "spanledger.cost"  # decimal text in COST_CURRENCY, all lines together; absent where unknown
COST_CURRENCY: Final = "spanledger.cost.currency"
COST_STATUS: Final = "spanledger.cost.status"
COST_REASONS: Final = "spanledger.cost.reasons"  # list of strings
PRICED_MODEL: Final = "spanledger.priced_model"
