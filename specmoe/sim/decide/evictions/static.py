"""Static placement: popularity that is known beforehand."""

from specmoe.sim.decide.eviction import Context, Ranked


class Static(Ranked):
    """Evicts the expert used least in the train split; among equals the lowest key.

    What runtimes do that pin the experts a profile found hot: once they are in, only the rest take turns.
    """

    source = "popularity placement"

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        known = context.popularity
        self._popularity: dict[int, int] = {} if known is None else dict(enumerate(known.reshape(-1).tolist()))

    def insert(self, key: int, event: int) -> None:
        """Where its popularity puts it."""
        self.place(key, self._popularity.get(key, 0))

    def use(self, key: int, event: int, again: bool) -> None:
        """Changes nothing."""
