import pytest

from llm_common._runtime.proxies import proxy_of
from llm_common.exceptions import ConfigurationError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def url_of(base_url: str) -> str | None:
    proxy = proxy_of(base_url)
    return None if proxy is None else proxy.url


def test_the_scheme_s_own_proxy_comes_before_the_one_for_all(environment: pytest.MonkeyPatch):
    """Without either an address is reached directly; without a scheme a proxy speaks HTTP."""
    assert url_of("https://api.openai.com/v1") is None
    environment.setenv("ALL_PROXY", "everybody:1")
    environment.setenv("HTTPS_PROXY", "https://secure:2")
    assert url_of("https://api.openai.com/v1") == "https://secure:2"
    assert url_of("http://localhost:8000/v1") == "http://everybody:1"


@pytest.mark.parametrize(
    ("exceptions", "address", "exempt"),
    [
        ("*", "https://a.example", True),
        ("a.example", "https://a.example/v1", True),
        ("a.example", "https://b.a.example", True),
        (".a.example", "https://b.a.example", True),
        ("*.a.example", "https://b.a.example", True),
        ("a.example", "https://ba.example", False),
        ("A.Example", "https://a.example", True),
        ("other, a.example", "https://a.example", True),
        ("a.example:443", "https://a.example", True),
        ("a.example:8443", "https://a.example", False),
        ("a.example:8080", "http://a.example:8080/v1", True),
        ("10.0.0.0/8", "http://10.1.2.3:8000", True),
        ("10.0.0.0/8", "http://11.1.2.3:8000", False),
        ("10.0.0.0/8", "http://ten.example", False),
        ("127.0.0.1", "http://127.0.0.1:8000", True),
        ("::1", "http://[::1]:8000", True),
        ("[::1]", "http://[::1]:8000", True),
        ("[::1]:8000", "http://[::1]:8000", True),
        ("[::1]:8001", "http://[::1]:8000", False),
        ("fd00::/8", "http://[fd12::1]:8000", True),
        ("0:0:0:0:0:0:0:1", "http://[::1]", True),
        (" , ", "https://a.example", False),
    ],
)
def test_what_no_proxy_names(exceptions: str, address: str, exempt: bool, environment: pytest.MonkeyPatch):
    """Names, domains, addresses of both families, networks, each with a port or without."""
    environment.setenv("ALL_PROXY", "http://proxy:1")
    environment.setenv("NO_PROXY", exceptions)
    assert (proxy_of(address) is None) is exempt


@pytest.mark.parametrize("value", ["socks5://user:secret@h:1", "http://", "http://h:port", "h:99999999", "://"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(value: str, environment: pytest.MonkeyPatch):
    """The variable is named, so that it can be mended."""
    environment.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
        proxy_of("https://a.example")
    assert "secret" not in str(caught.value)


def test_a_proxy_s_password_is_not_in_its_repr(environment: pytest.MonkeyPatch):
    """Its host and port are shown instead."""
    environment.setenv("HTTP_PROXY", "http://user:secret@proxy.example")
    proxy = proxy_of("http://a.example")
    assert proxy is not None
    assert (proxy.host, proxy.url) == ("proxy.example:80", "http://user:secret@proxy.example")
    assert "secret" not in repr(proxy)
