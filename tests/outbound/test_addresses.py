"""Which URLs and addresses may be spoken to."""

from __future__ import annotations

import socket

import pytest

from appliance.errors import BadInput
from appliance.outbound.addresses import Policy, is_public

BAD = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.1.2.3",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.1.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "100.100.100.200",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2620:4f:8000::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2606:4700::1111%1",
    "localhost",
    "2130706433",
    "0x7f.1",
    "127.1",
]
GOOD = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "126.255.255.255",
    "128.0.0.1",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "198.17.255.255",
    "198.20.0.1",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "2003::1",
]


@pytest.mark.parametrize("address", BAD)
def test_addresses_outside_the_public_internet_are_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", GOOD)
def test_public_addresses_pass(address: str) -> None:
    assert is_public(address)


def test_the_tables_are_as_long_as_they_should_be() -> None:
    assert len(set(BAD)) >= 41
    assert len(set(GOOD)) >= 15


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/", "https://0x7f.1/", "https://127.1/", "https://017700000001/", "https://0/",
        "https://127.0.0.1/", "https://8.8.8.8/", "https://127.0.0x1/", "https://[::1]/", "https://[::ffff:1.1.1.1]/",
        "https://①②⑦.⓪.⓪.①/", "https://example。com/", "https://localhost/", "https://localhost./",
        "https://example.com./", "https://com/", "https://intranet/", "https://a.local/", "https://a.internal/",
        "https://metadata.google.internal/", "https://a.test/", "https://a.invalid/", "https://b.example/",
        "https://a.onion/", "https://a.alt/", "https://router.home.arpa/", "https://1.0.0.127.in-addr.arpa/",
        "https://ours.example.com/", "https://OURS.example.com/", "https://user@plc.directory/",
        "https://user:pw@plc.directory/", "https://plc.directory@evil.net/", "https://plc.direc\ttory/",
        "https://plc.directory/\n", "\x00https://plc.directory/", "https://evil.net\\@plc.directory/",
        "https:evil.net", "https:///x", "//plc.directory/", "http://plc.directory/", "ftp://plc.directory/",
        "file:///etc/passwd", "gopher://plc.directory/", "javascript:alert(1)", "https://plc.directory:99999/",
        "https://plc.directory:x/", "https://-a.com/", "https://a-.com/", "https://a..com/", "https://a_b.com/",
        "https://" + "a" * 64 + ".com/", "https://" + "a." * 130 + "com/",
        "https://plc.directory/" + "a" * 70_000,
        "https://pds.net:22/", "https://pds.net:25/", "https://pds.net:6379/", "https://pds.net:5432/",
        "https://pds.net:0/", "https://pds.net/é", "", "https://", "https://%6c%6f/",
    ],
)  # fmt: skip
def test_urls_that_are_not_plain_public_https_are_refused(url: str) -> None:
    with pytest.raises(BadInput):
        Policy(own_names=frozenset({"ours.example.com"})).target(url, "origin")


@pytest.mark.parametrize(
    ("url", "rebuilt"),
    [
        ("https://Plc.Directory/did:plc:x", "https://plc.directory/did:plc:x"),
        ("https://pds.net:443", "https://pds.net/"),
        ("https://pds.net:8443/xrpc/a?b=c#d", "https://pds.net:8443/xrpc/a?b=c"),
        ("https://xn--bcher-kva.example.xn--p1ai/", "https://xn--bcher-kva.example.xn--p1ai/"),
        ("wss://bsky.network/xrpc/com.atproto.sync.subscribeRepos", None),
    ],
)
def test_good_urls_pass_and_are_rebuilt_from_their_parts(url: str, rebuilt: str | None) -> None:
    assert Policy().target(url, "origin").url == (rebuilt or url)


def test_parameters_cannot_change_the_path() -> None:
    target = Policy().target(
        "https://pds.net/xrpc/a?x=1", "origin", {"repo": "did:plc:a&b=#/?", "n": 5, "many": ["a", "b c"]}
    )
    assert target.url == (
        "https://pds.net/xrpc/a?x=1&repo=did%3Aplc%3Aa%26b%3D%23%2F%3F&n=5&many=a&many=b%20c"
    )


@pytest.mark.parametrize("url", ["http://localhost:2583/x", "http://127.0.0.1:80/", "ws://localhost:1/"])
def test_loopback_is_for_devnet_only(url: str) -> None:
    assert Policy(allow_loopback=True).target(url, "https").loopback
    with pytest.raises(BadInput):
        Policy().target(url, "any")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.2/", "http://192.168.1.1/", "http://[::1]/", "http://a.localhost/"]
)
def test_devnet_opens_nothing_but_loopback(url: str) -> None:
    with pytest.raises(BadInput):
        Policy(allow_loopback=True).target(url, "any")


def test_addresses_of_this_machine_are_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing, but tells which interface would be used
        own = probe.getsockname()[0]
    with pytest.raises(BadInput):
        Policy().check_addresses([own])
