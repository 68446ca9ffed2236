"""Configurations as people have them, each with what becomes of its jobs: N natively, D through discovery, K left on every
scraper, X not taken. ``exact``: whether the import ends with 0.
"""

from __future__ import annotations

from textwrap import dedent
from typing import NamedTuple


class Shape(NamedTuple):
    text: str
    verdicts: dict[str, str]
    files: dict[str, str]
    """Others beside it."""
    exact: bool
    vmagent: bool


def _shape(
    text: str, verdicts: str, *, exact: bool = True, files: dict[str, str] | None = None, vmagent: bool = False
) -> Shape:
    """``verdicts``: ``N: a b; K: c``."""
    found: dict[str, str] = {}
    for part in filter(None, verdicts.split(";")):
        letter, _, names = part.strip().partition(":")
        found |= dict.fromkeys(names.split(), letter)
    beside = {name: dedent(inner).lstrip("\n") for name, inner in (files or {}).items()}
    return Shape(dedent(text).lstrip("\n"), found, beside, exact, vmagent)


SHAPES: dict[str, Shape] = {
    "the one that Prometheus comes with": _shape(
        """
        # my global config
        global:
          scrape_interval: 15s # Set the scrape interval to every 15 seconds. Default is every 1 minute.
        alerting:
          alertmanagers:
            - static_configs:
                - targets:
                  # - alertmanager:9093
        rule_files:
          # - "first_rules.yml"
        scrape_configs:
          # The job name is added as a label `job=<job_name>` to any timeseries scraped from this config.
          - job_name: "prometheus"
            static_configs:
              - targets: ["localhost:9090"]
                labels:
                  app: "prometheus"
        """,
        "K: prometheus",
    ),
    "static groups with comments between": _shape(
        """
        scrape_configs:
        # ---- machines ----

        - job_name: node      # node exporter
          scrape_interval: 30s
          # by rack
          static_configs:
          - targets:          # rack a
            - "10.0.0.1:9100"
            - '10.0.0.2:9100'
            # - 10.0.0.3:9100 is broken
            labels:
              rack: a

          - targets: [10.0.1.1:9100]   # rack b
            labels: {rack: b, "empty": ""}
          # the rest
          metric_relabel_configs:
          - source_labels: [__name__]
            regex: 'go_.*'
            action: drop

        # ---- end ----
        """,
        "N: node",
    ),
    "files": _shape(
        """
        scrape_configs:
          - job_name: node
            file_sd_configs:
              - files: ["targets/node/*.json", /etc/prometheus/sd/node.yml]
                refresh_interval: 1m
            relabel_configs:
              - source_labels: [__address__]
                regex: "([^:]+)(:\\\\d+)?"
                replacement: "${1}"
                target_label: instance
        """,
        "N: node",
    ),
    "two file discoveries in a job": _shape(
        """
        scrape_configs:
          - job_name: node
            file_sd_configs:
              - files: [a.json]
              - files: [b.json]
        """,
        "N: node",
    ),
    "http": _shape(
        """
        scrape_configs:
          - job_name: cmdb
            http_sd_configs:
              - url: https://cmdb.example/prometheus/targets
                refresh_interval: 2m
        """,
        "N: cmdb",
    ),
    "http with a token in a file": _shape(
        """
        scrape_configs:
          - job_name: netbox
            http_sd_configs:
              - url: http://netbox.example/api/plugins/prometheus-sd/devices/
                authorization: {type: Bearer, credentials_file: netbox.token}
        """,
        "N: netbox",
    ),
    "http with oauth2": _shape(
        """
        scrape_configs:
          - job_name: cmdb
            http_sd_configs:
              - url: https://cmdb.example/targets
                oauth2: {client_id: me, client_secret_file: /etc/s, token_url: https://login.example/token}
        """,
        "D: cmdb",
    ),
    "consul": _shape(
        """
        scrape_configs:
          - job_name: consul
            consul_sd_configs:
              - server: consul.example:8500
                services: [web, "api"]
                tags: [prometheus]
            relabel_configs:
              - source_labels: [__meta_consul_tags]
                regex: .*,no-scrape,.*
                action: drop
              - source_labels: [__meta_consul_service]
                target_label: service
        """,
        "N: consul",
    ),
    "consul on this machine, every service": _shape(
        """
        scrape_configs:
          - job_name: consul
            consul_sd_configs: [{server: "localhost:8500"}]
            relabel_configs: [{regex: __meta_consul_service_metadata_(.+), action: labelmap}]
        """,
        "N: consul",
    ),
    "dns": _shape(
        """
        scrape_configs:
          - job_name: srv
            dns_sd_configs: [{names: [_metrics._tcp.example.org]}]
          - job_name: a
            dns_sd_configs:
              - names: ["tasks.app"]
                type: 'A'
                port: 8080
                refresh_interval: 5s
        """,
        "N: srv a",
    ),
    "blackbox": _shape(
        """
        scrape_configs:
          - job_name: 'blackbox http'
            metrics_path: /probe
            params:
              module: [http_2xx]
            static_configs:
              - targets:
                - https://example.com
                - "https://example.org/a?b=c#d"
            relabel_configs: &probe
              - source_labels: [__address__]
                target_label: __param_target
              - source_labels: [__param_target]
                target_label: instance
              - target_label: __address__
                replacement: 127.0.0.1:9115  # The blackbox exporter's real hostname:port.
          - job_name: blackbox icmp
            metrics_path: /probe
            params: {module: [icmp]}
            static_configs: [{targets: [10.0.0.1, 10.0.0.2]}]
            relabel_configs: *probe
        """,
        "N: blackbox-http blackbox-icmp".replace("blackbox-", "blackbox_"),
    ),
    "snmp": _shape(
        """
        scrape_configs:
          - job_name: snmp
            static_configs:
              - targets: [192.168.1.2, switch.local]
            metrics_path: /snmp
            params:
              auth: [public_v2]
              module: [if_mib]
            relabel_configs:
              - {source_labels: [__address__], target_label: __param_target}
              - {source_labels: [__param_target], target_label: instance}
              - {target_label: __address__, replacement: "snmp-exporter:9116"}
          - job_name: snmp_exporter
            static_configs: [{targets: [localhost:9116]}]
        """,
        "N: snmp; K: snmp_exporter",
    ),
    "federation": _shape(
        """
        scrape_configs:
          - job_name: federate
            honor_labels: true
            metrics_path: /federate
            params:
              'match[]':
                - '{job="prometheus"}'
                - '{__name__=~"job:.*"}'
            static_configs: [{targets: ["a:9090", "b:9090"]}]
        """,
        "K: federate",
    ),
    "shards by hashmod": _shape(
        """
        scrape_configs:
          - job_name: node
            file_sd_configs: [{files: [n.json]}]
            relabel_configs:
              - source_labels: [__address__]
                modulus: 4          # shards
                target_label: __tmp_hash
                action: hashmod
              - source_labels: [__tmp_hash]
                regex: ^1$          # this one
                action: keep
              - {source_labels: [dc], target_label: datacenter}
          - job_name: only
            static_configs: [{targets: [a:1]}]
            relabel_configs: [{source_labels: [__address__], modulus: 4, target_label: __tmp, action: hashmod},
              {source_labels: [__tmp], regex: 1, action: keep}]
        """,
        "N: node only",
    ),
    "shards of an operator": _shape(
        """
        scrape_configs:
          - job_name: serviceMonitor/monitoring/api/0
            kubernetes_sd_configs:
              - role: endpoints
                namespaces: {names: [monitoring]}
            relabel_configs:
              - {source_labels: [__meta_kubernetes_service_label_app], regex: (api);true, action: keep}
              - source_labels: [__address__, __tmp_hash]
                target_label: __tmp_hash
                regex: (.+);
                replacement: $1
                action: replace
              - {source_labels: [__tmp_hash], target_label: __tmp_hash, modulus: 2, action: hashmod}
              - {source_labels: [__tmp_hash], regex: $(SHARD), action: keep}
          - job_name: podMonitor/monitoring/newer/0
            kubernetes_sd_configs: [{role: pod}]
            relabel_configs:
              - {source_labels: [__address__, __tmp_hash], target_label: __tmp_hash, regex: (.+);, replacement: $1}
              - {source_labels: [__tmp_hash], target_label: __tmp_hash, modulus: 2, action: hashmod}
              - source_labels:
                - __tmp_hash
                - __tmp_disable_sharding
                regex: $(SHARD);|.+;.+
                action: keep
        """,
        "D: serviceMonitor/monitoring/api/0 podMonitor/monitoring/newer/0",
    ),
    "half a hashmod, and one with a use": _shape(
        """
        scrape_configs:
          - job_name: half
            static_configs: [{targets: [a:1]}]
            relabel_configs: [{source_labels: [__address__], modulus: 4, target_label: __tmp, action: hashmod}]
          - job_name: used
            static_configs: [{targets: [a:1]}]
            relabel_configs:
              - {source_labels: [__address__], modulus: 4, target_label: __tmp, action: hashmod}
              - {source_labels: [__tmp], regex: 1, action: keep}
              - {source_labels: [__tmp], target_label: shard}
          - job_name: good
            static_configs: [{targets: [a:1]}]
        """,
        "X: half used; N: good",
        exact=False,
    ),
    "vmagent": _shape(
        """
        scrape_configs:
          - job_name: app
            scrape_align_interval: 15s
            stream_parse: true
            static_configs: [{targets: ["app:8080"]}]
          - job_name: pods
            kubernetes_sd_configs: [{role: pod}]
            series_limit: 5000
            relabel_configs:
              - if: '{__meta_kubernetes_pod_phase="Running"}'
                action: keep
              - {source_labels: [a, b], action: keep_if_equal}
        """,
        "N: app; D: pods",
        vmagent=True,
    ),
    "vmagent with holders of anchors": _shape(
        """
        x-defaults: &defaults
          scrape_interval: 30s
          scheme: https
        scrape_configs:
          - <<: *defaults
            job_name: app
            static_configs: [{targets: ["app:8080"]}]
        """,
        "N: app",
        vmagent=True,
    ),
    "vmagent's included files and an own discovery": _shape(
        """
        scrape_config_files: [scrape/*.yml]
        scrape_configs:
          - job_name: cloud
            yandexcloud_sd_configs: [{service: compute}]
        """,
        "X: cloud; N: extra",
        exact=False,
        files={"scrape/extra.yml": "- job_name: extra\n  static_configs:\n  - targets: [a:1]\n"},
        vmagent=True,
    ),
    "anchors": _shape(
        """
        global: {scrape_interval: 1m}
        scrape_configs:
          - job_name: a
            static_configs: &hosts
              - targets: [h1:1, h2:1]
            relabel_configs: &rules
              - {source_labels: [__address__], target_label: host, regex: "(.*):.*"}
          - job_name: b
            metrics_path: /b
            static_configs: *hosts
            relabel_configs: *rules
        """,
        "N: a b",
    ),
    "anchors of a job that stays": _shape(
        """
        scrape_configs:
          - job_name: a
            static_configs: &hosts
              - targets: [h1:1, h2:1]
          - job_name: federate
            metrics_path: /federate
            static_configs: *hosts
        """,
        "N: a; K: federate",
    ),
    "merges": _shape(
        """
        scrape_configs:
          - &base
            job_name: base
            scheme: https
            static_configs: [{targets: [h1:1]}]
            relabel_configs:
              - {source_labels: [__address__], target_label: host}
          - <<: *base
            job_name: second
            metrics_path: /second
          - <<: [*base, {metrics_path: /third}]
            job_name: third
            static_configs: [{targets: [h3:1]}]
        """,
        "N: base second third",
    ),
    "included files": _shape(
        """
        global: {scrape_interval: 10s}
        scrape_config_files:
          - "jobs/*.yml"
        scrape_configs:
          - job_name: main
            static_configs: [{targets: [a:1]}]
        """,
        "N: main one two",
        files={
            "jobs/one.yml": """
                scrape_configs:
                  # of team one
                  - job_name: one
                    static_configs: [{targets: [b:1]}]
                """,
            "jobs/two.yml": """
                scrape_configs:
                  - job_name: two
                    file_sd_configs: [{files: [t/*.json]}]
                """,
        },
    ),
    "several documents": _shape(
        "---\nscrape_configs:\n- job_name: a\n  static_configs:\n  - targets: [h:1]\n---\nnothing: here\n", "N: a"
    ),
    "a copy from the status page": _shape(
        """
        global:
          scrape_interval: 15s
          scrape_timeout: 10s
          evaluation_interval: 1m
        scrape_configs:
        - job_name: secured
          honor_timestamps: true
          scrape_interval: 15s
          scrape_timeout: 10s
          metrics_path: /metrics
          scheme: http
          basic_auth:
            username: me
            password: <secret>
          follow_redirects: true
          enable_http2: true
          static_configs:
          - targets:
            - h:1
        """,
        "N: secured",
        exact=False,
    ),
    "secrets in place": _shape(
        """
        remote_write:
          - url: https://me:hunter2-canary@store.example/write
        scrape_configs:
          - job_name: secured
            basic_auth: {username: me, password: 'hunter2-canary $1 ${2}'}
            static_configs: [{targets: [h:1]}]
          - job_name: asked
            http_sd_configs:
              - url: https://cmdb.example/
                basic_auth: {username: me, password: hunter2-canary}
        """,
        "N: secured asked",
    ),
    "lines as on Windows": _shape(
        "global:\r\n  scrape_interval: 15s\r\nscrape_configs:\r\n  - job_name: a\r\n    static_configs:\r\n"
        "      - targets: ['h:1']   # one\r\n      - targets: ['h:2']\r\n    scheme: https\r\n",
        "N: a",
    ),
    "tabs where YAML has them": _shape(
        "scrape_configs:\n- job_name:\ta\t# tab\n  static_configs:\t[{targets:\t[h:1]}]\t# tab\n  scheme:\thttps\n", "N: a"
    ),
    "in brackets": _shape(
        "{global: {scrape_interval: 5s}, scrape_configs: [{job_name: a, static_configs: [{targets: [h:1]}], scheme: https}, "
        "{static_configs: [{targets: [h:2]}], job_name: b}, {job_name: c, dns_sd_configs: [], "
        "file_sd_configs: [{files: [x.yml]}]}]}",
        "N: a b c",
    ),
    "a job that is JSON": _shape(
        """
        {
          "global": {"scrape_interval": "15s"},
          "scrape_configs": [
            {
              "job_name": "json",
              "scheme": "https",
              "static_configs": [
                {"targets": ["h:1"], "labels": {"a": "\\u00e9"}}
              ]
            }
          ]
        }
        """,
        "N: json",
    ),
    "a byte order mark": _shape("\ufeffscrape_configs:\n- job_name: a\n  static_configs: [{targets: [h:1]}]\n", "N: a"),
    "no line break at the end": _shape("scrape_configs:\n- job_name: a\n  static_configs:\n  - targets:\n    - h:1", "N: a"),
    "no jobs": _shape("global:\n  scrape_interval: 15s\nscrape_configs: []\n", ""),
    "nothing but rules": _shape("rule_files: [r.yml]\nremote_read: [{url: 'http://r:1/read'}]\n", ""),
    "everything else": _shape(
        """
        global:
          scrape_interval: 15s
          evaluation_interval: 30s
          external_labels: {monitor: shop, __replica__: one}
          query_log_file: query.log
        rule_files: [rules/a.yml, "rules/*.rules"]
        alerting:
          alert_relabel_configs: [{regex: replica, action: labeldrop}]
          alertmanagers:
            - scheme: https
              static_configs: [{targets: ["alert:9093"]}]
        remote_write:
          - url: http://mimir:9009/api/v1/push
            write_relabel_configs: [{source_labels: [__name__], regex: "up|node_.*", action: keep}]
            queue_config: {max_samples_per_send: 2000}
        remote_read:
          - {url: "http://old:9090/api/v1/read", read_recent: false}
        storage: {tsdb: {out_of_order_time_window: 10m}}
        tracing: {endpoint: "tempo:4317", insecure: true}
        scrape_configs:
          - {job_name: a, static_configs: [{targets: [h:1]}]}
        """,
        "N: a",
    ),
    "clouds": _shape(
        """
        scrape_configs:
          - job_name: ec2
            ec2_sd_configs: [{region: eu-west-1, access_key: AKIA, secret_key: hunter2-canary, port: 9100}]
            relabel_configs: [{source_labels: [__meta_ec2_tag_Name], target_label: instance}]
          - job_name: gce
            gce_sd_configs: [{project: p, zone: europe-west1-b}]
          - job_name: docker
            docker_sd_configs: [{host: "unix:///var/run/docker.sock"}]
          - job_name: swarm
            dockerswarm_sd_configs: [{host: "tcp://swarm:2375", role: tasks}]
          - job_name: hetzner
            hetzner_sd_configs: [{role: hcloud, bearer_token_file: /etc/token}]
          - job_name: eureka
            eureka_sd_configs: [{server: "http://eureka:8761/eureka"}]
        """,
        "D: ec2 gce docker swarm hetzner eureka",
    ),
    "kubernetes": _shape(
        """
        scrape_configs:
          - job_name: kubernetes-nodes
            scheme: https
            tls_config: {ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt}
            bearer_token_file: /var/run/secrets/kubernetes.io/serviceaccount/token
            kubernetes_sd_configs:
            - role: node
            relabel_configs:
            - action: labelmap
              regex: __meta_kubernetes_node_label_(.+)
          - job_name: kubernetes-pods
            kubernetes_sd_configs:
              - role: pod
            relabel_configs:
              - source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape]
                action: keep
                regex: true
              - source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port]
                action: replace
                regex: ([^:]+)(?::\\d+)?;(\\d+)
                replacement: $1:$2
                target_label: __address__
          - job_name: on-my-node
            kubernetes_sd_configs:
              - role: pod
                selectors: [{role: pod, field: spec.nodeName=$(NODE_NAME)}]
        """,
        "D: kubernetes-nodes kubernetes-pods; K: on-my-node",
    ),
    "several discoveries in a job": _shape(
        """
        scrape_configs:
          - job_name: mixed
            static_configs: [{targets: [a:1]}]
            # and
            file_sd_configs:
              - files: [b.json]
            scheme: http
            dns_sd_configs: [{names: [c], type: A, port: 1}]   # and
        """,
        "N: mixed",
    ),
    "the server and others in a job": _shape(
        """
        scrape_configs:
          - job_name: node
            static_configs:
              - targets: [localhost:9100, b:9100]
        """,
        "K: node",
        exact=False,
    ),
    "labels that a slice has itself": _shape(
        """
        scrape_configs:
          - job_name: byfile
            file_sd_configs: [{files: ["t/*.json"]}]
            relabel_configs:
              - source_labels: [__meta_filepath]
                regex: .*/(.*)\\.json
                target_label: team
        """,
        "N: byfile",
        exact=False,
    ),
    "names that are no file names": _shape(
        """
        scrape_configs:
          - {job_name: "a b", static_configs: [{targets: [h:1]}]}
          - {job_name: a/b, static_configs: [{targets: [h:2]}]}
          - {job_name: a-b, static_configs: [{targets: [h:3]}]}
          - {job_name: "日本", static_configs: [{targets: [h:4]}]}
          - {job_name: 007, static_configs: [{targets: [h:5]}]}
          - {job_name: "yes", static_configs: [{targets: [h:6]}]}
        """,
        "N: a_b a/b a-b 日本 007 yes",
    ),
    "a regular expression over lines": _shape(
        """
        scrape_configs:
          - job_name: long
            static_configs:
              - targets: [h:1]
            relabel_configs:
              - source_labels: [__name__]
                regex: >-
                  a|
                  b
                action: drop
              - source_labels: [x]
                regex: "one|\\
                  two"
                action: drop
              - source_labels: [y]
                regex: |
                  multi
                  line
                target_label: z
            metric_relabel_configs: []
        """,
        "N: long",
    ),
    "keys that nobody knows": _shape(
        """
        scrape_configs:
          - job_name: a
            scrape_intervall: 5s
            static_configs: [{targets: [h:1]}]
        """,
        "N: a",
        exact=False,
    ),
    "limits and signed parameters": _shape(
        """
        scrape_configs:
          - job_name: a
            target_limit: 100
            params: {X-Amz-Signature: [abc]}
            static_configs: [{targets: [h:1]}]
        """,
        "N: a",
    ),
    "keys that have no value": _shape(
        """
        scrape_configs:
          - job_name: a
            relabel_configs:
            params:
            static_configs:
              - targets: # none yet
                  # - h:1
                labels:
              - targets: [h:2]
                labels: ~
          - job_name: b
            file_sd_configs: [{files: [b.json], refresh_interval: }]
            dns_sd_configs:
              - names: [x]
                type: A
                port: 1
                refresh_interval:
        """,
        "N: a b",
    ),
    "this machine by all its names": _shape(
        """
        scrape_configs:
          - {job_name: a, static_configs: [{targets: ["LOCALHOST:1"]}]}
          - {job_name: b, static_configs: [{targets: ["127.0.1.1:1"]}]}
          - {job_name: c, static_configs: [{targets: ["ip6-localhost:1"]}]}
          - {job_name: d, static_configs: [{targets: ["[::ffff:127.0.0.1]:1"]}]}
          - {job_name: e, static_configs: [{targets: ["localhost.:1", "0.0.0.0:1", "::1"]}]}
          - {job_name: f, static_configs: [{targets: ["localhost-of-db:1", "128.0.0.1:1"]}]}
        """,
        "K: a b c d e; N: f",
    ),
    "files of Windows": _shape(
        """
        scrape_configs:
          - job_name: a
            file_sd_configs: [{files: ['C:\\prometheus\\targets\\*.json']}]
            tls_config: {ca_file: 'C:\\ca.pem'}
        """,
        "N: a",
        exact=False,
    ),
    "tags that say that it is a text": _shape(
        """
        scrape_configs:
          - job_name: !!str 7
            static_configs:
              - targets: [! "a.example:1", !!str b.example:1, !<tag:yaml.org,2002:str> c.example:1]
                labels:
                  on: !!str 1
                  lines: !!str |
                    one
                    two
                  none: !!str   # nothing
        """,
        "N: 7",
    ),
    "a job without targets, and empty ones": _shape(
        """
        scrape_configs:
          - job_name: none
          - job_name: nothing
            static_configs:
          - job_name: empty
            static_configs: []
            file_sd_configs: [{files: [a.json]}]
        """,
        "K: none nothing; N: empty",
    ),
}
