"""What a group of calls adds up to, in SQL: of single calls, of partial sums, and of everything together.

Each measure is a partial sum first, of rows of `llm_calls` or of the rollup, so that both can be added. Quantiles are
kept as histograms of bfloat16 values, whose sums do not depend on order or grouping: they are at most
0.8 % below the exact quantile (https://clickhouse.com/docs/sql-reference/aggregate-functions/reference/quantilebfloat16).
"""

from __future__ import annotations

from typing import Final, NamedTuple

QUANTILES: Final = (0.5, 0.95, 0.99)

_LEVELS = ", ".join(map(str, QUANTILES))
_AMOUNTS = "Map(String, Decimal(38, 18))"
_NONE = f"CAST(map(), '{_AMOUNTS}')"
_FX = "toDecimal128OrZero(JSONExtractString(price_snapshot, 'fx', 'rate'), 18)"


class Measure(NamedTuple):
    """One figure of a group of calls.

    Attributes:
        name: its column, in the rollup and in answers.
        of_calls: aggregate over rows of `llm_calls FINAL` that makes a partial sum.
        type: of a partial sum.
    """

    name: str
    of_calls: str
    type: str

    @property
    def is_quantiles(self) -> bool:
        return self.type.startswith("AggregateFunction")

    def of_sums(self, column: str) -> str:
        """Aggregate over partial sums in `column` that makes a partial sum again."""
        if self.is_quantiles:
            return f"quantilesBFloat16MergeState({_LEVELS})({column})"
        return f"sumMap({column})" if self.type.startswith("Map") else f"sum({column})"

    def figure(self, column: str) -> str:
        """Aggregate over partial sums in `column` that makes the figure itself."""
        return f"quantilesBFloat16Merge({_LEVELS})({column})" if self.is_quantiles else self.of_sums(column)


def _count(name: str, condition: str) -> Measure:
    return Measure(name, f"countIf({condition})", "UInt64")


def _tokens(name: str) -> Measure:
    return Measure(name, f"sum({name})", "Nullable(UInt64)")


def _amounts(name: str, of_row: str) -> Measure:
    return Measure(name, f"sumMap({of_row})", _AMOUNTS)


def _quantiles(name: str, column: str, condition: str) -> Measure:
    return Measure(
        name,
        f"quantilesBFloat16StateIf({_LEVELS})(toFloat64(assumeNotNull({column})), {condition})",
        f"AggregateFunction(quantilesBFloat16({_LEVELS}), Float64)",
    )


MEASURES: Final = (
    _count("calls", "line = 0"),
    _count("rows", "1"),
    _count("errors", "line = 0 AND status = 'error'"),
    _tokens("input_tokens"),
    _tokens("output_tokens"),
    _tokens("total_tokens"),
    _tokens("cache_read_tokens"),
    _tokens("cache_write_tokens"),
    _tokens("reasoning_tokens"),
    Measure("cost", "sum(cost_base)", "Nullable(Decimal(38, 18))"),
    _count("unknown_costs", "cost_base IS NULL"),
    _count("priced", "price_status = 'priced'"),
    _count("estimated", "price_status = 'estimated'"),
    _count("unpriced", "price_status = 'unpriced'"),
    _count("usage_missing", "price_status = 'usage_missing'"),
    _count("not_billed", "price_status = 'not_billed'"),
    _count("free", "price_status = 'free'"),
    _count("usage_reported", "usage_status = 'reported'"),
    _count("usage_estimated", "usage_status = 'estimated'"),
    _count("usage_incomplete", "usage_status = 'incomplete'"),
    _count("usage_contradictory", "usage_status = 'contradictory'"),
    Measure(
        "error_types",
        "sumMapIf(map(CAST(error_type, 'String'), toUInt64(1)), line = 0 AND status = 'error')",
        "Map(String, UInt64)",
    ),
    _quantiles("duration", "duration_ns", "line = 0 AND status = 'ok'"),
    _quantiles("time_to_first_token", "time_to_first_token_ns", "line = 0 AND time_to_first_token_ns IS NOT NULL"),
    Measure("usage", "sumMap(CAST(usage, 'Map(String, Decimal(38, 9))'))", "Map(String, Decimal(38, 9))"),
    _amounts("costs", f"if(isNull(cost), {_NONE}, map(CAST(currency, 'String'), assumeNotNull(cost)))"),
    _amounts(
        "cost_parts",
        f"CAST(mapApply((part, amount) -> (concat(currency, ':', part), amount), cost_details), '{_AMOUNTS}')",
    ),
    _amounts(
        "converted_parts",
        f"if(currency = base_currency OR isNull(cost_base), {_NONE},"
        f" CAST(mapApply((part, amount) -> (part, multiplyDecimal(amount, {_FX}, 18)), cost_details), '{_AMOUNTS}'))",
    ),
)
"""`costs` are by the currency of the price; `cost_parts` by that and by part, `USD:input`; `converted_parts` in the
base currency, of calls that were priced in another one."""

PARTS: Final = ("usage", "costs", "cost_parts", "converted_parts")
"""Measures that are maps with a key a part: the dearest to add up."""
