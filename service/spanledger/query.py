"""The ledger in a notebook: `query("SELECT ...").df()`, Arrow underneath."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

__all__ = ["MissingPackage", "Result", "query"]


class MissingPackage(ImportError):
    """The package for this form of a result is not installed; the message says what to install."""


class Result:
    """What a query found.

    Amounts are `Decimal` in full in each form, times are in UTC.
    """

    def __init__(self, table: pyarrow.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"<Result: {len(self)} rows of {', '.join(self._table.column_names)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        if find_spec("pandas") is None:
            return f"<pre>{self._table.slice(0, 20).to_string(preview_cols=20)}</pre>"
        return str(self.df()._repr_html_())

    def arrow(self) -> pyarrow.Table:
        """An Arrow table."""
        return self._table

    def df(self) -> pandas.DataFrame:
        """A pandas data frame.

        Raises:
            MissingPackage: pandas is not installed.
        """
        _need("pandas")
        return self._table.to_pandas()

    def polars(self) -> polars.DataFrame:
        """A Polars data frame.

        Raises:
            MissingPackage: Polars is not installed.
        """
        _need("polars")
        import polars

        found = polars.from_arrow(self._table)
        assert isinstance(found, polars.DataFrame)
        return found


def query(sql: str, parameters: Mapping[str, Any] | None = None) -> Result:
    """Ask the ledger; it can only read.

    What waits in the journal is loaded first. Without `spanledger up`, embedded ClickHouse is started for the query.

    Parameters:
        sql: one SELECT; `{name:Type}` in it is bound by the server to `parameters[name]`.

    Raises:
        MissingPackage: pyarrow is not installed.
        ClickHouseError, EmbeddedError, UrlError: the query is refused, or there is no way to the ledger.

    Example:
        >>> query("SELECT provider, sum(cost_base) AS cost FROM llm_calls FINAL"
        ...       " WHERE tenant = {tenant:String} GROUP BY provider", {"tenant": "acme"}).df()
    """
    _need("pyarrow")
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    with opened(settings(), read_only=True) as client:
        return Result(client.arrow(sql.strip().rstrip(";"), parameters, {} if client.read_only else {"readonly": 2}))


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise MissingPackage(f"{package} is not installed: pip install 'spanledger[notebook]'")
