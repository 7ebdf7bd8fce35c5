"""Where webhooks may go: a server that nobody may reach gets no request, in whatever way its address is said."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runfold_coordinator.alerts.addresses import (
    ForbiddenAddressError,
    Target,
    allowed_addresses,
    check_url,
)
from runfold_coordinator.alerts.webhook import DeliveryError, post
from support.webhooks import WebhookServer

#: Ways to say an address of this machine, its network, or a cloud's metadata service.
FORBIDDEN_HOSTS = [
    "169.254.169.254",
    "0xA9FEA9FE",
    "0xa9.0xfe.0xa9.0xfe",
    "2852039166",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:a9fe:a9fe::]",
    "[2002:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[ff02::1]",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",
    "0x7f000001",
    "017700000001",
    "2130706433",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
]
#: Addresses that are none, or say more than a host.
REFUSED_URLS = [
    "http://x@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port} /",
    "http://127.0.0.1:{port}\r\nX: y",
    "http://:{port}/",
    "//127.0.0.1:{port}/",
    "http:127.0.0.1",
    "gopher://127.0.0.1:{port}/_x",
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "http://[fe80::1%25eth0]:{port}/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:0/",
    "http://[::1/",
    "data:text/plain,x",
    "",
]
PUBLIC = "93.184.215.14"


def send(url: str, **more: object) -> None:
    post(url, b"{}", {}, **({"timeout_s": 2.0, "allow_http": True} | more))  # type: ignore[arg-type]


def test_no_form_of_a_forbidden_address_is_connected_to() -> None:
    with WebhookServer(host="0.0.0.0") as canary:
        for host in FORBIDDEN_HOSTS:
            with pytest.raises(DeliveryError) as caught:
                send(f"http://{host}:{canary.port}/")
            assert "answered" not in str(caught.value), host
        for url in REFUSED_URLS:
            with pytest.raises(DeliveryError):
                send(url.format(port=canary.port), allow_private=True)
        assert canary.hits == 0
        send(f"http://127.0.0.1:{canary.port}/", allow_private=True)  # it does hear those that may
        assert canary.hits == 1


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "168.63.129.16"]
)
def test_metadata_is_nobodys_receiver(host: str) -> None:
    with pytest.raises(DeliveryError, match="metadata"):
        send(f"http://{host}/", allow_private=True)


def test_http_is_for_those_who_allow_it() -> None:
    with pytest.raises(ValueError, match="https"):
        check_url("http://example.com/", allow_http=False)
    assert check_url("https://EXAMPLE.com/a?b", allow_http=False) == Target(True, "example.com", 443, "/a?b")
    assert check_url("http://example.com:8080", allow_http=True).host_header == "example.com:8080"


def test_one_forbidden_address_among_many_is_enough() -> None:
    target = check_url("https://example.com/", allow_http=False)
    with pytest.raises(ForbiddenAddressError):
        allowed_addresses(target, allow_private=False, resolver=lambda *_: [PUBLIC, "10.0.0.1"])
    assert allowed_addresses(target, allow_private=False, resolver=lambda *_: [PUBLIC]) == [PUBLIC]
    mapped = f"::ffff:{PUBLIC}"
    assert allowed_addresses(target, allow_private=False, resolver=lambda *_: [mapped]) == [mapped]


def test_a_name_that_changes_its_mind_is_asked_once() -> None:
    asked: list[str] = []

    def rebinding(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) > 1 else ["192.88.99.1"]  # public in form; nobody answers there

    with WebhookServer() as canary:
        with pytest.raises(DeliveryError):
            send(f"http://rebind.test:{canary.port}/", resolver=rebinding, timeout_s=0.3)
        assert asked == ["rebind.test"]
        with pytest.raises(DeliveryError, match="this machine"):
            send(f"http://rebind.test:{canary.port}/", resolver=rebinding)
        assert canary.hits == 0


def test_a_name_without_an_address() -> None:
    def nowhere(*_: object) -> Sequence[str]:
        raise OSError("no such host")

    with pytest.raises(DeliveryError, match="no address"):
        send("https://nowhere.test/", resolver=nowhere)
