"""How long to wait before a child that died is started again."""

FIRST_S = 0.5
LONGEST_S = 30.0
HEALTHY_S = 60.0  # a child that lived this long starts again from the first wait


class Backoff:
    """Waits that double up to a limit, and start over after a healthy run."""

    def __init__(self) -> None:
        self._next = FIRST_S
        self.restarts = 0

    def after(self, lived_s: float) -> float:
        """Seconds to wait after a child that lived this long."""
        if lived_s >= HEALTHY_S:
            self._next = FIRST_S
        wait, self._next = self._next, min(self._next * 2, LONGEST_S)
        self.restarts += 1
        return wait
