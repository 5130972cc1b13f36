"""Static placement: popularity that is known beforehand."""

from specmoe.sim.decide.eviction import Context, Ranked


class Static(Ranked):
    """Evicts the expert used least in the train split; among equals the lowest key.

    It is what runtimes do that pin the experts that a profile found hot: once these are resident, the others take turns
    in the slots that a demand needs. The policy `static` has them resident before the first step (placement
    `popular-first`): they are fetched when the model starts, which no step and no count of loads includes.
    """

    source = "popularity placement"

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        known = context.popularity
        self.popularity: dict[int, int] = {} if known is None else dict(enumerate(known.reshape(-1).tolist()))

    def insert(self, key: int, event: int) -> None:
        """Where its popularity puts it."""
        self.place(key, self.popularity.get(key, 0))

    def use(self, key: int, event: int, again: bool) -> None:
        """Changes nothing."""
