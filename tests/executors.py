"""Executors of the tests."""

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor


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


class Cancels(ThreadPoolExecutor):
    """Cancels the given jobs, as a scheduler does that has no more room for them."""

    def __init__(self, jobs):
        super().__init__(1)
        self.jobs, self.seen = jobs, 0

    def submit(self, function, *args):
        self.seen += 1
        if self.seen - 1 not in self.jobs:
            return super().submit(function, *args)
        future = Future()
        future.cancel()
        return future


class Job:
    """What a scheduler gives of a job: no future by type, but one by what it does."""

    def __init__(self, folder, function, args):
        self.all = folder, function, args

    def result(self):
        folder, function, args = self.all
        with contextlib.chdir(folder):
            return function(*args)

    def done(self):
        return False

    def cancel(self):
        pass


class OfAnotherKind:
    """No executor by type; its jobs stand in another folder."""

    def __init__(self, folder):
        self.folder = folder

    def submit(self, function, *args):
        return Job(self.folder, function, args)


class Forgets:
    """Returns nothing from `submit`, as a pool does whose results are asked for elsewhere."""

    def submit(self, function, *args):
        del function, args


def _killed():
    raise OSError("the worker is gone")
