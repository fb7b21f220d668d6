"""Which IP addresses a request may reach."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal

from ..errors import ConfigError

Reach = Literal["anywhere", "private", "public"]
"""Which addresses a request may connect to; `private` means all addresses but link-local ones."""

# Cloud metadata services hand out credentials to every caller: AWS on IPv6, Alibaba.
_METADATA: Final = frozenset({ip_address("fd00:ec2::254"), ip_address("100.100.100.200")})


def refuse(address: str, host: str, reach: Reach) -> None:
    """Raise ConfigError when a request with this reach may not connect to the address."""
    kind = _kind_of_address(address)
    if reach == "anywhere" or kind == "public" or (kind == "private" and reach != "public"):
        return
    where = address if address == host else f"{host} ({address})"
    hint = "set NANGO_ALLOW_PRIVATE_HOSTS=1 to allow it" if kind == "private" else "it is never allowed"
    came = "the URL or its host came over HTTP or from a connection"
    raise ConfigError(f"{where} is a {kind} address, and {came}; {hint}, or use a config file.")


def allowed_addresses(host: str, port: int, reach: Reach) -> list[str]:
    """The addresses of a host that may be connected to, in the resolver's order.

    Raises ConfigError when there are addresses, and none of them is allowed; socket.gaierror for an unknown name.
    """
    name = host.strip("[]")
    addresses = [str(entry[4][0]) for entry in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    allowed: list[str] = []
    refusal: ConfigError | None = None
    for address in dict.fromkeys(addresses):
        try:
            refuse(address, name, reach)
            allowed.append(address)
        except ConfigError as error:
            refusal = refusal or error
    if refusal is not None and not allowed:
        raise refusal
    return allowed


def refuse_behind_proxy(host: str, reach: Reach) -> None:
    """Refuse a host that a proxy would connect to; a name that only the proxy can resolve is left to the proxy.

    All addresses of the host have to be allowed, because the proxy chooses among them.
    """
    name = host.strip("[]")
    try:
        entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return
    for entry in entries:
        refuse(str(entry[4][0]), host, reach)


def _kind_of_address(text: str) -> Literal["public", "private", "link-local"]:
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    address = _embedded(address) or address
    if address.is_link_local or address in _METADATA:
        return "link-local"
    return "public" if address.is_global and not address.is_multicast else "private"


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside an IPv6 address: mapped, 6to4, Teredo or NAT64."""
    if isinstance(address, IPv4Address):
        return None
    if address.packed.startswith(bytes.fromhex("0064ff9b0000000000000000")):
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine; the name is not resolved.

    >>> [is_loopback(host) for host in ("localhost", "127.1.2.3", "[::1]", "10.0.0.1", "localhost.example.com")]
    [True, True, True, False, False]
    """
    name = host.lower().rstrip(".").removeprefix("[").removesuffix("]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
