from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING

import pytest

from discoverd.config import Config, ConfigError, Endpoint, PortSpec, load
from discoverd.config.machine import LOCAL_NETWORKS, Machine
from discoverd.config.settings import SETTINGS, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Flags = Mapping[str, str | Sequence[str]]

MACHINE = Machine(interfaces=(ip_interface("203.0.113.5/24"),), resolv_conf="nameserver 9.9.9.9\n")


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


class Reader:
    """Loads from a folder of its own, whatever the machine and its environment are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        text: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        machine: Machine = MACHINE,
        flags: Flags | None = None,
        **more: str | Sequence[str],
    ) -> Config:
        if text is not None:
            data = text if isinstance(text, bytes) else text.encode()
            (self.folder / "discoverd.toml").write_bytes(data)
        return load({**(flags or {}), **more}, env or {}, self.folder, machine)

    def faults(
        self,
        text: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        **flags: str | Sequence[str],
    ) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            self(text, env, flags=flags)
        assert all(line.isprintable() for line in caught.value.lines)
        assert caught.value.line == str(caught.value) == caught.value.lines[0]
        return caught.value.lines


def test_defaults(read: Reader) -> None:
    config = read()
    assert config.path is None
    assert config.listen == (Endpoint(ip_address("127.0.0.1"), 1053),)
    assert (config.domains, config.ttl, config.scope, config.workers) == (("docker",), 5, "prefer", 1)
    assert config.http.listen == Endpoint(ip_address("127.0.0.1"), 8053)
    assert (config.docker, config.consul, config.services) == ((), None, ())
    assert config.forward.upstreams == (Endpoint(ip_address("9.9.9.9"), 53),)
    assert config.forward.allow == (*LOCAL_NETWORKS, ip_network("203.0.113.0/24"))
    assert (config.dns.udp_size, config.dns.negative_ttl, config.dns.bare_names) == (1232, 5, True)
    assert config.dns.allow_transfer == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert (config.health.when_none, config.log.level, config.log.format) == ("all", "info", "text")
    assert set(config.origins.values()) == {"default"}


WHOLE_FILE = """
listen = ["0.0.0.0:53", "[::1]:53"]
domains = ["Docker.", "svc.example"]
ttl = 30
scope = "strict"
workers = 2
state_dir = "state"

[[docker]]
url = "tcp://10.0.0.9:2376"
name = "edge"
host_address = "10.0.0.9"
tls_ca = "ca.pem"
tls_cert = "/etc/cert.pem"
tls_key = "key.pem"
tls_verify = false
only_enabled = true
names = ["{service}.{project}", "{label:app}"]
resync_seconds = 60

[consul]
url = "http://127.0.0.1:8500/"
token = "hush"
datacenter = "DC1"
datacenters = ["dc2", "DC3"]
consistency = "consistent"
only_passing = true
tagged_address = "wan"
namespace = "team"
max_watches = 500
export = true
export_address = "container"
instance = "edge"
deregister_on_stop = false

[forward]
upstreams = ["1.1.1.1", "[2620:fe::fe]:5353"]
allow = ["10.0.0.0/8"]
[forward.zones]
"Corp.Example." = ["10.0.0.53"]

[http]
listen = "[::1]:8080"
token = "hush too"

[dns]
allow_transfer = []
bare_names = false
nsid = "ns 1, Zürich"
udp_size = 4096
negative_ttl = 0

[health]
when_none = "empty"

[log]
level = "debug"
format = "json"

[[service]]
name = "Web"
scope = "shop"
addresses = ["10.0.0.1", "2001:DB8::1"]
port = 80
ports = [80, 81, "http=8080/tcp", "53/UDP", { name = "metrics", port = 9100 }]
tags = ["primary"]
meta = { version = 1.5, canary = true }
ttl = 0
weight = 0
"""


def test_everything_a_file_can_say(read: Reader) -> None:
    config = read(WHOLE_FILE)
    assert config.path == read.folder / "discoverd.toml"
    assert [str(endpoint) for endpoint in config.listen] == ["0.0.0.0:53", "[::1]:53"]
    assert config.domains == ("docker", "svc.example")
    assert (config.ttl, config.scope, config.workers) == (30, "strict", 2)
    assert config.state_dir == read.folder / "state"
    (engine,) = config.docker
    assert (engine.url, engine.name, engine.host_address) == (
        "tcp://10.0.0.9:2376",
        "edge",
        ip_address("10.0.0.9"),
    )
    assert engine.tls_ca == str(read.folder / "ca.pem")
    assert engine.tls_cert == "/etc/cert.pem"
    assert (engine.tls_verify, engine.only_enabled, engine.resync_seconds) == (False, True, 60)
    assert engine.names == ("{service}.{project}", "{label:app}")
    assert config.consul is not None
    assert (config.consul.url, config.consul.datacenter, config.consul.export) == (
        "http://127.0.0.1:8500",
        "dc1",
        True,
    )
    assert config.consul.token is not None
    assert config.consul.token.get_secret_value() == "hush"
    consul = config.consul
    assert (consul.datacenters, consul.consistency, consul.only_passing) == (
        ("dc2", "dc3"),
        "consistent",
        True,
    )
    assert (consul.tagged_address, consul.namespace, consul.max_watches) == ("wan", "team", 500)
    assert (consul.export_address, consul.instance, consul.deregister_on_stop) == ("container", "edge", False)
    assert [str(server) for server in config.forward.upstreams] == ["1.1.1.1:53", "[2620:fe::fe]:5353"]
    assert config.forward.allow == (ip_network("10.0.0.0/8"),)
    assert config.forward.zones == {"corp.example": (Endpoint(ip_address("10.0.0.53"), 53),)}
    assert str(config.http.listen) == "[::1]:8080"
    assert config.dns.allow_transfer == ()
    assert (config.dns.bare_names, config.dns.udp_size, config.dns.negative_ttl) == (False, 4096, 0)
    assert config.dns.nsid == "ns 1, Zürich"
    assert (config.health.when_none, config.log.level, config.log.format) == ("empty", "debug", "json")
    (service,) = config.services
    assert (service.name, service.scope, service.tags) == ("web", "shop", ("primary",))
    assert service.addresses == (ip_address("10.0.0.1"), ip_address("2001:db8::1"))
    assert service.all_ports == (
        PortSpec(80),
        PortSpec(81),
        PortSpec(8080, name="http"),
        PortSpec(53, "udp"),
        PortSpec(9100, name="metrics"),
    )
    assert (service.meta, service.ttl, service.weight) == ((("version", "1.5"), ("canary", "true")), 0, 0)


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default(read: Reader) -> None:
    env = {"DISCOVERD_TTL": "20", "DISCOVERD_LISTEN": "127.0.0.1:20, 127.0.0.1:21,", "DISCOVERD_DOMAIN": ""}
    text = 'ttl = 10\nlisten = ["127.0.0.1:10"]\ndomains = ["file"]\nworkers = 3\n'
    config = read(text, env, ttl="30")
    assert config.ttl == 30
    assert [endpoint.port for endpoint in config.listen] == [20, 21]
    assert config.domains == ("file",)
    assert config.workers == 3
    assert config.origins["ttl",] == "--ttl"
    assert config.origins["listen",] == "DISCOVERD_LISTEN"
    assert config.origins["domains",] == "discoverd.toml:3"
    assert config.origins["scope",] == "default"


GIVEN = {
    "listen": "127.0.0.1:99", "domain": "example", "ttl": "99", "docker": "tcp://10.9.9.9:2375",
    "consul": "http://10.9.9.9:8500", "upstream": "10.9.9.9", "allow_recursion": "10.9.0.0/16",
    "http": "127.0.0.1:99", "state_dir": "/nine", "workers": "9", "scope": "strict", "log_level": "error",
    "log_format": "json", "take_over": "true",
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.flag)
def test_every_flag_has_a_variable_and_both_say_the_same(setting: Setting, read: Reader) -> None:
    text = GIVEN[setting.name]
    by_flag = read(flags={setting.name: (text,) if setting.repeatable else text})
    by_variable = read(env={setting.variable: text})
    assert by_flag.redacted() == by_variable.redacted() != read().redacted()


def test_off(read: Reader) -> None:
    machine = Machine(resolv_conf="nameserver 9.9.9.9\n", has_docker_socket=True)
    names = ("docker", "consul", "upstream", "http", "state_dir", "allow_recursion")
    config = read(WHOLE_FILE, machine=machine, flags=dict.fromkeys(names, "off"))
    assert (config.docker, config.consul, config.http.listen, config.state_dir) == ((), None, None, None)
    assert (config.forward.upstreams, config.forward.allow) == ((), ())
    assert list(config.forward.zones) == ["corp.example"]
    keys = ("docker", "state_dir", "consul.url", "http.listen", "forward.upstreams")
    config = read("".join(f'{key} = "off"\n' for key in keys), machine=machine)
    assert (config.docker, config.consul, config.http.listen, config.state_dir) == ((), None, None, None)
    assert config.forward.upstreams == ()


def test_off_stands_alone(read: Reader) -> None:
    assert read.faults(docker=("off", "unix:///a.sock")) == (
        '--docker ["off", "unix:///a.sock"]: expected off to stand alone',
    )


def test_the_engine_when_nobody_names_one(read: Reader) -> None:
    with_socket = Machine(has_docker_socket=True)
    assert [engine.url for engine in read(machine=with_socket).docker] == ["unix:///var/run/docker.sock"]
    assert [e.url for e in read(env={"DOCKER_HOST": "tcp://h:1"}, machine=with_socket).docker] == [
        "tcp://h:1"
    ]
    assert read(docker=("off",), env={"DOCKER_HOST": "tcp://h:1"}).docker == ()
    assert read.faults(env={"DOCKER_HOST": "ftp://h"})[0].startswith(
        "DOCKER_HOST=ftp://h: expected unix:///path"
    )


def test_dockers_own_variables_name_the_certificates(read: Reader) -> None:
    env = {"DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}
    (engine,) = read(env=env).docker
    assert (engine.tls_ca, engine.tls_cert, engine.tls_key) == (
        "/certs/ca.pem",
        "/certs/cert.pem",
        "/certs/key.pem",
    )
    assert engine.tls_verify
    (engine,) = read(env={**env, "DOCKER_TLS_VERIFY": ""}, docker=("tcp://other:2376",)).docker
    assert (engine.tls_ca, engine.tls_verify) == ("/certs/ca.pem", False)
    (engine,) = read(env=env, docker=("unix:///a.sock",)).docker
    assert engine.tls_ca is None


def test_an_engine_that_a_flag_names_keeps_what_the_file_says_of_it(read: Reader) -> None:
    text = '[[docker]]\nurl = "tcp://a:1"\nname = "a"\n[[docker]]\nurl = "tcp://b:1"\nname = "b"\n'
    config = read(text, docker=("unix:///c.sock", "tcp://b:1"))
    assert [(engine.url, engine.name) for engine in config.docker] == [
        ("unix:///c.sock", None),
        ("tcp://b:1", "b"),
    ]
    assert config.origins["docker", 1, "url"] == "--docker"
    assert config.origins["docker", 1, "name"] == "discoverd.toml:6"
    text = '[[docker]]\nurl = "tcp://a:1"\n[[docker]]\nurl = "tcp://b:1"\ntls_verify = 3\n'
    assert read.faults(text, docker=("tcp://b:1",)) == (
        "discoverd.toml:5: docker.tls_verify = 3: expected true or false",
    )


def test_a_consul_address_from_elsewhere_keeps_the_token_of_the_file(read: Reader) -> None:
    config = read('[consul]\ntoken = "t"\n', env={"DISCOVERD_CONSUL": "http://c:8500"})
    assert config.consul is not None
    assert (config.consul.url, config.consul.token is not None) == ("http://c:8500", True)


def test_consuls_own_variables_say_what_nobody_else_does(read: Reader) -> None:
    env = {"CONSUL_HTTP_ADDR": "http://x:1", "CONSUL_HTTP_TOKEN": "t", "CONSUL_CACERT": "ca.pem"}
    assert read(env=env).consul is None
    plain = read(env=env | {"DISCOVERD_CONSUL": "http://c:8500"}).consul
    assert plain is not None
    assert plain.token is not None
    assert (plain.url, plain.token.get_secret_value(), plain.tls_ca) == ("http://c:8500", "t", None)
    env |= {"CONSUL_HTTP_SSL_VERIFY": "False"}
    config = read('[consul]\nurl = "https://c:8501"\ntoken = "mine"\n', env=env)
    assert config.consul is not None
    assert config.consul.token is not None
    assert config.consul.token.get_secret_value() == "mine"
    assert (config.consul.tls_ca, config.consul.tls_verify) == (str(read.folder / "ca.pem"), False)
    assert config.origins["consul", "tls_ca"] == "CONSUL_CACERT"
    for text in ('consul = "https://c"', '[consul]\nurl = "https://c"'):
        assert read.faults(text, env={"CONSUL_HTTP_TOKEN": "h\xfcsh"}) == (
            "CONSUL_HTTP_TOKEN=***: expected a secret of printable ASCII characters",
        )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('ttl = "five"', 'ttl = "five": expected whole seconds from 0 to 604800'),
        ("ttl = -1", "ttl = -1: expected whole seconds from 0 to 604800"),
        ("ttl = 604801", "ttl = 604801: expected whole seconds from 0 to 604800"),
        ("ttl = true", "ttl = true: expected whole seconds from 0 to 604800"),
        ("ttl = 1.5", "ttl = 1.5: expected whole seconds from 0 to 604800"),
        ("ttl = []", "ttl = []: expected whole seconds from 0 to 604800"),
        ("tll = 5", 'unknown key "tll": did you mean "ttl"?'),
        ("path = 5", 'unknown key "path"'),
        ("_path = 5", 'unknown key "_path"'),
        ("listen = []", "listen = []: expected at least one"),
        ("listen = 53", "listen = 53: expected an IP address and a port"),
        ("listen = { a = 1 }", "listen = { a }: expected an IP address and a port"),
        ('domains = ["a b"]', 'domains = "a b": expected a DNS name'),
        ('domains = ["."]', 'domains = ".": expected a DNS name'),
        ('domains = ["-a"]', 'domains = "-a": expected a DNS name'),
        ('domains = ["b\\u00fccher"]', 'domains = "bücher": expected a DNS name'),
        ('scope = "any"', 'scope = "any": expected prefer or strict'),
        ("workers = 0", "workers = 0: expected a whole number from 1 to 64"),
        ("state_dir = 5", "state_dir = 5: expected a path or off"),
        ("max_stale = -1", "max_stale = -1: expected whole seconds from 0 to 604800"),
        (
            'query_log.to = "udp://a"',
            'query_log.to = "udp://a": expected stdout, an absolute path, unix:///path or tcp://host:port',
        ),
        (
            'query_log = { to = "stdout", sample = 0 }',
            "query_log.sample = 0: expected a whole number from 1 to 1000000",
        ),
        (
            'query_log = { to = "stdout", format = "xml" }',
            'query_log.format = "xml": expected text or json',
        ),
        ("forward = 5", "forward = 5: expected a table"),
        ("[[forward]]", "forward = [{}]: expected a table"),
        ('forward.upstreams = ["dns.example"]', 'forward.upstreams = "dns.example": expected an IP address'),
        ("forward.zones = 5", "forward.zones = 5: expected a table"),
        ('forward.zones."a b" = []', 'forward.zones."a b" = "a b": expected a DNS name'),
        ("consul = {}", "consul.url is missing: expected the agent's HTTP address"),
        ('consul.url = "127.0.0.1:8500"', 'consul.url = "127.0.0.1:8500": expected http://host:port'),
        ('consul.url = "http://u:p@h"', 'consul.url = "http://u:p@h": expected http://host:port'),
        (
            'consul = { url = "https://h", tls_cert = "/c" }',
            'consul.tls_cert = "/c": expected tls_key beside it',
        ),
        (
            'consul = { url = "http://h", tls_ca = "/c" }',
            'consul.tls_ca = "/c": expected a url that begins with https://',
        ),
        (
            'consul = { url = "http://h", datacenter = "a", datacenters = ["A"] }',
            'consul.datacenters = "a": expected each datacenter once',
        ),
        (
            'docker = "/var/run/docker.sock"',
            'docker.url = "/var/run/docker.sock": expected a URL: unix:///var',
        ),
        (
            'docker = ["ssh://me:secret@host"]',
            'docker.url = "ssh://me:secret@host": expected unix:///path, tcp:',
        ),
        ("docker = [5]", "docker = 5: expected a table"),
        ("[[docker]]", "docker.url is missing: expected unix:///path, tcp://host:port or ssh:"),
        ("dns.udp_size = 511", "dns.udp_size = 511: expected bytes from 512 to 4096"),
        (f'dns.nsid = "{"x" * 129}"', f'dns.nsid = "{"x" * 56}...: expected text of 1 to 128 octets'),
        ('dns.nsid = " "', 'dns.nsid = " ": expected text of 1 to 128 octets'),
        ("dns.udpsize = 512", 'unknown key "dns.udpsize": did you mean "udp_size"?'),
        ('log.level = "loud"', 'log.level = "loud": expected debug, info, warning or error'),
        ('log.zebra = "loud"', 'unknown key "log.zebra": expected format or level'),
        ('http.listen = "8053"', 'http.listen = "8053": expected an IP address and a port'),
        (
            'http.listen = "127.0.0.1:1053"',
            'http.listen = "127.0.0.1:1053": expected another address and port',
        ),
        ('health.when_none = "none"', 'health.when_none = "none": expected all or empty'),
        ('http.token = "two\\nlines"', 'http.token = "***": expected a secret'),
        ("http.token = 5", 'http.token = "***": expected a secret'),
        ('ttl = "a\\nb\\u001b"', 'ttl = "a\\nb\\u001b": expected whole seconds'),
        (f'ttl = "{"x" * 100}"', f'ttl = "{"x" * 56}...: expected whole seconds'),
    ],
)
def test_a_wrong_value_in_the_file_is_one_line_that_says_where_and_what(
    text: str, line: str, read: Reader
) -> None:
    (found,) = read.faults(f"# a comment\n{text}\n")
    assert found.startswith(f"discoverd.toml:2: {line}")


SERVICE = '[[service]]\nname = "web"\naddresses = ["10.0.0.1"]\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[[service]]\nname = "web"', "1: service.addresses is missing: expected IP addresses"),
        ('[[service]]\naddresses = ["10.0.0.1"]', "1: service.name is missing"),
        ('[[service]]\nname = "web"\naddresses = []', "3: service.addresses = []: expected at least one"),
        (
            '[[service]]\nname = "a.b"\naddresses = "10.0.0.1"',
            '2: service.name = "a.b": expected one DNS label',
        ),
        (
            '[[service]]\nname = "web"\naddresses = ["x"]',
            '3: service.addresses = "x": expected an IP address',
        ),
        (SERVICE + "port = 0", "4: service.port = 0: expected a port from 1 to 65535"),
        (SERVICE + "ports = [80, 70000]", "4: service.ports = 70000: expected a port from 1 to 65535"),
        (SERVICE + 'ports = ["=80"]', '4: service.ports = "=80": expected a port'),
        (SERVICE + 'ports = ["80/icmp"]', '4: service.ports = "80/icmp": expected a port'),
        (SERVICE + "ports = [\n  true,\n]", "5: service.ports = true: expected a port"),
        (SERVICE + "ports = { nmae = 1 }", "4: service.ports = { nmae }: expected a port"),
        (SERVICE + 'tags = ["a.b"]', '4: service.tags = "a.b": expected one DNS label'),
        (SERVICE + "meta = 5", "4: service.meta = 5: expected a table of texts"),
        (SERVICE + 'meta."a=b" = "c"', "4: service.meta = { a=b }: expected keys of printable ASCII"),
        (SERVICE + "meta.a = []", "4: service.meta = { a }: expected a table of texts"),
        (SERVICE + f'meta.a = "{"x" * 254}"', "4: service.meta = { a }: expected at most 254 bytes"),
        (SERVICE + "weight = 65536", "4: service.weight = 65536: expected a whole number from 0 to 65535"),
        (SERVICE + SERVICE, '6: service.addresses = "10.0.0.1": expected each address of a service once'),
        (SERVICE + "adresses = []", '4: unknown key "service.adresses": did you mean "addresses"?'),
        ("[service]\nname = 5\naddresses = 'x'", "2: service.name = 5: expected one DNS label"),
    ],
)
def test_a_wrong_service(text: str, line: str, read: Reader) -> None:
    assert read.faults(text)[0].startswith(f"discoverd.toml:{line}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('listen = [":53", "[::1]:53"]', '1: listen = "[::1]:53": expected each address once'),
        (
            'listen = ["127.0.0.1:53"]\nforward.upstreams = ["1.1.1.1", "127.0.0.1"]',
            '2: forward.upstreams = "127.0.0.1:53": ',
        ),
        ('docker = ["unix:///a", "unix:///a"]', '1: docker.url = "unix:///a": expected each engine once'),
        (
            'docker = [{ url = "tcp://a", name = "e" }, { url = "tcp://b", name = "e" }]',
            '1: docker.name = "e": expected a name that no other engine has',
        ),
        (
            '[[docker]]\nurl = "tcp://a"\ntls_cert = "/c"',
            '3: docker.tls_cert = "/c": expected tls_key beside it',
        ),
        (
            '[[docker]]\nurl = "tcp://a"\nnames = ["{nope}"]',
            '3: docker.names = "{nope}": expected a template',
        ),
    ],
)
def test_settings_that_contradict_one_another(text: str, line: str, read: Reader) -> None:
    assert read.faults(text)[0].startswith(f"discoverd.toml:{line}")


def test_port_0_is_another_port_each_time(read: Reader) -> None:
    config = read(listen=("127.0.0.1:0", "127.0.0.1:0"), http="127.0.0.1:0")
    assert [str(endpoint) for endpoint in config.listen] == ["127.0.0.1:0", "127.0.0.1:0"]


def test_a_fault_names_the_flag_or_the_variable(read: Reader) -> None:
    assert read.faults(ttl="five") == ("--ttl five: expected whole seconds from 0 to 604800",)
    assert read.faults(listen=("127.0.0.1:53", "web"))[0].startswith(
        "--listen web: expected an IP address and"
    )
    env = {"DISCOVERD_LISTEN": "127.0.0.1:53,web"}
    assert read.faults(env=env)[0].startswith("DISCOVERD_LISTEN=web: expected an IP address and a port")
    assert read.faults(env={"DISCOVERD_LOG_LEVEL": "loud"}) == (
        "DISCOVERD_LOG_LEVEL=loud: expected debug, info, warning or error",
    )
    assert read.faults("ttl = 5", scope="a\nb")[0].startswith('--scope "a\\nb": expected prefer or strict')


def test_every_fault_is_told(read: Reader) -> None:
    found = read.faults('ttl = "x"\nworkers = 0\n', domain=("a b",))
    assert [line.partition(": ")[0] for line in sorted(found)] == [
        "--domain a b",
        "discoverd.toml:1",
        "discoverd.toml:2",
    ]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"ttl = 5\nttl 6\n", "discoverd.toml:2: not valid TOML: expected '=' after a key"),
        (b"ttl = 5\nx = [1,\n", "discoverd.toml:3: not valid TOML: "),
        (b"ttl = 5\nttl = 6\n", "discoverd.toml:2: not valid TOML: cannot overwrite a value"),
        (b"# ok\nx = '\xff'\n", "discoverd.toml:2: not UTF-8 text: expected TOML"),
        (b"x = " + b"[" * 100_000, "discoverd.toml:1: not valid TOML: "),
        (
            b"#" * (8 * 1024 * 1024 + 1),
            "discoverd.toml: 8388608 bytes and more: expected a configuration file",
        ),
    ],
)
def test_what_is_no_toml(data: bytes, line: str, read: Reader) -> None:
    assert read.faults(data)[0].startswith(line)


def test_a_byte_order_mark_is_no_fault(read: Reader) -> None:
    assert read(b"\xef\xbb\xbfttl = 7\n").ttl == 7


def test_which_file_is_read(read: Reader) -> None:
    read("ttl = 7\n")
    other = read.folder / "other.toml"
    other.write_text("ttl = 8\n")
    assert read().ttl == 7
    assert read(env={"DISCOVERD_CONFIG": "other.toml"}).ttl == 8
    assert read(env={"DISCOVERD_CONFIG": "none.toml"}, config=str(other)).ttl == 8
    assert read(config="other.toml").origins["ttl",] == "other.toml:1"


def test_a_file_that_was_named_must_be_there(read: Reader) -> None:
    deep = read.folder / ("deep" * 20)
    deep.mkdir()
    (deep / "d.toml").write_text("ttl = -1")
    assert read.faults(config=str(deep / "d.toml"))[0].startswith(f"{deep}/d.toml:1: ttl = -1: ")
    assert read.faults(config="none.toml") == ("--config none.toml: no such file",)
    assert read.faults(env={"DISCOVERD_CONFIG": "none.toml"}) == ("DISCOVERD_CONFIG=none.toml: no such file",)
    assert read.faults(config=str(read.folder)) == (f"{read.folder}: cannot be read: Is a directory",)


def test_a_path_that_no_file_can_have(read: Reader) -> None:
    assert read.faults(config="a\0b")[0] == '"a\\u0000b": cannot be read: embedded null byte'
    assert read.faults(config="x" * 300)[0] == f"{'x' * 300}: cannot be read: File name too long"


def test_a_misspelt_variable_is_noted_and_an_orchestrators_is_not(read: Reader) -> None:
    env = {
        "DISCOVERD_LISTN": "x",
        "DISCOVERD_URL": "http://x",
        "DISCOVERD_SERVICE_HOST": "10.0.0.1",
        "DISCOVERD_PORT": "1",
    }
    assert read(env=env).notes == (
        "DISCOVERD_LISTN in the environment is not known, did you mean DISCOVERD_LISTEN?",
    )


def test_secrets_are_redacted_everywhere(read: Reader) -> None:
    config = read(WHOLE_FILE)
    for text in (str(config), repr(config), str(config.redacted())):
        assert "hush" not in text
    assert config.redacted()["consul"]["token"] == "***"


def test_a_configuration_cannot_be_changed(read: Reader) -> None:
    config = read()
    with pytest.raises(ValueError, match="frozen"):
        config.ttl = 6
