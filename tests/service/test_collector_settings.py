"""The collector's settings: a wrong one is named, and nothing listens beyond loopback without protection."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from spanledger.service.collector.settings import MIB, CollectorSettings, load
from spanledger.service.part_settings import Address
from spanledger.settings import SettingsError
from spanledger.settings import load as load_all
from tests.service.conftest import spanledger

NAME = "SPANLEDGER_COLLECTOR"


def chosen(tmp_path: Path, text: str = "", **environ: str) -> CollectorSettings:
    if text:
        (tmp_path / "config.yaml").write_text(text)
    everything = {"SPANLEDGER_HOME": str(tmp_path), **{f"{NAME}_{name}": value for name, value in environ.items()}}
    return load(load_all(everything), everything)


def test_defaults_listen_on_loopback_beside_the_ports_of_others(tmp_path):
    found = chosen(tmp_path)
    assert (str(found.grpc), str(found.http)) == ("127.0.0.1:14317", "127.0.0.1:14318")
    assert (found.enabled, found.token, found.forward) == (True, "", "")


def test_the_environment_wins_over_the_file(tmp_path):
    text = "settings: {collector: {http: off, max_requests: 8, max_request_bytes: 1MiB, forward_headers: {A: b}}}"
    found = chosen(
        tmp_path, text, MAX_REQUESTS="9", MAX_HELD_BYTES="2 MB", GRPC="[::1]:0", FORWARD_HEADERS="k=a%20b,l=c"
    )
    assert (found.http, found.grpc) == (None, Address("::1", 0))
    assert (found.max_requests, found.max_request_bytes, found.max_held_bytes) == (9, MIB, 2 * MIB)
    assert found.forward_headers == {"k": "a b", "l": "c"}
    assert chosen(tmp_path).forward_headers == {"a": "b"}
    assert load(load_all({"SPANLEDGER_HOME": str(tmp_path)}), {NAME: "no"}).enabled is False


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"GRPC": "14317"}, "SPANLEDGER_COLLECTOR_GRPC='14317': use HOST:PORT"),
        ({"HTTP": "localhost:99999"}, "SPANLEDGER_COLLECTOR_HTTP='localhost:99999': use HOST:PORT"),
        ({"GRPC": "off", "HTTP": "off"}, "both off"),
        ({"WORKERS": "0"}, "SPANLEDGER_COLLECTOR_WORKERS='0': use a whole number above 0"),
        ({"MAX_REQUEST_BYTES": "many"}, "SPANLEDGER_COLLECTOR_MAX_REQUEST_BYTES='many': use a number of bytes"),
        ({"MAX_REQUEST_BYTES": "1GiB"}, "could never be taken"),
        ({"REQUEST_TIMEOUT": "nan"}, "SPANLEDGER_COLLECTOR_REQUEST_TIMEOUT='nan': use a number of seconds"),
        ({"TLS_CERT": "/no/such/file"}, "SPANLEDGER_COLLECTOR_TLS_CERT='/no/such/file': cannot read it"),
        ({"FORWARD": "jaeger:4317"}, "SPANLEDGER_COLLECTOR_FORWARD='jaeger:4317': use a URL that begins with grpc://"),
        ({"FORWARD": "grpc://jaeger"}, "use grpc://HOST:PORT"),
        ({"FORWARD_HEADERS": "secret"}, "SPANLEDGER_COLLECTOR_FORWARD_HEADERS: a header is not name=value"),
        ({"TOKEN": "two words"}, "SPANLEDGER_COLLECTOR_TOKEN: the token has blanks"),
        ({"TOKENFILE": "x"}, "SPANLEDGER_COLLECTOR_TOKENFILE is no setting"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path, environ, said):
    with pytest.raises(SettingsError) as caught:
        chosen(tmp_path, **environ)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_wrong_key_of_the_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="settings.collector.max_request is no setting; known: .*max_requests"):
        chosen(tmp_path, "settings: {collector: {max_request: 1}}")
    with pytest.raises(SettingsError, match="config.yaml: settings.collector.enabled is 3: use true or false"):
        chosen(tmp_path, "settings: {collector: {enabled: 3}}")
    with pytest.raises(SettingsError, match="settings.collector.token is no setting"):
        chosen(tmp_path, "settings: {collector: {token: abc}}")  # a file that others may read


@pytest.mark.parametrize("address", ["0.0.0.0:4317", "[::]:4317", "10.1.2.3:4317", "collector:4317"])
def test_beyond_loopback_it_wants_tls_or_a_token(tmp_path, address):
    with pytest.raises(SettingsError, match="is not loopback: anybody who reaches it could write to the ledger"):
        chosen(tmp_path, GRPC=address)
    assert str(chosen(tmp_path, GRPC=address, TOKEN="abc").grpc) == address


def test_a_certificate_and_its_key_go_together(tmp_path):
    (tmp_path / "pem").write_text("")
    with pytest.raises(SettingsError, match="SPANLEDGER_COLLECTOR_TLS_KEY is not set"):
        chosen(tmp_path, TLS_CERT=str(tmp_path / "pem"))
    with pytest.raises(SettingsError, match="SPANLEDGER_COLLECTOR_TLS_CLIENT_CA needs"):
        chosen(tmp_path, TLS_CLIENT_CA=str(tmp_path / "pem"))


def test_the_token_file_is_for_its_owner_alone(tmp_path):
    file = tmp_path / "token"
    file.write_text("abc\n")
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="others can read it, mode 640; chmod 600"):
        chosen(tmp_path, TOKEN_FILE=str(file))
    file.chmod(0o600)
    found = chosen(tmp_path, TOKEN_FILE=str(file))
    assert found.token == "abc"
    assert "abc" not in repr(found)
    file.write_text("\n")
    with pytest.raises(SettingsError, match="it is empty"):
        chosen(tmp_path, TOKEN_FILE=str(file))


@pytest.mark.parametrize("name", ["GRPC", "HTTP"])
def test_a_port_that_is_taken_is_one_line_that_names_it(tmp_path, name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = "HTTP" if name == "GRPC" else "GRPC"
        more = {f"{NAME}_{name}": f"127.0.0.1:{port}", f"{NAME}_{other}": "off"}
        result = spanledger(tmp_path / "home", "collector", **more)
    assert result.returncode == 1
    assert result.stderr.startswith(f"spanledger: port {port} is taken: set {NAME}_{name} to another")
    assert result.stderr.count("\n") == 1


def test_a_wrong_certificate_is_one_line_that_names_it(tmp_path):
    (tmp_path / "pem").write_text("no certificate")
    more = {f"{NAME}_TLS_CERT": str(tmp_path / "pem"), f"{NAME}_TLS_KEY": str(tmp_path / "pem")}
    result = spanledger(tmp_path / "home", "collector", "--grpc", "127.0.0.1:0", "--http", "off", **more)
    assert result.returncode == 1
    assert "are no certificate and its key, in PEM" in result.stderr
    assert result.stderr.count("\n") == 1
