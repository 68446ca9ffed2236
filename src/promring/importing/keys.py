"""The keys that are known: Prometheus' (to 3.5), vmagent's, and which of them hold secrets, paths or discoveries."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DISCOVERIES = frozenset(
    f"{name}_sd_configs"
    for name in _words(
        "aws azure consul digitalocean docker dockerswarm dns ec2 ecs elasticache eureka file gce hetzner http ionos "
        "kubernetes kuma lightsail linode marathon msk nerve nomad oci openstack outscale ovhcloud puppetdb rds scaleway "
        "serverset stackit triton uyuni vultr xds"
    )
) | {"static_configs"}
VMAGENT_DISCOVERIES = frozenset(("consulagent_sd_configs", "yandexcloud_sd_configs"))
"""Which no Prometheus has."""
NATIVE = frozenset(("static_configs", "file_sd_configs", "http_sd_configs", "consul_sd_configs", "dns_sd_configs"))
"""Which promring has itself."""

TOP = _words(
    "global scrape_configs scrape_config_files rule_files alerting remote_write remote_read storage tracing otlp runtime"
)
CLIENT = _words(
    "basic_auth authorization oauth2 bearer_token bearer_token_file tls_config follow_redirects enable_http2 proxy_url "
    "no_proxy proxy_from_environment proxy_connect_header http_headers"
)
JOB = (
    _words(
        "job_name honor_labels honor_timestamps track_timestamps_staleness params scrape_interval scrape_timeout "
        "scrape_protocols fallback_scrape_protocol scrape_classic_histograms scrape_native_histograms "
        "always_scrape_classic_histograms convert_classic_histograms_to_nhcb metrics_path scheme enable_compression "
        "body_size_limit sample_limit target_limit label_limit label_name_length_limit label_value_length_limit "
        "native_histogram_bucket_limit native_histogram_min_bucket_factor keep_dropped_targets "
        "metric_name_validation_scheme metric_name_escaping_scheme scrape_failure_log_file extra_scrape_metrics "
        "relabel_configs metric_relabel_configs"
    )
    | CLIENT
    | DISCOVERIES
)
NEWER = _words(
    "scrape_config_files otlp runtime scrape_protocols fallback_scrape_protocol scrape_classic_histograms "
    "scrape_native_histograms always_scrape_classic_histograms convert_classic_histograms_to_nhcb enable_compression "
    "track_timestamps_staleness keep_dropped_targets native_histogram_bucket_limit native_histogram_min_bucket_factor "
    "metric_name_validation_scheme metric_name_escaping_scheme scrape_failure_log_file extra_scrape_metrics no_proxy "
    "proxy_from_environment proxy_connect_header http_headers body_size_limit sample_limit target_limit label_limit "
    "label_name_length_limit label_value_length_limit rule_query_offset sigv4 alert_relabel_configs azuread google_iam "
    "protobuf_message round_robin_dns sample_age_limit stale_series_compaction_threshold retention username_file ca cert "
    "key scrape_http_client_config"
)
"""Which came after Prometheus 2.42: an older program refuses them."""
VMAGENT_JOB = (
    _words(
        "scrape_align_interval scrape_offset series_limit stream_parse disable_compression disable_keepalive "
        "no_stale_markers relabel_debug metric_relabel_debug max_scrape_size headers denied_headers proxy_authorization "
        "proxy_basic_auth proxy_bearer_token proxy_bearer_token_file proxy_headers proxy_oauth2 proxy_tls_config "
        "enable_http1"
    )
    | VMAGENT_DISCOVERIES
)
RELABEL = _words("source_labels separator target_label regex modulus replacement action")
VMAGENT_RELABEL = _words("if match labels")
ACTIONS = _words("replace keep drop keepequal dropequal hashmod labelmap labeldrop labelkeep lowercase uppercase")

VMAGENT_ACTIONS = _words(
    "keep_if_equal drop_if_equal keep_if_contains drop_if_contains replace_all labelmap_all keep_metrics drop_metrics "
    "graphite"
)
VMAGENT_GLOBAL = _words("relabel_configs metric_relabel_configs")
GLOBAL = VMAGENT_GLOBAL | _words(
    "scrape_interval scrape_timeout scrape_protocols evaluation_interval rule_query_offset query_log_file external_labels "
    "scrape_failure_log_file body_size_limit sample_limit target_limit label_limit label_name_length_limit "
    "label_value_length_limit keep_dropped_targets metric_name_validation_scheme metric_name_escaping_scheme "
    "scrape_native_histograms convert_classic_histograms_to_nhcb always_scrape_classic_histograms extra_scrape_metrics "
    "scrape_http_client_config"
)

SERVERS = _words("server servers url host api_server endpoint identity_endpoint")
"""Keys of discoveries that say who is asked."""
THROUGH = _words("proxy_url token_url")
"""Keys that say who is asked, or what is gone through, before that."""
SERVERS_BY_DEFAULT = {"consul_sd_configs": "localhost:8500", "nomad_sd_configs": "localhost:4646"}
"""Who is asked where no ``server`` is named."""
SECRET_KEYS = _words(
    "password secret secrets credentials bearer_token token client_secret secret_key access_key api_key "
    "application_credential_secret adminpass auth_token service_account_key proxy_bearer_token application_secret "
    "consumer_key client_certificate_key"
)
COPIED_SECRET = "<secret>"  # noqa: S105  what Prometheus shows in place of one
_SOUNDS_SECRET = re.compile(
    r"pass(word|wd|phrase)?$|token|secret|credential|api_?key|signature|cookie|^(__param_)?(auth|authorization|sig)$",
    re.IGNORECASE,
)
"""Names that people choose: of parameters, labels, headers."""
_NAMES_ANOTHER_THING = ("_file", "_url", "_ref")
_FREE = re.compile(
    r"(^|[.\])])(http_headers\.[^\s]*\.values|proxy_connect_header|endpoint_params|headers|proxy_headers)(?=[.\[]|$)"
)
"""Where values are sent as they stand: below these keys each may be a secret, whatever it is called."""
_QUERY_IN_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s?#]*\?.")
_CREDENTIALS_IN_URL = re.compile(r"://[^\s@]+@")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|[^/]*\\")
_PEM = "PRIVATE KEY-----"
_PLACE_HOLDER = r"%\{[^}]+\}|\$\([A-Za-z_]\w*\)|\$\{[A-Za-z_]\w*\}|\{\{[^{}]+\}\}"
ENVIRONMENT = re.compile(_PLACE_HOLDER)
"""What vmagent (``%{NAME}``), the operators' reloaders (``$(NAME)``), ``envsubst`` (``${NAME}``) and templates
(``{{ name }}``) put in before the server reads it.
"""


def is_discovery(key: str) -> bool:
    """Whether a key of a job finds targets, one that is not known yet, too."""
    return key == "static_configs" or key.endswith("_sd_configs")


def is_secret(path: str, key: str, text: str) -> bool:
    """Whether ``text``, as a value of ``key`` at ``path``, must not be shown."""
    if not text or text == COPIED_SECRET:
        return False
    if key.lower() in SECRET_KEYS or _PEM in text or _CREDENTIALS_IN_URL.search(text):
        return True
    by_name = _SOUNDS_SECRET.search(key) is not None and not key.lower().endswith(_NAMES_ANOTHER_THING)
    return by_name or _FREE.search(path) is not None


def may_hold_secret(path: str, key: str, text: str) -> bool:
    """The same, or a URL that may be shown but for its query."""
    return is_secret(path, key, text) or _QUERY_IN_URL.search(text) is not None


def is_of_windows(path: str) -> bool:
    """Whether a path names a file on a machine with Windows only."""
    return _WINDOWS.match(path) is not None


def is_path(key: str) -> bool:
    """Whether Prometheus reads the value of ``key`` as a path that may be relative."""
    return key.endswith("_file") or key == "files"


def nearest(key: str, known: Iterable[str]) -> str:
    """``; nearest known: x``, or nothing."""
    found = difflib.get_close_matches(key, sorted(known), 1, 0.7)
    return f", the nearest known is {found[0]}" if found else ""
