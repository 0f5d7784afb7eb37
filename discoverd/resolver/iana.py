"""IANA service names for the ports that services in containers listen on.

From the IANA "Service Name and Transport Protocol Port Number Registry", with three names that
everybody uses for want of a registered one (kafka, nats, zookeeper). /etc/services is not read
because slim images have none, and answers must not depend on it. Alternate ports of a protocol
(8080 for http) stand behind its main one.
"""

from __future__ import annotations

PORTS: dict[str, tuple[int, ...]] = {
    "amqp": (5672,),
    "amqps": (5671,),
    "bgp": (179,),
    "dict": (2628,),
    "domain": (53,),
    "domain-s": (853,),
    "epmd": (4369,),
    "etcd-client": (2379,),
    "etcd-server": (2380,),
    "ftp": (21,),
    "ftps": (990,),
    "git": (9418,),
    "gopher": (70,),
    "hkp": (11371,),
    "http": (80, 8080, 8008),
    "http-alt": (8080, 8008),
    "https": (443, 8443),
    "https-alt": (8443,),
    "imap": (143,),
    "imaps": (993,),
    "ipp": (631,),
    "irc": (194, 6667),
    "iscsi-target": (3260,),
    "kafka": (9092,),
    "kerberos": (88,),
    "l2tp": (1701,),
    "ldap": (389,),
    "ldaps": (636,),
    "memcache": (11211,),
    "mongodb": (27017,),
    "mqtt": (1883,),
    "ms-sql-s": (1433,),
    "ms-wbt-server": (3389,),
    "mysql": (3306,),
    "nats": (4222,),
    "netbios-ssn": (139,),
    "nfs": (2049,),
    "nntp": (119,),
    "nntps": (563,),
    "ntp": (123,),
    "openvpn": (1194,),
    "pop3": (110,),
    "pop3s": (995,),
    "postgresql": (5432,),
    "puppet": (8140,),
    "radius": (1812,),
    "redis": (6379,),
    "rmiregistry": (1099,),
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
    "sunrpc": (111,),
    "svn": (3690,),
    "syslog": (514,),
    "tacacs": (49,),
    "telnet": (23,),
    "telnets": (992,),
    "tftp": (69,),
    "turn": (3478,),
    "vnc-server": (5900,),
    "whois": (43,),
    "xmpp-client": (5222,),
    "xmpp-server": (5269,),
    "zabbix-agent": (10050,),
    "zookeeper": (2181,),
}

#: Port to its names; 8080 is http-alt, and counted as http.
NAMES: dict[int, tuple[str, ...]] = {}
for _name, _ports in PORTS.items():
    for _port in _ports:
        NAMES[_port] = (*NAMES.get(_port, ()), _name)


def service_names(port: int, given: str) -> tuple[str, ...]:
    """The RFC 6335 service names of a port: the one it was given, the IANA ones, else its number."""
    return (given,) if given else NAMES.get(port, (str(port),))
