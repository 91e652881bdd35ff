"""Spans to ledger rows, rows to ClickHouse: reader, journal, shipper, schema and queries.

`flush` and `aflush` wait until everything that this process has recorded is in ClickHouse.
"""

from spanledger.exporter.shipper import FlushError, aflush, flush

__all__ = ["FlushError", "aflush", "flush"]
