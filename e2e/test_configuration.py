"""The real programs accept what is shipped: collector-config.yaml with its variants, and compose.yaml."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.service.conftest import ROOT

from e2e.stack import built
from e2e.variants import CONFIG, variant

SECRETS = ("CLICKHOUSE_PASSWORD", "CLICKHOUSE_READER_PASSWORD", "SPANLEDGER_COLLECTOR_TOKEN", "GRAFANA_PASSWORD")


def validate(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [built("otelcol"), "validate", "--config", config],
        cwd=config.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("names", [(), ("tail_sampling",), ("filter/no_llm",), ("filter/no_llm", "tail_sampling")])
def test_the_collector_accepts_its_configuration(names, tmp_path):
    result = validate(variant(tmp_path, *names))
    assert (result.returncode, result.stderr) == (0, "")


def test_the_collector_says_what_is_wrong(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.read_text().replace("IsMatch(", "NoSuchFunction("))
    result = validate(config)
    assert result.returncode != 0
    assert "NoSuchFunction" in result.stderr


def test_tail_sampling_thins_what_goes_to_jaeger_alone(tmp_path):
    pipelines = yaml.safe_load(variant(tmp_path, "tail_sampling").read_text())["service"]["pipelines"]
    assert "tail_sampling" in pipelines["traces/jaeger"]["processors"]
    assert "tail_sampling" not in pipelines["traces/ledger"]["processors"]


def test_what_one_filter_keeps_the_other_drops(tmp_path):
    processors = yaml.safe_load(variant(tmp_path, "filter/no_llm").read_text())["processors"]
    (only,) = processors["filter/only_llm"]["trace_conditions"]
    assert only == f"not {processors['filter/no_llm']['trace_conditions'][0]}"


def compose(**env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [built("docker-compose"), "--file", ROOT / "compose.yaml", "config", "--format", "json"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_docker_compose_accepts_compose_yaml():
    result = compose(**{name: f"{name.lower()}-1" for name in SECRETS})
    assert (result.returncode, result.stderr) == (0, "")
    services = yaml.safe_load(result.stdout)["services"]
    assert {"clickhouse", "collector", "grafana", "jaeger", "spanledger"} <= set(services)
    published = {
        (name, port.get("host_ip")) for name, service in services.items() for port in service.get("ports") or ()
    }
    assert {address for _, address in published} == {"127.0.0.1"}
    assert services["collector"]["environment"]["SPANLEDGER_COLLECTOR_TOKEN"] == "spanledger_collector_token-1"


@pytest.mark.parametrize("missing", SECRETS)
def test_docker_compose_asks_for_a_secret_that_is_not_set(missing):
    result = compose(**{name: "x" for name in SECRETS if name != missing})
    assert result.returncode != 0
    assert missing in result.stderr
    assert "docs/collector-pipeline.md" in result.stderr


def test_what_is_tested_is_what_compose_starts():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    images = {name: service.get("image", "").partition(":")[2] for name, service in services.items()}
    manifest = yaml.safe_load((ROOT / "e2e" / "collector" / "manifest.yaml").read_text())
    assert images["collector"] == manifest["dist"]["version"]
    said = subprocess.run([built("jaeger"), "version"], capture_output=True, text=True, check=True).stdout
    assert f'"gitVersion":"v{images["jaeger"]}"' in said.replace(" ", "")


def test_compose_mounts_files_that_are_there():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    mounted = [
        mount.partition(":")[0]
        for service in services.values()
        for mount in service.get("volumes") or ()
        if mount[0] == "."
    ]
    assert len(mounted) >= 4
    assert [path for path in mounted if not (ROOT / path).exists()] == []
