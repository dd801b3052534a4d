"""Executors of the tests."""

from concurrent.futures import ThreadPoolExecutor


class Fails(ThreadPoolExecutor):
    """Loses the given jobs, as a process that is killed does, and counts those that came."""

    def __init__(self, jobs):
        super().__init__(1)
        self.jobs, self.seen = jobs, 0

    def submit(self, function, *args):
        self.seen += 1
        if self.seen - 1 in self.jobs:
            return super().submit(_killed)
        return super().submit(function, *args)


def _killed():
    raise OSError("the worker is gone")
