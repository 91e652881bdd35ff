"""docs/how-to/kubernetes.md: what its manifests say is what Kubernetes takes, and what the programs do."""

from __future__ import annotations

import re
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from spanledger.service.cli import cli
from tests.conftest import free_port
from tests.exporter.conftest import wait
from tests.how_to.conftest import Reader
from tests.pages import blocks
from tests.service.conftest import BIN, ROOT

Json = dict[str, Any]

PAGE = {each.title: each.text for each in blocks("docs/how-to/kubernetes.md") if each.title}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

KUBECTL = f"""#!{sys.executable}
'''kubectl as far as the page uses it; `exec` runs the command here, in the environment of the manifest.'''
import os, sys, pathlib, yaml
verb, *words = sys.argv[1:]
found = {{}}
for file in pathlib.Path.cwd().glob("*.yaml"):
    for each in yaml.safe_load_all(file.read_text()):
        if "kind" in each:
            found[each["kind"].lower() + "/" + each["metadata"]["name"]] = each
for word in words[:words.index("--")] if "--" in words else words:
    assert "/" not in word or word in found, word
    assert not word.endswith(".yaml") or pathlib.Path(word).is_file(), word
if verb == "exec":
    container = found[words[0]]["spec"]["template"]["spec"]["containers"][0]
    secret = found["secret/spanledger"]["stringData"]
    for each in container["env"]:
        value = each.get("value") or secret[each["valueFrom"]["secretKeyRef"]["key"]]
        os.environ[each["name"]] = value.replace("/var/lib/spanledger", os.getcwd())
    command = words[words.index("--") + 1:]
    os.execvp(command[0], command)
"""


def manifests() -> Iterator[Json]:
    for name, text in PAGE.items():
        if name != "environment.yaml":
            yield from ({"spec": {}, **each} for each in yaml.safe_load_all(text))


def pods() -> dict[str, Json]:
    """Name -> template of the pods of what the page makes."""
    return {each["metadata"]["name"]: each["spec"]["template"] for each in manifests() if "template" in each["spec"]}


def container(name: str) -> Json:
    (found,) = pods()[name]["spec"]["containers"]
    return dict(found)


def test_kubernetes_takes_them() -> None:
    kinds = []
    for name, text in PAGE.items():
        for manifest in yaml.safe_load_all(text):
            if name == "environment.yaml":
                pod = {"containers": [{"name": "a", "image": "a", **manifest}]}
                manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod}
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
            kinds.append(manifest["kind"])
    assert sorted(kinds) == ["Deployment", "Deployment", "Pod", "Secret", "Service", "Service", "StatefulSet"]
    with pytest.raises(kubernetes_validate.ValidationError):
        wrong = yaml.safe_load(PAGE["help-desk.yaml"].replace("replicas:", "replicaz:"))
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_their_names_agree_with_one_another() -> None:
    secret = yaml.safe_load(PAGE["secret.yaml"])
    for name in re.findall(r"secretKeyRef: \{name: (\w+), key: ", "".join(PAGE.values())):
        assert name == secret["metadata"]["name"]
    assert set(re.findall(r"key: ([\w-]+)\}", "".join(PAGE.values()))) == set(secret["stringData"])
    for each in manifests():
        if each["kind"] == "Service":
            labels = [pod["metadata"]["labels"] for pod in pods().values()]
            assert each["spec"]["selector"] in labels
            ports = {port["name"]: port["containerPort"] for port in container(each["metadata"]["name"])["ports"]}
            assert {port["targetPort"]: port["port"] for port in each["spec"]["ports"]} == ports
        if "template" in each["spec"]:
            assert each["spec"]["selector"]["matchLabels"] == each["spec"]["template"]["metadata"]["labels"]
            spec = each["spec"]["template"]["spec"]
            claims = [claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", ())]
            volumes = {volume["name"] for volume in spec["volumes"]} | set(claims)
            assert {mount["name"] for mount in spec["containers"][0]["volumeMounts"]} == volumes
    environment = yaml.safe_load(PAGE["environment.yaml"])["env"]
    endpoint = next(each["value"] for each in environment if each["name"].endswith("ENDPOINT"))
    assert endpoint == f"http://spanledger-collector:{container('spanledger-collector')['ports'][0]['containerPort']}"


def test_they_agree_with_image_settings_and_ports() -> None:
    known = set(re.findall(r"\b(?:SPANLEDGER|LLM_USAGE)_[A-Z_]+\b", SETTINGS))
    (user,) = re.findall(r"--uid (\d+)", DOCKERFILE)
    assert 'ENTRYPOINT ["spanledger"]' in DOCKERFILE
    for name, pod in pods().items():
        spec, own = pod["spec"], container(name)
        names = [each["name"] for each in own["env"]]
        assert {each for each in names if each.startswith("SPANLEDGER")} <= known
        home = next(each["value"] for each in own["env"] if each["name"] == "SPANLEDGER_HOME")
        assert Path(home).parent in [Path(mount["mountPath"]) for mount in own["volumeMounts"]]
        if own["name"] == "spanledger":
            assert own["args"][0] in cli.list_commands(click.Context(cli))
            assert str(spec["securityContext"]["runAsUser"]) == user
            for port in own["ports"]:
                assert any(str(each.get("value")) == f"0.0.0.0:{port['containerPort']}" for each in own["env"]), (
                    "a port that nobody listens on"
                )
                assert f":{port['containerPort']}`" in SETTINGS, "not the port of the settings page"
        else:
            assert all((BIN / word).exists() for word in own["command"][:2])
    quantity = next(each for each in manifests() if each["kind"] == "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert int(quantity[0]["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) > 5, "less than the journal"


def test_the_programs_answer_the_probes_and_the_commands_find_what_they_name(
    reader: Callable[..., Reader], tmp_path: Path
) -> None:
    page = reader("kubernetes")
    url = page.env.pop("SPANLEDGER_URL")
    ports = {str(port): str(free_port()) for port in (14317, 14318, 14319)}
    database = "@clickhouse.example.com:8443/spanledger"
    page.swaps = {
        **{f"https://spanledger_{user}:PASSWORD{database}": url for user in ("insert", "owner")},
        **{f"0.0.0.0:{port}": f"127.0.0.1:{own}" for port, own in ports.items()},
    }
    page.write()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"kubectl": KUBECTL, "docker": "#!/bin/sh\necho $*\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    page.env["PATH"] = f"{tools}:{page.env['PATH']}"

    image = container("spanledger-serve")["image"]
    assert page.run("docker build") == f"build --tag {image} .\n"
    assert page.run("docker push") == f"push {image}\n"
    for name in ("statefulset/spanledger-collector", "deployment/spanledger-serve"):
        what = container(name.partition("/")[2])["args"][0]
        page.started(f"kubectl exec {name} -- spanledger {what}")
    for name in ("spanledger-collector", "spanledger-serve"):
        own = container(name)
        named = {port["name"]: ports[str(port["containerPort"])] for port in own["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "httpGet" in own.get(probe, {}):
                asked = own[probe]["httpGet"]
                probed = f"http://127.0.0.1:{named[asked['port']]}{asked['path']}"
                assert wait(lambda probed=probed: status(probed) == 200, 30), page.output.read_text()  # type: ignore[misc]
    page.run("kubectl apply")
    page.run("kubectl rollout")
    assert "calls" in page.run("kubectl exec")
    page.run("kubectl port-forward")
    page.done()


def status(url: str) -> int:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
            return int(answer.status)
    except OSError:
        return 0
