"""An OpenID provider for tests: real keys, served over real HTTP, as they are at the moment."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

if TYPE_CHECKING:
    import ssl

AUDIENCE = "api://outhaul"
ROLES = "Outhaul.Admin=owner,Outhaul.Export=contributor,Outhaul.Read=reader"


def new_key(algorithm: str) -> Any:
    if algorithm.startswith("ES"):
        return ec.generate_private_key(
            {"256": ec.SECP256R1, "384": ec.SECP384R1, "512": ec.SECP521R1}[algorithm[2:]]()
        )
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


class OpenId:
    """The provider. `keys` are private keys by kid with the algorithm each is for; those are shown that are in it.

    While `down` it answers everything with 503. `asked` are the paths that were asked for. With a certificate it
    speaks https.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.keys: dict[str, tuple[str, Any]] = {}
        self.down = False
        self.asked: list[str] = []
        self.says: dict[str, Any] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                found = provider.documents().get(self.path)
                status = 503 if provider.down else 200 if found is not None else 404
                body = json.dumps(found if status == 200 else {}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        where = (
            f"https://localhost:{self._server.server_port}"
            if tls
            else f"http://127.0.0.1:{self._server.server_port}"
        )
        self.issuer = f"{where}/tenant/v2.0"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, kid: str, algorithm: str = "RS256") -> None:
        self.keys[kid] = algorithm, new_key(algorithm)

    def documents(self) -> dict[str, Any]:
        base = self.issuer.removesuffix("/tenant/v2.0")
        return {
            "/tenant/v2.0/.well-known/openid-configuration": {
                "issuer": self.issuer,
                "jwks_uri": f"{base}/keys",
                **self.says,
            },
            "/keys": {"keys": [self.shown(kid) for kid in self.keys]},
        }

    def shown(self, kid: str) -> dict[str, Any]:
        """The public key as the provider shows it: like Entra ID, without saying which algorithm it is for."""
        algorithm, key = self.keys[kid]
        return {
            **get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True),
            "use": "sig",
            "kid": kid,
            "key_ops": ["verify"],
        }

    def claims(self, now: float | None = None, **changes: Any) -> dict[str, Any]:
        """The claims of a good token, with some changed; None leaves one out."""
        at = int(time.time() if now is None else now)
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "alice",
            "iat": at,
            "nbf": at,
            "exp": at + 3600,
            "roles": ["Outhaul.Export"],
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self, kid: str, now: float | None = None, headers: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        algorithm, key = self.keys[kid]
        named = {"kid": kid, **(headers or {})}
        named = {name: value for name, value in named.items() if value is not None}
        return jwt.encode(self.claims(now, **changes), key, named.get("alg", algorithm), named)

    def settings(self, **changes: str) -> dict[str, str]:
        """What the server has to be told of it, as settings."""
        return {"oidc_issuer": self.issuer, "oidc_audience": AUDIENCE, "oidc_roles": ROLES, **changes}
