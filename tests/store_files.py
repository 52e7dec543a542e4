"""Where a store in a folder has its files, for tests that damage or count them."""

from pathlib import Path

from abench.results.jobs import Cell, Job
from abench.results.store import Store


def root_of(store: Store) -> Path:
    return Path(store.place)


def cell_file(store: Store, cell: Cell) -> Path:
    return Path(store.shown(cell))


def sae_folder(store: Store, job: Job) -> Path:
    return Path(str(store.sae(job)))


def checkpoint_folder(store: Store, job: Job) -> Path:
    return Path(str(store.checkpoint(job)))
