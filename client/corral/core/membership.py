"""Which guests a selector means, as their labels become known. No I/O."""

from collections.abc import Mapping

from corral.selectors import Selector


class Membership:
    """Judges each guest by the labels of its newest registration; without conditions on labels the name alone decides."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._judged: dict[str, bool] = {}

    def knows(self, guest: str) -> bool:
        """Whether enough is known of it to judge."""
        return guest in self._judged or not self._selector.conditions or not self._selector.may_match(guest)

    def learn(self, guest: str, labels: Mapping[str, str]) -> None:
        """Its labels, as it registered with them."""
        self._judged[guest] = self._selector.matches(guest, labels)

    def has(self, guest: str) -> bool:
        """Whether it is meant; not while its labels are needed and unknown."""
        judged = self._judged.get(guest)
        if judged is not None:
            return judged
        return not self._selector.conditions and self._selector.may_match(guest)
