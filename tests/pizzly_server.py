"""A Pizzly server on loopback, as its clients know it, and the API that takes its tokens.

The npm client talks to it too (tests/test_auth_pizzly.py), so that we know it to be an honest one.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.fake_api import FakeApi, Received, Reply

LATER = "2999-01-01T00:00:00.000Z"


@dataclass
class Grant:
    """One connection: its kind, and the number of its present token."""

    kind: str
    number: int = 1
    uses: int = 0


@dataclass
class PizzlyServer:
    """Answers `/connection/ID?provider_config_key=KEY`, and lets whoever has the present token see a list.

    A token is good for `good_for` requests to the list; the server refreshes it when it is asked after that.
    """

    api: FakeApi
    secret: str = ""
    older: bool = False
    """Whether it spells the fields as Pizzly 0.3 does."""
    good_for: int = 1_000_000
    grants: dict[tuple[str, str], Grant] = field(default_factory=dict)
    ids: Any = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.api.route("/connection/*", self._connection)

    def add(self, key: str, connection_id: str, kind: str = "OAUTH2") -> None:
        self.grants[key, connection_id] = Grant(kind)

    def token(self, key: str, connection_id: str) -> str:
        """The access token that the API takes now."""
        return f"token-{connection_id}-{self.grants[key, connection_id].number}"

    def revoke(self, key: str, connection_id: str) -> None:
        """End the token before its time."""
        self.grants[key, connection_id].uses = self.good_for
        self._refresh(self.grants[key, connection_id])

    def lets_in(self, key: str, connection_id: str, token: str | None) -> bool:
        """Whether the API takes this token; each time counts."""
        grant = self.grants[key, connection_id]
        grant.uses += 1
        return token == f"Bearer {self.token(key, connection_id)}" and grant.uses <= self.good_for

    @property
    def asked(self) -> list[str]:
        """The targets of the requests for a connection."""
        return [request.target for request in self.api.requests if request.path.startswith("/connection/")]

    def _connection(self, request: Received) -> Reply:
        wanted = "Basic " + b64encode(f"{self.secret}:".encode()).decode()
        if self.secret and request.headers["Authorization"] != wanted:
            return 401, {}, {"error": "Authentication failed. Provide the secret key in the Basic Auth header."}
        key, connection_id = request.params.get("provider_config_key"), request.path.rpartition("/")[2]
        if key is None:
            return 400, {}, {"error": "Missing param provider_config_key."}
        grant = self.grants.get((key, connection_id))
        if grant is None:
            return 400, {}, {"error": f"No matching connection for {connection_id} and {key}."}
        if grant.uses >= self.good_for:
            self._refresh(grant)
        return {
            "id": 1,
            "created_at": "2022-11-01T10:00:00.000Z",
            "updated_at": "2022-11-01T10:00:00.000Z",
            "provider_config_key": key,
            "connection_id": connection_id,
            "credentials": self._credentials(grant, self.token(key, connection_id)),
        }

    def _refresh(self, grant: Grant) -> None:
        grant.number += 1
        grant.uses = 0

    def _credentials(self, grant: Grant, token: str) -> dict[str, Any]:
        if grant.kind == "OAUTH1":
            names = ("oAuthToken", "oAuthTokenSecret") if self.older else ("oauth_token", "oauth_token_secret")
            found = {names[0]: token, names[1]: f"secret-of-{token}"}
        else:
            names = ("accessToken", "expiresAt") if self.older else ("access_token", "expires_at")
            found = {names[0]: token, names[1]: LATER}
        return {"type": grant.kind, **found, "raw": {"access_token": token, "token_type": "bearer"}}
