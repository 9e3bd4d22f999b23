"""Tokens of an outside OpenID provider: real keys from a real server, and every way in which a token can be wrong."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import ssl
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openid import AUDIENCE, OpenId
from outhaul.api import oidc
from outhaul.config import Config
from outhaul.errors import Busy, Forbidden, Invalid, OuthaulError, Unauthenticated

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def openid():
    provider = OpenId()
    for kid, algorithm in (
        ("rsa", "RS256"),
        ("pss", "PS384"),
        ("ec", "ES256"),
        ("ec5", "ES512"),
        ("ed", "EdDSA"),
    ):
        provider.add(kid, algorithm)
    yield provider
    provider.close()


@pytest.fixture
def changing():
    """A provider that one test may do as it likes with."""
    provider = OpenId()
    provider.add("one")
    yield provider
    provider.close()


def configured(provider: OpenId, **changes: str) -> Config:
    return Config({f"OUTHAUL_{name.upper()}": value for name, value in provider.settings(**changes).items()})


class Clock:
    def __init__(self) -> None:
        self.ms = NOW * 1000

    def __call__(self) -> int:
        return self.ms


def reader(provider: OpenId, clock: Any = None, **changes: str) -> oidc.Provider:
    found = oidc.read_settings(configured(provider, **changes))
    assert found is not None
    return oidc.Provider(found, clock or Clock())


def read(provider: OpenId, token: str, **changes: str) -> oidc.Bearer:
    return asyncio.run(reader(provider, **changes).read(token))


def refusal(provider: OpenId, token: str, **changes: str) -> OuthaulError:
    with pytest.raises(OuthaulError) as refused:
        read(provider, token, **changes)
    assert token not in str(refused.value)
    return refused.value


@pytest.mark.parametrize("kid", ["rsa", "pss", "ec", "ec5", "ed"])
def test_a_token_is_believed_whatever_asymmetric_key_signed_it(openid, kid):
    bearer = read(openid, openid.token(kid, NOW))
    assert (bearer.subject, bearer.role, bearer.expires_at) == ("alice", "contributor", (NOW + 3600) * 1000)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"iss": "https://elsewhere.example/"}, "issuer"),
        ({"aud": "api://other"}, "audience"),
        ({"aud": ["api://other"]}, "audience"),
        ({"aud": None}, "no claim aud"),
        ({"iss": None}, "no claim iss"),
        ({"exp": None}, "no claim exp"),
        ({"sub": None}, "no claim sub"),
        ({"exp": "tomorrow"}, "wrong"),
        ({"exp": 1e400}, "wrong"),
        ({"nbf": [1]}, "wrong"),
        ({"sub": "a\nb"}, "sub"),
        ({"sub": "x" * 129}, "sub"),
        ({"sub": ""}, "sub"),
        ({"nbf": NOW + 61}, "not valid yet"),
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(openid, changes, says):
    refused = refusal(openid, openid.token("rsa", NOW, **changes))
    assert isinstance(refused, Unauthenticated)
    assert refused.code == "unauthenticated"
    assert says in refused.message


def test_times_are_taken_to_the_second_a_minute_of_grace_apart(openid):
    assert read(openid, openid.token("rsa", NOW, exp=NOW - 59))
    assert refusal(openid, openid.token("rsa", NOW, exp=NOW - 60)).code == "token_expired"
    assert read(openid, openid.token("rsa", NOW, nbf=NOW + 60))


def test_an_audience_among_several_will_do(openid):
    assert read(openid, openid.token("rsa", NOW, aud=["api://other", AUDIENCE]))


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def test_a_forged_token_is_refused(openid):
    claims = openid.claims(NOW)
    good = openid.token("rsa", NOW)
    stranger = rsa.generate_private_key(65537, 2048)
    public = openid.keys["rsa"][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, _, signature = good.split(".")
    owner = unsigned({}, openid.claims(NOW, roles=["Outhaul.Admin"])).split(".")[1]
    # PyJWT itself would not sign with a public key's text; an attacker's tool does.
    by_password = unsigned({"alg": "HS256", "kid": "rsa"}, claims)
    mac = hmac.digest(pem, by_password.rstrip(".").encode(), "sha256")
    forged = {
        "another's key": jwt.encode(claims, stranger, "RS256", {"kid": "rsa"}),
        "another of its keys": jwt.encode(claims, openid.keys["pss"][1], "RS256", {"kid": "rsa"}),
        "no signature": unsigned({"alg": "none", "kid": "rsa"}, claims),
        "no signature, another case": unsigned({"alg": "nOnE", "kid": "rsa"}, claims),
        "the public key as a password": unsigned({"alg": "HS256", "kid": "rsa"}, claims, mac),
        "other claims": f"{head}.{owner}.{signature}",
        "an unknown key": openid.token("rsa", NOW, {"kid": "other"}),
        "its own key in the header": jwt.encode(
            claims,
            stranger,
            "RS256",
            {"kid": "new", "jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(stranger.public_key()))},
        ),
        "an algorithm of another kind of key": unsigned({"alg": "ES256", "kid": "rsa"}, claims, b"x" * 64),
        "something critical": openid.token("rsa", NOW, {"crit": ["exp"], "exp": 1}),
        "cut short": good[:-20],
    }
    for name, token in forged.items():
        assert isinstance(refusal(openid, token), Unauthenticated), name


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "crit", "b64", "typ"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.text(max_size=5)
            | st.integers()
            | st.sampled_from(["RS256", "rsa", "none"]),
            lambda inner: st.lists(inner, max_size=2),
        ),
    ),
    claims=st.binary(max_size=20),
    signature=st.binary(max_size=10),
)
def test_whatever_a_token_holds_it_is_refused_as_unauthenticated(openid, header, claims, signature):
    parts = (json.dumps(header).encode(), claims, signature)
    token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    assert isinstance(refusal(openid, token), Unauthenticated)


@pytest.mark.parametrize(
    ("claims", "changes", "role"),
    [
        ({"roles": "Outhaul.Read"}, {}, "reader"),
        ({"roles": ["Outhaul.Read", "else", "Outhaul.Admin", "Outhaul.Export"]}, {}, "owner"),
        (
            {"https://x.example/roles": ["Outhaul.Read"]},
            {"oidc_roles_claim": "https://x.example/roles"},
            "reader",
        ),
        ({"realm": {"access": ["Outhaul.Read"]}}, {"oidc_roles_claim": "realm.access"}, "reader"),
        (
            {"scp": "write"},
            {"oidc_roles_claim": "scp", "oidc_roles": " a=b=reader , write=contributor"},
            "contributor",
        ),
        (
            {"scp": "a=b"},
            {"oidc_roles_claim": "scp", "oidc_roles": " a=b=reader , write=contributor"},
            "reader",
        ),
    ],
)
def test_the_strongest_role_of_the_claim_counts(openid, claims, changes, role):
    assert read(openid, openid.token("rsa", NOW, **{"roles": None, **claims}), **changes).role == role


@pytest.mark.parametrize(
    "roles", [None, [], "outhaul.admin", ["other"], {"Outhaul.Admin": True}, 7, [["Outhaul.Admin"]], [7]]
)
def test_without_a_role_the_claim_that_was_looked_at_is_named(openid, roles):
    refused = refusal(openid, openid.token("rsa", NOW, groups=roles), oidc_roles_claim="groups")
    assert isinstance(refused, Forbidden)
    assert "'groups'" in refused.message


def test_a_key_shown_for_something_else_signs_nothing(changing):
    changing.add("enc")
    shown = changing.shown

    def for_encryption(kid):
        return {**shown(kid), **({"use": "enc"} if kid == "enc" else {"alg": "PS256"})}

    changing.shown = for_encryption
    assert isinstance(refusal(changing, changing.token("enc", NOW)), Unauthenticated)
    # The key says that it is for PS256 and nothing else.
    assert isinstance(refusal(changing, changing.token("one", NOW)), Unauthenticated)
    assert read(changing, changing.token("one", NOW, {"alg": "PS256"}))


def test_a_key_that_cannot_be_read_does_not_take_along_the_others(changing):
    documents = changing.documents
    odd = [
        {},
        {"kty": "RSA", "n": 7},
        {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"},
        {"kty": ["RSA"], "alg": []},
    ]

    def with_odd_ones():
        found = documents()
        found["/keys"]["keys"] = [*odd, *found["/keys"]["keys"]]
        return found

    changing.documents = with_odd_ones
    assert read(changing, changing.token("one", NOW))


def test_a_short_key_signs_nothing(changing):
    changing.keys["short"] = "RS256", rsa.generate_private_key(65537, 1024)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = changing.token("short", NOW)
    assert isinstance(refusal(changing, token), Unauthenticated)


def test_a_token_that_names_no_key_is_read_where_there_is_one_only(changing):
    assert read(changing, changing.token("one", NOW, {"kid": None}))
    changing.add("two")
    assert isinstance(refusal(changing, changing.token("one", NOW, {"kid": None})), Unauthenticated)


def test_keys_are_fetched_once_and_again_for_a_key_that_is_new(changing):
    clock = Clock()

    async def check():
        provider = reader(changing, clock)
        await asyncio.gather(*(provider.read(changing.token("one", NOW)) for _ in range(5)))
        assert changing.asked == ["/tenant/v2.0/.well-known/openid-configuration", "/keys"]
        old = changing.token("one", NOW)
        del changing.keys["one"]
        changing.add("two")
        with pytest.raises(Unauthenticated, match="does not show"):
            await provider.read(changing.token("two", NOW))
        assert len(changing.asked) == 2, "not again within 30 s"
        clock.ms += oidc.REFETCH_MS
        assert (await provider.read(changing.token("two", NOW))).subject == "alice"
        with pytest.raises(Unauthenticated):
            await provider.read(old)
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                await provider.read(changing.token("two", NOW, {"kid": "guess"}))
        assert len(changing.asked) == 4

    asyncio.run(check())


def test_a_key_that_was_withdrawn_is_noticed_without_anybody_waiting_for_it(changing):
    clock = Clock()

    async def check():
        provider = reader(changing, clock)
        token = changing.token("one", NOW, exp=NOW + 10**6)
        await provider.read(token)
        changing.add("two")
        del changing.keys["one"]
        clock.ms += oidc.FRESH_MS
        await provider.read(token)
        for _ in range(500):
            if len(changing.asked) == 4:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        with pytest.raises(Unauthenticated):
            await provider.read(token)

    asyncio.run(check())


def test_while_the_provider_is_down_known_keys_are_believed_for_a_day(changing):
    clock = Clock()
    changing.down = True

    async def check():
        provider = reader(changing, clock)
        token = changing.token("one", NOW, exp=NOW + 10**6)
        for _ in range(3):
            with pytest.raises(Busy):
                await provider.read(token)
        assert len(changing.asked) == 1, "not asked again within 5 s"
        changing.down = False
        clock.ms += oidc.RETRY_MS
        await provider.read(token)
        changing.down = True
        clock.ms += oidc.STALE_MS - 1
        await provider.read(token)
        with pytest.raises(Busy):
            await provider.read(changing.token("one", NOW, {"kid": "new"}))
        clock.ms += 1
        with pytest.raises(Busy):
            await provider.read(token)

    asyncio.run(check())


@pytest.mark.parametrize(
    "says",
    [
        {"issuer": "https://other.example"},
        {"jwks_uri": "http://keys.example/"},
        {"jwks_uri": 7},
        {"jwks_uri": "http://127.0.0.1:1/"},
        {"jwks_uri": "http://[/"},
    ],
)
def test_a_provider_that_cannot_be_right_is_as_good_as_down(changing, says):
    changing.says = says
    assert type(refusal(changing, changing.token("one", NOW))) is Busy


def test_keys_are_not_asked_for_without_tls_wherever_the_provider_says_they_are(changing):
    # The same server by an address that is not known to be this machine.
    changing.says = {
        "jwks_uri": changing.issuer.replace("127.0.0.1", "0.0.0.0").replace("/tenant/v2.0", "/keys")
    }
    assert type(refusal(changing, changing.token("one", NOW))) is Busy
    assert len(changing.asked) == 1


def test_an_authority_of_ones_own_is_trusted_if_it_is_named(tmp_path, monkeypatch):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    provider = OpenId(context)
    provider.add("one")
    try:
        assert type(refusal(provider, provider.token("one", NOW))) is Busy
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert read(provider, provider.token("one", NOW))
    finally:
        provider.close()


def test_keys_are_taken_from_where_they_were_said_to_be(changing):
    changing.says = {"issuer": "https://other.example"}
    keys = changing.issuer.replace("/tenant/v2.0", "/keys")
    assert read(changing, changing.token("one", NOW), oidc_jwks_url=keys)
    assert changing.asked == ["/keys"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"oidc_audience": ""}, "OUTHAUL_OIDC_AUDIENCE"),
        ({"oidc_roles": ""}, "OUTHAUL_OIDC_ROLES"),
        ({"oidc_roles": "Outhaul.Admin"}, "OUTHAUL_OIDC_ROLES"),
        ({"oidc_roles": "a=owner,b=king"}, "OUTHAUL_OIDC_ROLES"),
        ({"oidc_roles": "=owner"}, "OUTHAUL_OIDC_ROLES"),
        ({"oidc_issuer": "http://login.example/"}, "OUTHAUL_OIDC_ISSUER"),
        ({"oidc_issuer": "login.example"}, "OUTHAUL_OIDC_ISSUER"),
        ({"oidc_jwks_url": "file:///etc/keys"}, "OUTHAUL_OIDC_JWKS_URL"),
        ({"oidc_jwks_url": "https://[/"}, "OUTHAUL_OIDC_JWKS_URL"),
    ],
)
def test_settings_that_cannot_be_are_named(changing, changes, name):
    with pytest.raises(Invalid, match=name) as refused:
        oidc.read_settings(configured(changing, **changes))
    assert refused.value.hint


def test_without_an_issuer_there_is_no_provider():
    assert oidc.read_settings(Config({})) is None
