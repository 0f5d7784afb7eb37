"""A configuration in which every key is set: what the reference shows beside each table.

A test loads it, and fails when a key is missing; the values are examples, not advice.
"""

from typing import Final

#: By the table's key in the file; empty for what stands before any table.
TABLES: Final = {
    "": """\
listen = ["127.0.0.1:53", "172.17.0.1:53"]
domains = ["docker", "svc.example"]
ttl = 5
scope = "prefer"
workers = 2
state_dir = "/var/lib/discoverd"
max_stale = 3600
take_over = false
""",
    "docker": """\
[[docker]]
url = "unix:///var/run/docker.sock"
host_address = "192.168.1.10"
only_enabled = false
names = ["{service}.{project}.internal", "{label:com.example.app}"]
resync_seconds = 45

[[docker]]
name = "rack-2"
url = "tcp://192.168.1.11:2376"
host_address = "192.168.1.11"
tls_ca = "/etc/discoverd/ca.pem"
tls_cert = "/etc/discoverd/cert.pem"
tls_key = "/etc/discoverd/key.pem"
tls_verify = true
""",
    "consul": """\
[consul]
url = "https://127.0.0.1:8501"
token = "..."
datacenter = "dc1"
datacenters = ["dc2"]
consistency = "stale"
only_passing = false
tagged_address = "wan"
namespace = "default"
max_watches = 500
tls_ca = "/etc/discoverd/consul-ca.pem"
tls_cert = "/etc/discoverd/client.pem"
tls_key = "/etc/discoverd/client-key.pem"
tls_verify = true
tls_server_name = "server.dc1.consul"
export = true
export_address = "host"
instance = "blue"
deregister_on_stop = true
""",
    "forward": """\
[forward]
upstreams = ["9.9.9.9", "tls://149.112.112.112#dns.quad9.net"]
allow = ["127.0.0.0/8", "10.0.0.0/8"]
tls_ca = "/etc/ssl/certs/ca-certificates.crt"
cache_entries = 10000
cache_bytes = 33554432

[forward.zones]
"corp.example" = ["10.0.0.53", "10.0.1.53"]
"ads.example" = []
""",
    "http": """\
[http]
listen = "127.0.0.1:8053"
token = "..."
""",
    "dns": """\
[dns]
allow_transfer = ["127.0.0.0/8", "192.168.1.53"]
bare_names = true
udp_size = 1232
rate_limit = 100
rate_limit_exempt = ["127.0.0.0/8", "192.168.0.0/16"]
negative_ttl = 5
nsid = "rack-1"
""",
    "health": """\
[health]
when_none = "all"
""",
    "log": """\
[log]
level = "info"
format = "text"
""",
    "query_log": """\
[query_log]
to = "/var/log/discoverd/queries.log"
format = "json"
sample = 100
""",
    "service": """\
[[service]]
name = "db"
scope = "shop"
addresses = ["192.0.2.21", "2001:db8::21"]
port = 5432
ports = ["metrics=9187/tcp"]
tags = ["primary"]
meta = { version = "16" }
ttl = 30
weight = 2
""",
}
