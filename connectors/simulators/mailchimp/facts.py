"""What else there is in an account, made by people at Mailchimp's interface: interests, automations, list settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.requests import Request
from starlette.responses import Response

from connectors.simulators.mailchimp.wire import Handler, Json, answer, not_found, paged


class Facts:
    """The state, and the part of the API that shows it.

    Attributes:
        interests: The names of interests by the ID of their category.
        automations: The status of classic automations by ID; None where Mailchimp has them no more.
        double_optin: Whether who joins by a form must confirm.
        has_welcome: Whether a welcome automation writes to them.
    """

    def __init__(self, list_id: str) -> None:
        self.interests: dict[str, list[str]] = {}
        self.automations: dict[str, str] | None = {}
        self.double_optin = False
        self.has_welcome = False
        self._list_id = list_id

    def handlers(self) -> list[tuple[str, str, Handler]]:
        """Method, path and handler of each call."""
        at = f"/lists/{self._list_id}"
        return [
            ("GET", at, self._list),
            ("GET", f"{at}/interest-categories", self._categories),
            ("GET", f"{at}/interest-categories/{{category}}/interests", self._interests),
            ("GET", "/automations", self._automations),
        ]

    async def _list(self, request: Request) -> Response:
        shown = {"id": self._list_id, "name": "News", "double_optin": self.double_optin}
        return answer(request, shown | {"has_welcome": self.has_welcome, "marketing_permissions": False})

    async def _categories(self, request: Request) -> Response:
        def shown(category: str) -> Json:
            return {"list_id": self._list_id, "id": category, "title": category, "type": "checkboxes"}

        return paged(request, "categories", self.interests, len(self.interests), shown)

    async def _interests(self, request: Request) -> Response:
        category = request.path_params["category"]
        if category not in self.interests:
            raise not_found()

        def shown(name: str) -> Json:
            number = self.interests[category].index(name)
            return {"category_id": category, "list_id": self._list_id, "id": f"{category}{number}", "name": name}

        names = self.interests[category]
        return paged(request, "interests", names, len(names), shown)

    def merges(self, held: Mapping[str, Collection[str]]) -> dict[str, str]:
        """What a callback says of a contact's interests, by category; nothing where the audience has none.

        Where captured callbacks leave something open, the more harmful way is taken: ``INTERESTS`` names those of the
        first category alone, and a blank follows each comma that separates two.
        """
        listed = {c: [name for name in names if name in held.get(c, ())] for c, names in self.interests.items()}
        groups = [", ".join(name.replace(",", "\\,") for name in names) for names in listed.values()]
        merges = {"INTERESTS": groups[0]} if groups else {}
        for n, (category, names) in enumerate(zip(listed, groups, strict=True)):
            said = {"id": str(n + 1), "unique_id": category, "name": category, "groups": names}
            merges |= {f"GROUPINGS][{n}][{key}": value for key, value in said.items()}
        return merges

    async def _automations(self, request: Request) -> Response:
        if self.automations is None:
            raise not_found()
        status = request.query_params.get("status")
        found = [*_of_status(self.automations, status)]
        return paged(request, "automations", found, len(found), lambda each: {"id": each[0], "status": each[1]})


def _of_status(automations: Mapping[str, str], status: str | None) -> list[tuple[str, str]]:
    return [(name, its) for name, its in automations.items() if status in {None, its}]
