"""IANA service names for the ports that services in containers listen on.

From the IANA "Service Name and Transport Protocol Port Number Registry"; /etc/services is not
read because slim images have none, and answers must not depend on it. Alternate ports of a
protocol (8080 for http) stand behind its main one.
"""

from __future__ import annotations

PORTS: dict[str, tuple[int, ...]] = {
    "amqp": (5672,),
    "amqps": (5671,),
    "domain": (53,),
    "domain-s": (853,),
    "epmd": (4369,),
    "etcd-client": (2379,),
    "etcd-server": (2380,),
    "ftp": (21,),
    "git": (9418,),
    "gopher": (70,),
    "http": (80, 8080, 8008),
    "http-alt": (8080, 8008),
    "https": (443, 8443),
    "https-alt": (8443,),
    "imap": (143,),
    "imaps": (993,),
    "ipp": (631,),
    "irc": (194, 6667),
    "kafka": (9092,),
    "kerberos": (88,),
    "ldap": (389,),
    "ldaps": (636,),
    "memcache": (11211,),
    "mongodb": (27017,),
    "mqtt": (1883,),
    "ms-sql-s": (1433,),
    "mysql": (3306,),
    "nats": (4222,),
    "nfs": (2049,),
    "ntp": (123,),
    "pop3": (110,),
    "pop3s": (995,),
    "postgresql": (5432,),
    "redis": (6379,),
    "rsync": (873,),
    "rtsp": (554,),
    "secure-mqtt": (8883,),
    "sip": (5060,),
    "sips": (5061,),
    "smb": (445,),
    "smtp": (25,),
    "snmp": (161,),
    "socks": (1080,),
    "ssh": (22,),
    "stun": (3478,),
    "submission": (587,),
    "submissions": (465,),
    "syslog": (514,),
    "telnet": (23,),
    "tftp": (69,),
    "turn": (3478,),
    "vnc-server": (5900,),
    "xmpp-client": (5222,),
    "xmpp-server": (5269,),
    "zookeeper": (2181,),
}

NAMES: dict[int, str] = {}
for _name, _ports in PORTS.items():
    NAMES.setdefault(_ports[0], _name)
NAMES[8080] = "http-alt"
NAMES[8443] = "https-alt"


def service_name(port: int, given: str) -> str:
    """The RFC 6335 service name of a port: the one it was given, the IANA one, else its number."""
    return given or NAMES.get(port) or str(port)
