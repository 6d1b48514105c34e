"""The contacts of the simulated account: a million of them in well under a gigabyte, none of them ever searched for."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

Lists = frozenset[str]
"""The ids of lists."""


@dataclass(slots=True)
class Person:
    """A contact. Those who stand in the same lists share one set of them."""

    id: str
    email: str
    at: str
    lists: Lists = frozenset()
    fields: dict[str, str | int | float] = field(default_factory=dict)


class People:
    """The contacts by address and by id.

    Attributes:
        by_address: The contacts; tests look into it, and take contacts away behind the API's back.
        in_list: How many contacts each list has.
    """

    def __init__(self) -> None:
        self.by_address: dict[str, Person] = {}
        self.in_list: Counter[str] = Counter()
        self._numbered: list[Person | None] = []
        self._family = uuid.uuid4().hex[:24]
        self._alike: dict[Lists, Lists] = {}

    def obtain(self, address: str, at: str) -> Person:
        """The contact with that address, new or not."""
        person = self.by_address.get(address)
        if person is None:
            number = len(self._numbered)
            person = self.by_address[address] = Person(self._id(number), address, at)
            self._numbered.append(person)
        return person

    def known(self, ids: Iterable[str]) -> bool:
        """Whether all of these are contacts."""
        return all(self._get(i) is not None for i in ids)

    def chosen(self, ids: Iterable[str]) -> Iterator[Person]:
        """Those of these ids that are contacts."""
        return (person for person in map(self._get, ids) if person is not None)

    def members(self, lists: Collection[str]) -> list[Person]:
        """Who stands in one of these lists; everybody when none is named."""
        wanted = frozenset(lists)
        if not wanted:
            return list(self.by_address.values())
        inside = {alike for alike in self._alike if alike & wanted}
        return [person for person in self.by_address.values() if person.lists in inside]

    def place(self, person: Person, lists: Lists) -> None:
        """Have a contact stand in exactly these lists."""
        if lists != person.lists:
            self.in_list.update(lists - person.lists)
            self.in_list.subtract(person.lists - lists)
            person.lists = self._alike.setdefault(lists, lists)

    def delete(self, person: Person) -> None:
        """Delete a contact."""
        self.place(person, frozenset())
        self.by_address.pop(person.email, None)
        self._numbered[int(person.id[:8], 16)] = None

    def _id(self, number: int) -> str:
        return str(uuid.UUID(f"{number:08x}{self._family}"))

    def _get(self, contact_id: str) -> Person | None:
        try:
            number = int(contact_id[:8], 16)
        except ValueError:
            return None
        person = self._numbered[number] if number < len(self._numbered) else None
        return person if person is not None and person.id == contact_id else None
