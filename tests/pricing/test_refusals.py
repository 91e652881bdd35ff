"""A bad price file is refused whole, with its file, line and reason."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from spanledger import failures
from spanledger.pricing import book as book_module
from spanledger.pricing.book import PriceFileError, default_book, load, reload
from spanledger.pricing.price_file import read_text
from spanledger.settings import settings

from .conftest import book_of, charge_of

GOOD = "schema: 1\nprovider: acme\nmodels:\n- id: m\n  prices:\n  - rates: {input: 1}\n"


def row(text: str) -> str:
    return "schema: 1\nprovider: acme\nmodels:\n- id: m\n  prices:\n  - " + text.replace("\n", "\n    ") + "\n"


REFUSED = [
    ("a: [", 2, "not valid YAML"),
    ("- a\n", 1, "the top level is not a mapping"),
    ("schema: 2\n", 1, "schema is 2: this version reads schema 1"),
    (GOOD + "modles: []\n", 7, "unknown key 'modles' in a price file; did you mean models?"),
    ("schema: 1\nschema: 1\n", 2, "duplicate key 'schema', first on line 1"),
    (row("rates: {input: 1, input: 2}"), 6, "duplicate key 'input', first on line 6"),
    ("a: &a\n  b: *a\n", 1, "is an alias part of what it stands for?"),
    ("schema: 1\nmodels:\n- id: m\n  prices: [{rates: {input: 1}}]\n", 3, "no provider"),
    ("schema: 1\nprovider: acme\nmodels:\n- match: [m]\n", 4, "a model without an id"),
    ("schema: 1\nprovider: acme\nmodels:\n- id: m\n", 4, "m has no prices"),
    ("schema: 1\nprovider: acme\nmodels:\n- {id: m, prices: []}\n", 4, "m has no prices"),
    (GOOD + "- id: m\n  prices: [{rates: {input: 1}}]\n", 7, "m is there twice, first on line 4"),
    (GOOD + "- {id: n, match: [n, M], prices: [{rates: {input: 1}}]}\n", 7, "match exact:m is claimed by m and n"),
    (GOOD.replace("id: m", "id: m\n  match: ['regex:(']"), 5, "is not a regular expression"),
    (GOOD.replace("id: m", "id: m\n  match: []"), 5, "match of m is empty"),
    (row("rates: {input: -1}"), 6, "the rate of input is negative (-1)"),
    (row("rates: {input: .nan}"), 6, "the rate of input is not a decimal number"),
    (row("rates: {input: .inf}"), 6, "the rate of input is not a decimal number"),
    (row("rates: {input: 1:30}"), 6, "the rate of input is not a decimal number"),
    (row("rates: {input: free}"), 6, "the rate of input is not a decimal number"),
    (row("rates: {input: 1e20}"), 6, "the rate of input is above 1000000000"),
    (row("rates: {input: }"), 6, "the rate of input is not a decimal number"),
    (row("rates: {inptu: 1}"), 6, "unknown part 'inptu'; did you mean input?"),
    (row("rates: {citation_tokens: 1}"), 6, "belongs under unmapped"),
    (row("rates: {input: 1}\nunmapped: {output: 1}"), 7, "output is a part: its rate belongs under rates"),
    (row("rates: {web_search: 10}"), 6, "write web_search: {rate: 10, per: 1K}"),
    (row("rates: {web_search: {rate: 10}}"), 6, "say per what its rate is"),
    (row("rates: {web_search: {rate: 10, per: 1k}}"), 6, "per is '1k'"),
    (row("rates: {web_search: {rate: 10, per: 1K, unit: day}}"), 6, "use call or request"),
    (row("rates: {web_search: {rate: 10, per: 1K, free: 5/year}}"), 6, "write 5 (a request), 1500/day"),
    (row("rates: {input: {of: output, mult: 2}}"), 6, "of and mult are for additions"),
    (row("rates: {}"), 6, "a price without rates"),
    (row("from: 2026-13-01\nrates: {input: 1}"), 6, "from is '2026-13-01'"),
    (row("from: 2026-01-01T00:00:00\nrates: {input: 1}"), 6, "write 2026-09-29 or 2026-09-29T16:00:00Z"),
    (row("from: 2026-02-01\nuntil: 2026-01-01\nrates: {input: 1}"), 7, "until is not after from"),
    (row("rates: {input: 1}\ndecimals: 19"), 7, "decimals is above 18"),
    (row("rates: {input: 1}\ncurrency: usd"), 7, "not an ISO 4217 code"),
    (row("rates: {input: 1}\ncontext: [{mult: {tokens: 2}}]"), 7, "a context tier without over"),
    (row("rates: {input: 1}\ncontext: [{over: 9}, {over: 9}]"), 7, "do not ascend"),
    (row("rates: {input: 1}\ncontext: [{over: 1, op: lt}]"), 7, "use gt or gte"),
    (row("rates: {input: 1}\ncontext: [{over: 1}, {over: 2, op: gte}]"), 7, "differ in op, scope or of"),
    (row("rates: {input: 1}\ncontext: [{over: 1, of: image}]"), 7, "of selects no token part by 'image'"),
    (row("rates: {input: 1}\ncontext: [{over: 1, mult: {tokes: 2}}]"), 7, "did you mean tokens?"),
    (row("rates: {input: 1}\nmodes: {tier: {flex: {}}}"), 7, "unknown mode 'tier'"),
    (row("rates: {input: 1}\nmodes: {service_tier: {a: {}, b: {alias: [A]}}}"), 7, "service_tier A is there twice"),
    (row("rates: {input: 1}\nmodes: {processing: {batch: {excludes: [tier]}}}"), 7, "excludes names no other mode"),
    (row("rates: {input: 1}\nmodes: {processing: {batch: {mult: {tokens: -1}}}}"), 7, "mult of tokens is negative"),
    (row("rates: {input: 1}\nregion: [{mult: {tokens: 2}}]"), 7, "a region without when"),
    (row("rates: {input: 1}\nwindows: [{utc: '1-2'}]"), 7, 'write "16:30-00:30"'),
    (row("rates: {input: 1}\nwindows: [{utc: '01:00-02:00', weekdays: [funday]}]"), 7, "'funday' is no weekday"),
    (GOOD + "  - rates: {input: 2}\n", 7, "m: these dates overlap those of the price on line 6"),
    (
        row("from: 2026-01-01\nuntil: 2026-03-01\nrates: {input: 1}") + "  - {from: 2026-02-01, rates: {input: 2}}\n",
        9,
        "overlap",
    ),
    (
        row("rates: {input: 1}")
        + "  - {windows: [{utc: '01:00-03:00'}], rates: {input: 2}}\n"
        + "  - {windows: [{utc: '02:59-04:00', weekdays: [tue]}], rates: {input: 3}}\n",
        8,
        "m: these windows overlap those of the price on line 7",
    ),
    (GOOD + "overlays: [{tenant: acme}]\n", 7, "an overlay without mult or rates"),
    (GOOD + "overlays: [{tennant: acme, mult: {tokens: 1}}]\n", 7, "did you mean tenant?"),
    (GOOD + "fx: [{from: 2026-01-01, currency: EUR, to: USD}]\n", 7, "fx without rate"),
    (GOOD + "fx: [{from: 2026-01-01, currency: EUR, to: USD, rate: 0}]\n", 7, "a rate above 0"),
    (
        GOOD + "fx:\n- &a {from: 2026-01-01, currency: EUR, to: USD, rate: 1}\n- *a\n",
        8,
        "a second rate from EUR to USD",
    ),
    ("aliases: {my-deployment: m}\n", 1, "write PROVIDER/my-deployment, or a provider at the top"),
    (GOOD + "additions: [{rates: {output: 1}}]\n", 7, "an addition without models"),
    ("models:\n  m:\n    pricing: {input: {cost_per_1k: 1}, output: {cost_per_1k: -2}}\n", 3, "cost_per_1k of output"),
    ("models:\n  m:\n    pricing: {currency: USD}\n", 3, "pricing of m has neither input nor output"),
    ("models:\n  m:\n    pricing: {inputs: {cost_per_1k: 1}}\n", 3, "did you mean input?"),
    ("models:\n  m:\n    pricing: {input: {cost: 1}}\n", 3, "unknown key 'cost'"),
    (
        "models:\n  m:\n    pricing:\n      input: {cost_per_1k: 1}\n      context_tiers: [{max_context: 5}]\n",
        5,
        "a context tier without multiplier",
    ),
    ("gpt-x:\n  input_cost_per_million: cheap\n", 2, "input_cost_per_million is not a decimal number"),
    ("gpt-x:\n  input_cost_per_million: 1\n  inpt_cost_per_million: 1\n", 3, "unknown price 'inpt_cost_per_million'"),
    ("gpt-x: {temperature: 1}\n", 1, "unknown key 'gpt-x' in a price file"),
]


@pytest.mark.parametrize(("text", "line", "reason"), REFUSED, ids=[reason for _, _, reason in REFUSED])
def test_a_bad_file_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(PriceFileError) as caught:
        read_text(text.encode(), "prices.yaml")
    assert reason in caught.value.reason
    assert caught.value.file == Path("prices.yaml")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"prices.yaml:{line}: ")


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(PriceFileError, match=r"prices\.yaml:2: not UTF-8 text"):
        read_text(b"schema: 1\nname: \xff\n", "prices.yaml")


def test_an_alias_bomb_is_refused_in_time() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    with pytest.raises(PriceFileError):
        read_text(bomb.encode(), "bomb.yaml")


def test_a_currency_without_an_exchange_rate_is_refused() -> None:
    with pytest.raises(PriceFileError, match=r"file0\.yaml:6: prices in EUR but no exchange rate .* add fx: \[\{from"):
        book_of(GOOD.replace("rates: {input: 1}", "{currency: EUR, rates: {input: 1}}"))
    with pytest.raises(PriceFileError, match="prices in USD but no exchange rate into the base currency"):
        book_of(GOOD, base_currency="CHF")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match=r"absent\.yaml: cannot be read: No such file"):
        load([tmp_path / "absent.yaml"])


# ---- the process's own book


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., Path]) -> Callable[[str], Path]:
    monkeypatch.setattr(book_module, "_default", None)
    monkeypatch.setenv("SPANLEDGER_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    monkeypatch.setattr(failures, "fail_open", True)

    def configure(text: str) -> Path:
        path = write(text, "llm_config.yaml")
        monkeypatch.setenv("SPANLEDGER_CONFIG", str(path))
        settings.cache_clear()
        return path

    yield configure
    settings.cache_clear()


def test_the_settings_price_files_are_laid_over_the_catalogue(environment: Callable[[str], Path]) -> None:
    environment("gpt-4o:\n  input_cost_per_million: 7\n  output_cost_per_million: 8\n")
    assert charge_of(default_book(), "gpt-4o", provider="openai", input=10**6).cost == 7
    assert charge_of(default_book(), "gpt-4o-mini", provider="openai", input=10**6).cost is not None
    assert default_book() is default_book()


def test_a_bad_file_is_one_clear_error_and_the_catalogue_stands(
    environment: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = environment("gpt-4o:\n  input_cost_per_million: -7\n")
    with caplog.at_level(logging.ERROR, "spanledger"):
        assert charge_of(default_book(), "gpt-4o", provider="openai", input=10**6).cost is not None
        default_book()
    assert [record.getMessage() for record in caplog.records] == [
        f"spanledger: price files not used: {path}:2: input_cost_per_million is negative (-7)"
    ]


def test_a_file_that_goes_bad_leaves_the_book_in_force(environment: Callable[[str], Path]) -> None:
    path = environment("gpt-4o:\n  input_cost_per_million: 7\n")
    in_force = default_book()
    path.write_text("gpt-4o:\n  input_cost_per_million: [\n")
    settings.cache_clear()
    assert reload() is in_force
    path.write_text("gpt-4o:\n  input_cost_per_million: 9\n")
    settings.cache_clear()
    assert charge_of(reload(), "gpt-4o", provider="openai", input=10**6).cost == 9


def test_who_must_not_run_unpriced_is_told(environment: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    environment("gpt-4o:\n  input_cost_per_million: -7\nsettings: {usage_logging: {fail_open: false}}\n")
    with pytest.raises(PriceFileError):
        default_book()
