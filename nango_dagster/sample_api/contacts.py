"""The contacts of two customers in a small CRM that can be changed: the API of the tutorial.

A customer's key selects its contacts. `GET /crm/contacts?limit=&after=` lists them in pages, `PATCH` and
`DELETE /crm/contacts/ID` change them. A restart of the server restores all of them.

>>> crm = Contacts()
>>> crm.page("acme-key", {"limit": "2"}).body
{'contacts': [{'id': 1, 'name': 'Ada', 'city': 'London'}, {'id': 2, 'name': 'Alan', 'city': 'London'}], 'next': '2'}
>>> crm.change("acme-key", 2, {"city": "Manchester"}).body
{'id': 2, 'name': 'Alan', 'city': 'Manchester'}
>>> crm.page("wrong", {}).status
401
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

from .answer import Answer, number_in

_PEOPLE: Final = {
    "acme-key": [("Ada", "London"), ("Alan", "London"), ("Grace", "New York"), ("Linus", "Helsinki")],
    "globex-key": [("Barbara", "Zurich"), ("Edsger", "Rotterdam"), ("Tony", "Colombo")],
}
_WRONG_KEY: Final = Answer({"message": "The key must be acme-key or globex-key."}, status=401)
_NO_CONTACT: Final = Answer({"message": "This customer has no such contact."}, status=404)


class Contacts:
    """The contacts of each key; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contacts: dict[str, dict[int, dict[str, Any]]] = {
            key: {number: {"id": number, "name": name, "city": city} for number, (name, city) in enumerate(people, 1)}
            for key, people in _PEOPLE.items()
        }

    def page(self, key: str, params: Mapping[str, str]) -> Answer:
        """The contacts after the id `after`, at most `limit` (50), with the cursor of the next page or null."""
        with self._lock:
            if key not in self._contacts:
                return _WRONG_KEY
            after, limit = number_in(params, "after", 0), number_in(params, "limit", 50) or 50
            contacts = [contact for number, contact in self._contacts[key].items() if number > after]
            page = contacts[:limit]
            cursor = str(page[-1]["id"]) if len(contacts) > limit else None
            return Answer({"contacts": [dict(contact) for contact in page], "next": cursor})

    def change(self, key: str, number: int, fields: Mapping[str, Any]) -> Answer:
        """Set fields of a contact; the answer is the contact."""
        with self._lock:
            if key not in self._contacts:
                return _WRONG_KEY
            if number not in self._contacts[key]:
                return _NO_CONTACT
            self._contacts[key][number].update({**fields, "id": number})
            return Answer(dict(self._contacts[key][number]))

    def delete(self, key: str, number: int) -> Answer:
        """Remove a contact; the answer is the removed contact."""
        with self._lock:
            if key not in self._contacts:
                return _WRONG_KEY
            contact = self._contacts[key].pop(number, None)
            return _NO_CONTACT if contact is None else Answer(contact)
