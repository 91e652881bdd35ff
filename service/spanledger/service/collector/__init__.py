"""The OTLP service: spans of any language in, ledger rows out (`docs/collector.md`).

A request's way: `otlp_grpc` or `otlp_http` -> `admission` -> `pool` -> a `worker` process: `request` (bytes to OTLP)
-> `spans` (what the exporter's reader takes) -> the exporter's rows and journal -> the answer, and `forward`.
"""
