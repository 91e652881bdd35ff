"""Each step from a call to its rates."""

from __future__ import annotations

from decimal import Decimal

import pytest

from spanledger.pricing.names import canonical_provider, spellings

from .conftest import book_of, charge_of


def models(*entries: str, top: str = "") -> str:
    return f"schema: 1\nprovider: acme\n{top}\nmodels:\n" + "\n".join(entries) + "\n"


def flat(name: str, rate: str = "1", match: str = "") -> str:
    line = f"\n  match: [{match}]" if match else ""
    return f"- id: {name}{line}\n  prices: [{{rates: {{input: {rate}, output: {rate}}}}}]"


# ---- provider


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("openai", "openai"),
        ("az.ai.openai", "azure.ai.openai"),
        ("https://My-Resource.openai.azure.com/openai/v1", "azure.ai.openai"),
        ("my-resource.services.ai.azure.com", "azure.ai.openai"),
        ("api.openai.com:443", "openai"),
        ("eu.api.openai.com", "openai"),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "aws.bedrock"),
        ("us-east5-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("aiplatform.eu.rep.googleapis.com", "gcp.vertex_ai"),
        ("my-workspace.cloud.databricks.us", "databricks"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("xai", "x_ai"),
        ("api.mistral.ai", "mistral_ai"),
        ("api.eu.mistral.ai", "mistral_ai"),
        ("ai.mongodb.com", "voyageai"),
        ("LLM.Corp.Example:8443", "llm.corp.example"),
        ("[::1]:8000", "[::1]:8000"),
    ],
)
def test_a_provider_is_known_by_its_aliases_and_hosts(name: str, canonical: str) -> None:
    assert canonical_provider(name) == canonical


def test_an_unknown_host_can_be_mapped_by_the_user() -> None:
    text = models(flat("gpt-x"), top="providers: {llm.corp.example: acme}")
    assert charge_of(book_of(text), "gpt-x", provider="llm.corp.example", input=1).status == "priced"
    unknown = charge_of(book_of(text), "gpt-x", provider="other.example", input=1)
    assert unknown.status == "unpriced"
    assert unknown.reasons == ("provider other.example is not in the price book",)


# ---- model names


@pytest.mark.parametrize(
    ("sent", "known_as", "geo"),
    [
        ("GPT-X", "gpt-x", ""),
        ("openai/gpt-x", "gpt-x", ""),
        ("models/gemini-x", "gemini-x", ""),
        ("projects/p/locations/eu/publishers/anthropic/models/claude-x@20250929", "claude-x", ""),
        ("claude-x@20250929", "claude-x-20250929", ""),
        ("gpt-x-2025-08-07", "gpt-x", ""),
        ("gpt-x-20251211", "gpt-x-2025-12-11", ""),
        ("claude-x-20251211", "claude-x", ""),
        ("us.anthropic.claude-x-20250929-v1:0", "anthropic.claude-x", "us"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-x-v1:0", "anthropic.claude-x-v1:0", "eu"),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-x-v1:0", "amazon.nova-x-v1:0", ""),
        ("global.openai.gpt-x", "openai.gpt-x", "global"),
        ("ft:gpt-x-2024-08-06:acme::abc", "ft:gpt-x", ""),
    ],
)
def test_a_models_spellings(sent: str, known_as: str, geo: str) -> None:
    found = spellings(sent)
    assert known_as in [name for names in found.stages for name in names]
    assert found.geo == geo


@pytest.mark.parametrize(
    "sent", ["gpt-3.5-turbo-0613", "gemma-3-27b", "o1", "llama-4.1", "x-2025-13-40", "us.", "/", ""]
)
def test_what_is_no_date_or_geography_is_kept(sent: str) -> None:
    found = spellings(sent)
    assert found.geo == ""
    assert all(name in (sent, sent.rpartition("/")[2], "") for names in found.stages for name in names)


def test_a_fine_tune_never_falls_back_to_its_base_models_rates() -> None:
    book = book_of(models(flat("gpt-x", "1")))
    assert charge_of(book, "ft:gpt-x:acme::abc", input=1).status == "unpriced"
    tuned = book_of(models(flat("gpt-x", "1"), flat("'ft:gpt-x'", "2")))
    assert charge_of(tuned, "ft:gpt-x-2024-08-06:acme::abc", input=10**6).cost == 2


def test_exact_before_longest_prefix_before_glob_before_regex() -> None:
    text = models(
        flat("by-regex", "4", "'regex:^m-.*$'"),
        flat("by-glob", "3", "'glob:m-*c*'"),
        flat("by-prefix", "2", "prefix:m-"),
        flat("by-longer-prefix", "5", "prefix:m-ab"),
        flat("by-name", "1", "m-abc"),
    )
    book = book_of(text)
    assert charge_of(book, "m-abc", input=1).priced_model == "by-name"
    assert charge_of(book, "m-abx", input=1).priced_model == "by-longer-prefix"
    assert charge_of(book, "m-xyz", input=1).priced_model == "by-prefix"
    only = book_of(models(flat("by-regex", "4", "'regex:^m-.*$'"), flat("by-glob", "3", "'glob:m-*c*'")))
    assert charge_of(only, "m-abc", input=1).priced_model == "by-glob"
    assert charge_of(only, "m-x", input=1).priced_model == "by-regex"


def test_a_snapshot_with_a_price_of_its_own_keeps_it() -> None:
    book = book_of(models(flat("gpt-x", "1"), flat("gpt-x-2024-05-13", "5")))
    assert charge_of(book, "gpt-x-2024-05-13", input=10**6).cost == 5
    assert charge_of(book, "gpt-x-2024-08-06", input=10**6).cost == 1


def test_the_response_model_goes_before_the_requests() -> None:
    book = book_of(models(flat("asked", "1"), flat("answered", "2")))
    assert charge_of(book, "answered", request_model="asked", input=1).priced_model == "answered"
    assert charge_of(book, "unheard-of", request_model="asked", input=1).priced_model == "asked"


def test_the_requests_inference_profile_decides_bedrocks_price() -> None:
    book = book_of(
        "schema: 1\nprovider: aws.bedrock\nmodels:\n"
        + flat("global", "1", "global.anthropic.claude-x-v1:0")
        + "\n"
        + flat("regional", "1.1", "claude-x, eu.anthropic.claude-x-v1:0")
    )
    asked = {"provider": "aws.bedrock", "input": 10**6}
    assert charge_of(book, "claude-x", request_model="global.anthropic.claude-x-v1:0", **asked).cost == 1
    assert charge_of(book, "claude-x", request_model="eu.anthropic.claude-x-v1:0", **asked).cost == Decimal("1.1")
    assert charge_of(book, "claude-x", **asked).cost == Decimal("1.1")


def test_an_alias_prices_a_deployment() -> None:
    book = book_of(models(flat("gpt-x"), top="aliases: {My-Deployment: gpt-x}"))
    assert charge_of(book, "my-deployment", input=1).priced_model == "gpt-x"


def test_a_later_file_wins_and_takes_over_every_name_of_the_model() -> None:
    below = models(flat("gpt-x", "1", "gpt-x, gpt-x-chat"))
    above = models(flat("gpt-x", "7"))
    book = book_of(below, above)
    assert charge_of(book, "gpt-x", input=10**6).cost == 7
    assert charge_of(book, "gpt-x-chat", input=10**6).cost == 7
    assert charge_of(book_of(above, below), "gpt-x", input=10**6).cost == 1


def test_a_list_may_extend_another_or_lend_from_it() -> None:
    lender = "schema: 1\nprovider: lender\nmodels:\n" + flat("gpt-x", "3")
    extended = book_of(lender, "schema: 1\nprovider: acme\nextends: lender\nmodels: []")
    assert charge_of(extended, "gpt-x", input=1).status == "priced"
    lent = charge_of(book_of(lender, "schema: 1\nprovider: acme\nfallback: [lender]\nmodels: []"), "gpt-x", input=1)
    assert lent.status == "estimated"
    assert lent.reasons == ("gpt-x is not in acme's price list: at the price of lender",)


# ---- time

DATED = models("""
- id: m
  prices:
  - {from: 2026-01-01, until: 2026-06-01, rates: {input: 1}}
  - {from: 2026-07-01, rates: {input: 2}}
  - {from: 2026-09-01T12:00:00Z, rates: {input: 3}}
""")


@pytest.mark.parametrize(
    ("day", "cost"),
    [
        ("2025-12-31T23:59:59.999999+00:00", None),
        ("2026-01-01", 1),
        ("2026-05-31T23:59:59Z", 1),
        ("2026-06-01", None),
        ("2026-07-01", 2),
        ("2026-09-01T11:59:59Z", 2),
        ("2026-09-01T12:00:00Z", 3),
        ("2099-01-01", 3),
    ],
)
def test_the_price_in_force_is_that_of_the_calls_start(day: str, cost: int | None) -> None:
    charge = charge_of(book_of(DATED), "m", day=day, input=10**6)
    assert charge.cost == cost
    if cost is None:
        assert charge.status == "unpriced"
        assert charge.reasons == ("m has no price at the time of the call",)


def test_one_book_prices_calls_of_any_order_of_time() -> None:
    book = book_of(DATED)
    for day, cost in [("2026-08-01", 2), ("2026-01-02", 1), ("2026-10-01", 3), ("2026-08-02", 2), ("2026-01-03", 1)]:
        assert charge_of(book, "m", day=day, input=10**6).cost == cost


WINDOWS = models("""
- id: m
  prices:
  - rates: {input: 1}
  - windows: [{utc: "01:00-04:00", weekdays: [mon, tue, wed, thu, fri]}]
    rates: {input: 2}
  - windows: [{utc: "22:00-00:30", weekdays: [sat]}]
    rates: {input: 3}
""")


@pytest.mark.parametrize(
    ("day", "cost"),
    [
        ("2026-11-02T00:59:59Z", 1),  # a Monday
        ("2026-11-02T01:00:00Z", 2),
        ("2026-11-02T03:59:59Z", 2),
        ("2026-11-02T04:00:00Z", 1),
        ("2026-11-01T02:00:00Z", 1),  # a Sunday
        ("2026-11-07T21:59:59Z", 1),  # a Saturday
        ("2026-11-07T22:00:00Z", 3),
        ("2026-11-08T00:29:59Z", 3),
        ("2026-11-08T00:30:00Z", 1),
    ],
)
def test_windows_of_the_week(day: str, cost: int) -> None:
    book = book_of(WINDOWS)
    assert charge_of(book, "m", day=day, input=10**6).cost == cost
    for other in ("2026-11-02T02:00:00Z", "2026-11-02T12:00:00Z", "2026-11-07T23:00:00Z", day):
        last = charge_of(book, "m", day=other, input=10**6).cost
    assert last == cost


# ---- context tiers


def tiered(context: str, rates: str = "{input: 1, cache_read: 0.1, output: 10}") -> str:
    return models(f"- id: m\n  prices: [{{rates: {rates}, context: {context}}}]")


def test_the_whole_prompt_is_compared_cache_included() -> None:
    book = book_of(tiered("[{over: 100, mult: {tokens: 2}}]"))
    assert charge_of(book, "m", input=50, cache_read=50, output=1_000).cost == Decimal("0.010055")
    assert charge_of(book, "m", input=50, cache_read=51, output=1_000).cost == Decimal("0.0201102")


def test_an_inclusive_edge() -> None:
    book = book_of(tiered("[{over: 200000, op: gte, mult: {tokens: 2}}]"))
    assert charge_of(book, "m", input=199_999).cost == Decimal("0.199999")
    assert charge_of(book, "m", input=200_000).cost == Decimal("0.4")


def test_the_highest_tier_reached_applies_alone() -> None:
    book = book_of(tiered("[{over: 100, mult: {tokens: 2}}, {over: 1000, mult: {tokens: 3}, estimated: a guess}]"))
    assert charge_of(book, "m", input=1_000).cost == Decimal("0.002")
    beyond = charge_of(book, "m", input=1_001)
    assert beyond.cost == Decimal("0.003003")
    assert beyond.status == "estimated"
    assert beyond.reasons == ("a guess",)


def test_another_quantity_may_be_compared() -> None:
    book = book_of(tiered("[{over: 100, of: output, rates: {output: 20}}]"))
    assert charge_of(book, "m", input=1_000, output=100).cost == Decimal("0.002")
    assert charge_of(book, "m", input=1_000, output=101).cost == Decimal("0.00302")


def test_a_marginal_tier_bills_only_what_is_beyond_its_edge() -> None:
    book = book_of(
        tiered("[{over: 100, scope: marginal, rates: {input: 2}}, {over: 300, scope: marginal, rates: {input: 4}}]")
    )
    assert charge_of(book, "m", input=100).cost == Decimal("0.0001")
    assert charge_of(book, "m", input=101).cost == Decimal("0.000102")
    assert charge_of(book, "m", input=1_000).cost == Decimal("0.0033")  # 100 x 1 + 200 x 2 + 700 x 4
    mixed = charge_of(book, "m", input=100, cache_read=100)  # half of each is beyond the edge
    assert mixed.cost == Decimal("0.00016")


# ---- modes, region, overlays


MODES = models("""
- id: m
  prices:
  - rates: {input: 1, cache_read: 0.1, output: 10, web_search: {rate: 10, per: 1K}}
    context: [{over: 1000, mult: {tokens: 2}}]
    modes:
      service_tier:
        flex: {rates: {input: 0.4}, mult: {output: 0.5}, context: [{over: 5000, rates: {input: 0.9}}]}
        priority: {alias: [fast, On-Demand-Plus], mult: {tokens: 3}, context: []}
        scale: {}
        trial: {mult: {tokens: 0}, estimated: a trial}
      processing:
        batch: {mult: {tokens: 0.5}, excludes: [service_tier]}
        fast: {mult: {"*": 2}}
    region: [{when: [eu, "us-*"], mult: {tokens: 1.1}}, {when: [ch]}]
""")


def test_standard_words_change_nothing() -> None:
    book = book_of(MODES)
    for tier in ("", "default", "standard", "on_demand", "auto", "none", "On-Demand"):
        assert charge_of(book, "m", service_tier=tier, input=1_000).status == "priced"
        assert charge_of(book, "m", processing=tier, input=1_000).cost == Decimal("0.001")


def test_a_mode_with_tiers_of_its_own_has_none_of_the_rows() -> None:
    book = book_of(MODES)
    assert charge_of(book, "m", service_tier="flex", input=5_000, output=100).cost == Decimal("0.0025")
    assert charge_of(book, "m", service_tier="flex", input=5_001, output=100).cost == Decimal("0.0050009")
    assert charge_of(book, "m", service_tier="priority", input=2_000).cost == Decimal("0.006")
    assert charge_of(book, "m", service_tier="fast", input=2_000).cost == Decimal("0.006")
    assert charge_of(book, "m", service_tier="on_demand_plus", input=2_000).cost == Decimal("0.006")


def test_a_mode_without_tiers_of_its_own_keeps_the_rows() -> None:
    assert charge_of(book_of(MODES), "m", processing="batch", input=2_000).cost == Decimal("0.002")


def test_an_excluded_mode_neither_applies_nor_is_missed() -> None:
    book = book_of(MODES)
    plain = charge_of(book, "m", processing="batch", input=100)
    for tier in ("priority", "unheard-of"):
        both = charge_of(book, "m", processing="batch", service_tier=tier, input=100)
        assert (both.cost, both.status) == (plain.cost, "priced")


def test_modes_that_do_not_exclude_each_other_multiply() -> None:
    both = charge_of(book_of(MODES), "m", processing="fast", service_tier="priority", input=100, web_search=1)
    assert both.cost == Decimal("0.0006") + Decimal("0.02")


def test_an_unknown_tier_or_mode_is_estimated_at_the_standard_rate() -> None:
    book = book_of(MODES)
    charge = charge_of(book, "m", service_tier="unheard-of", input=1_000)
    assert (charge.status, charge.cost) == ("estimated", Decimal("0.001"))
    assert charge.reasons == ("service_tier unheard_of is not in the price of m: at its standard rate",)
    assert charge_of(book, "m", processing="quick", input=1_000).status == "estimated"


def test_a_mode_may_be_a_guess() -> None:
    charge = charge_of(book_of(MODES), "m", service_tier="trial", input=1)
    assert (charge.status, charge.reasons) == ("estimated", ("a trial",))


def test_regions_count_where_the_row_declares_them() -> None:
    book = book_of(MODES)
    for region, cost, status in [
        ("eu", "0.0011", "priced"),
        ("EU", "0.0011", "priced"),
        ("us-east-1", "0.0011", "priced"),
        ("ch", "0.001", "priced"),
        ("global", "0.001", "priced"),
        ("not_available", "0.001", "priced"),
        ("mars", "0.001", "estimated"),
    ]:
        charge = charge_of(book, "m", region=region, input=1_000)
        assert (charge.cost, charge.status) == (Decimal(cost), status), region
    without = charge_of(book_of(models(flat("m"))), "m", region="mars", input=1_000)
    assert without.status == "priced"


def test_the_geography_in_the_name_goes_before_the_endpoints_region() -> None:
    text = models("- id: v.m\n  prices: [{rates: {input: 1}, region: [{when: [eu, eu-*], mult: {tokens: 1.1}}]}]")
    book = book_of(text)
    assert charge_of(book, "eu.v.m", region="us-east-1", input=10**6).cost == Decimal("1.1")
    assert charge_of(book, "global.v.m", region="eu-west-1", input=10**6).cost == 1


OVERLAYS = models(
    flat("m", "1"),
    flat("n", "1"),
    top="""
overlays:
- {name: discount, tenant: [acme, "beta-*"], mult: {tokens: 0.9}}
- {name: margin, model: m, mult: {"*": 1.2}}
- {key: k1, from: 2026-06-01, until: 2026-07-01, rates: {input: 5}}
- {provider: other, mult: {"*": 100}}
""",
)


def test_overlays_apply_in_file_order_to_whom_they_name() -> None:
    book = book_of(OVERLAYS)
    assert charge_of(book, "m", input=10**6).cost == Decimal("1.2")
    assert charge_of(book, "m", tenant="acme", input=10**6).cost == Decimal("1.08")
    assert charge_of(book, "n", tenant="beta-7", input=10**6).cost == Decimal("0.9")
    assert charge_of(book, "n", tenant="gamma", input=10**6).cost == 1
    assert charge_of(book, "n", api_key="k1", input=10**6).cost == 1
    assert charge_of(book, "n", api_key="k1", day="2026-06-15", input=10**6).cost == 5
    assert '"overlays":["discount","margin"]' in charge_of(book, "m", tenant="acme", input=1).snapshot


# ---- fees and currencies


def test_fees_by_the_call_by_the_request_with_a_minimum_and_with_free_units() -> None:
    book = book_of(
        models("""
- id: m
  prices:
  - rates:
      web_search: {rate: 10, per: 1K}
      grounded_request: {rate: 35, per: 1K, unit: request}
      audio_second: {rate: 0.017, per: 60, min: 10}
      image: {rate: 0.04, per: 1, free: 2}
      page: {rate: 1, per: 1K, free: 1500/day}
""")
    )
    assert charge_of(book, "m", web_search=3).cost == Decimal("0.03")
    assert charge_of(book, "m", grounded_request=5).cost == Decimal("0.035")
    assert charge_of(book, "m", audio_second=Decimal("0.5")).cost == Decimal("0.002833333333333333")
    assert charge_of(book, "m", audio_second=Decimal("12.25")).cost == Decimal("0.003470833333333333")
    assert charge_of(book, "m", image=2).cost == 0
    assert charge_of(book, "m", image=5).cost == Decimal("0.12")
    quota = charge_of(book, "m", page=2)
    assert (quota.status, quota.cost) == ("estimated", Decimal("0.002"))
    assert quota.reasons == ("1500/day of page are free: priced as if they were used up",)


EURO = models(
    "- id: m\n  currency: EUR\n  prices: [{rates: {input: 1}}]",
    top="""
fx:
- {from: 2026-01-01, currency: EUR, to: USD, rate: 1.08, source: ECB}
- {from: 2026-10-01, currency: EUR, to: USD, rate: 1.125}
""",
)


def test_a_dated_exchange_rate_is_kept_with_the_original_amount() -> None:
    book = book_of(EURO)
    charge = charge_of(book, "m", input=10**6)
    assert (charge.currency, charge.cost) == ("EUR", 1)
    assert (charge.base_currency, charge.cost_base) == ("USD", Decimal("1.125"))
    assert '"fx":{"rate":"1.125","from":"2026-10-01"}' in charge.snapshot
    assert charge_of(book, "m", day="2026-09-30", input=10**6).cost_base == Decimal("1.08")
    before = charge_of(book, "m", day="2025-09-30", input=10**6)
    assert (before.cost, before.cost_base, before.status) == (1, None, "estimated")


def test_decimals_round_only_the_total_once_half_even() -> None:
    text = models("- id: m\n  prices: [{rates: {input: 1, output: 1}}]")
    book = book_of(text, decimals=6)
    half = charge_of(book, "m", input=Decimal("0.5"), output=2)
    assert half.cost == Decimal("0.000002")
    assert sum(half.parts_e18.values()) == 2_500_000_000_000
    assert charge_of(book, "m", input=Decimal("0.5"), output=3).cost == Decimal("0.000004")


# ---- additions

ADDED = models(
    flat("m", "1"),
    "- id: n\n  prices: [{rates: {input: 1, cache_write_12h: 9}, modes: {processing: {batch: {mult: {tokens: 0.4}}}}}]",
    top="""
additions:
- models: ["*"]
  rates: {cache_write_12h: {of: input, mult: 2.5}}
  modes: {processing: {batch: {mult: {tokens: 0.5}}}}
- models: [m]
  from: 2026-06-01
  region: [{when: [eu], mult: {tokens: 1.1}}]
""",
)


def test_an_addition_fills_in_what_a_price_lacks_and_no_more() -> None:
    book = book_of(ADDED)
    assert charge_of(book, "m", cache_write_12h=10**6).cost == Decimal("2.5")
    assert charge_of(book, "m", cache_write_12h=10**6, processing="batch").cost == Decimal("1.25")
    assert charge_of(book, "n", cache_write_12h=10**6).cost == 9
    assert charge_of(book, "n", input=10**6, processing="batch").cost == Decimal("0.4")
    assert charge_of(book, "m", input=10**6, region="eu", day="2026-05-31").cost == 1
    assert charge_of(book, "m", input=10**6, region="eu", day="2026-06-01").cost == Decimal("1.1")
