"""How to reach a Prometheus: what contradicts itself is said, with the field and what helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from frostline_operator.kubernetes.settings import SettingsError, load_settings
from frostline_operator.scores.prometheus import PrometheusClient, QueryError
from frostline_operator.scores.settings import PrometheusSettings

URL = "https://prometheus.example.com"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"bearerTokenFile": "/t"}, r"prometheus\.url: is missing"),
    ({"url": "prometheus:9090"}, r"prometheus\.url: .* is no http or https address"),
    ({"url": "http://"}, r"prometheus\.url: .* is no http or https address"),
    ({"url": "http://x:port"}, r"prometheus\.url: .* is no http or https address"),
    ({"url": "https://me:secret@x"}, r"prometheus\.url: has credentials in it"),
    ({"url": "https://x/?tenant=1"}, r"prometheus\.url: must end before any \?"),
    ({"url": "https://x/api/v1"}, r"prometheus\.url: must end before /api/v1"),
    ({"url": URL, "bearerTokenFile": "/t", "username": "u", "passwordFile": "/p"}, r"bearerTokenFile: .* keep one"),
    ({"url": URL, "username": "u"}, r"passwordFile: is missing"),
    ({"url": URL, "passwordFile": "/p"}, r"username: is missing"),
    ({"url": URL, "caFile": "/c", "insecureSkipVerify": True}, r"insecureSkipVerify: makes caFile useless"),
    ({"url": "http://x", "caFile": "/c"}, r"caFile: is for https"),
    ({"url": URL, "headers": {"Authorization": "x"}}, r"headers\.Authorization: is set by the operator"),
    ({"url": URL, "headers": {"X Tenant": "x"}}, r"headers\.X Tenant: is no name"),
    ({"url": URL, "headers": {"X-Tenant": "a\nb"}}, r"headers\.X-Tenant: has characters"),
    ({"url": URL, "timeoutSeconds": 0}, r"timeoutSeconds: must be above 0"),
    ({"url": URL, "bearerToken": "x"}, r"bearerToken: there is no such setting; did you mean bearerTokenFile\?"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_is_wrong_is_said_with_its_field(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps({"prometheus": given}))
    with pytest.raises(SettingsError, match=message):
        load_settings(file)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("tickSeconds: 0\nprometheus: {url: 'http://x', caFile: c, username: u}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert {line.split(": ")[1] for line in str(caught.value).splitlines()} == {
        "tickSeconds", "prometheus.caFile", "prometheus.passwordFile",
    }  # fmt: skip


def test_a_file_that_is_no_settings_is_said(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    for text in ("- a\n- b\n", "a: [", "\x00"):
        file.write_text(text)
        with pytest.raises(SettingsError, match=r"settings\.yaml"):
            load_settings(file)
    with pytest.raises(SettingsError, match="nowhere"):
        load_settings(tmp_path / "nowhere.yaml")


def test_the_url_of_the_command_line_goes_over_the_files(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("prometheus: {url: 'http://a', timeoutSeconds: 3}\n")
    made = load_settings(file, "http://b:9090").prometheus
    assert (made.url, made.timeout_seconds) == ("http://b:9090", 3.0)
    assert load_settings(None, "http://b").prometheus.url == "http://b"
    assert load_settings(None).prometheus.url is None


def test_files_that_are_not_there_are_said_before_anything_starts(tmp_path: Path) -> None:
    for name, more in (("bearerTokenFile", {}), ("passwordFile", {"username": "u"}), ("caFile", {})):
        settings = PrometheusSettings.model_validate({"url": URL, name: str(tmp_path / "secret"), **more})
        with pytest.raises(QueryError, match=rf"prometheus\.{name}: .*secret"):
            PrometheusClient(settings).check_files()


def test_a_secret_of_several_lines_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a\nb\n")
    with pytest.raises(QueryError, match="one line"):
        PrometheusClient(PrometheusSettings(url=URL, bearer_token_file=str(token))).check_files()
    token.write_text("right\n")
    PrometheusClient(PrometheusSettings(url=URL, bearer_token_file=str(token))).check_files()
