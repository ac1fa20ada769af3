"""A file like CMS's NanoAOD with particles (PFNano), made up, for tutorials 10 and 11.

It has what these need, under the names that such files have: jets of a large radius and the
particles in them, as indices into one list of all particles; jets of a small radius, and what a
detector makes of their energy. The same seed gives the same events.

    python tutorials/made_up_nanoaod.py events.root --events 4000 --seed 1
"""

from __future__ import annotations

import argparse

import awkward as ak
import numpy as np
import uproot

Random = np.random.Generator
LOOSE = 15  # particles of an event that are in no jet, on average


def write(path: str, events: int = 4000, seed: int = 1) -> str:
    """Write the file, and return its path."""
    random = np.random.default_rng(seed)
    rho = random.gamma(6, 4, events).astype("f4")
    branches = {"fixedGridRhoFastjetAll": rho, **fat_jets(random, events), **jets(random, rho)}
    with uproot.recreate(path) as file:
        file.mktree("Events", branches)
    return path


def of_event(random: Random, mean: float, events: int) -> np.ndarray:
    """The event of each object, of which there are ``mean`` on average, and none in some."""
    return np.repeat(np.arange(events), random.poisson(mean, events))


def grouped(index: np.ndarray, groups: int, **columns: np.ndarray) -> ak.Array:
    """Columns whose entries belong to events, as lists, one for each event."""
    counts = np.bincount(index, minlength=groups)
    floats = {k: v.astype("f4") if v.dtype == "f8" else v for k, v in columns.items()}
    return ak.unflatten(ak.zip(floats), counts)


# Jets of a large radius ---------------------------------------------------------------------------


def fat_jets(random: Random, events: int) -> dict[str, ak.Array]:
    """Half of them are H -> bb, with two prongs; the others are a prong and what it radiates."""
    event = of_event(random, 1.5, events)
    pt, n = 250 + random.exponential(120, len(event)), len(event)
    order = np.lexsort((-pt, event))  # In each event, the hardest jet is the first one.
    pt, eta, phi = pt[order], random.normal(0, 0.9, n), random.uniform(-np.pi, np.pi, n)
    higgs = random.random(n) < 0.5
    share = np.where(higgs, random.uniform(0.15, 0.5, n), 0.02 * 25 ** random.random(n))
    mass = np.where(higgs, random.normal(125, 12, n), 12 * 15 ** random.random(n))
    distance = np.minimum(mass / (pt * np.sqrt(share * (1 - share))), 0.75)

    jet = np.repeat(np.arange(n), 3 + random.poisson(np.where(higgs, 34, 30)))
    second = random.random(len(jet)) < np.sqrt(share)[jet] * 0.7
    away = np.where(second, 1 - share[jet], -share[jet]) * distance[jet]
    spread, where = random.exponential(0.05, len(jet)), random.uniform(0, 2 * np.pi, len(jet))
    axis = random.uniform(0, 2 * np.pi, n)[jet]
    softness = random.exponential(1, len(jet)) ** 2
    prong = 2 * jet + second
    part = softness / np.bincount(prong, softness)[prong]
    inside = {
        "pt": pt[jet] * part * np.where(second, share[jet], 1 - share[jet]),
        "eta": eta[jet] + away * np.cos(axis) + spread * np.cos(where),
        "phi": phi[jet] + away * np.sin(axis) + spread * np.sin(where),
    }
    event_of_particle, particles, index = mixed(random, event[jet], inside, events)
    flavour = np.where(higgs, 2, 0).astype("u1")
    number = np.arange(n) - np.searchsorted(event, event)  # of the jet, in its event
    return {
        "FatJet": grouped(event, events, pt=pt, eta=eta, phi=phi, nBHadrons=flavour),
        "PFCands": grouped(event_of_particle, events, **particles),
        "FatJetPFCands": grouped(
            event[jet], events, jetIdx=number[jet].astype("i4"), pFCandsIdx=index
        ),
    }


def mixed(
    random: Random, event: np.ndarray, inside: dict[str, np.ndarray], events: int
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Particles of jets and others in random order, and where each of the former is now."""
    other = of_event(random, LOOSE, events)
    outside = {
        "pt": random.exponential(1, len(other)),
        "eta": random.uniform(-3, 3, len(other)),
        "phi": random.uniform(-np.pi, np.pi, len(other)),
    }
    both = np.concatenate([event, other])
    order = np.lexsort((random.random(len(both)), both))
    particles = {k: np.concatenate([inside[k], outside[k]])[order] for k in inside}
    particles["phi"] = np.remainder(particles["phi"] + np.pi, 2 * np.pi) - np.pi
    place = np.argsort(order)[: len(event)]
    first = np.searchsorted(both[order], event)
    return both[order], particles, (place - first).astype("i4")


# Jets of a small radius ---------------------------------------------------------------------------


def jets(random: Random, rho: np.ndarray) -> dict[str, ak.Array]:
    """Jets whose measured energy depends on where they are, what is in them, and on pile-up."""
    events = len(rho)
    event = of_event(random, 4, events)
    n = len(event)
    true, eta = 20 + random.exponential(50, n), random.normal(0, 1.5, n).clip(-4.5, 4.5)
    charged = random.beta(4, 2.5, n) * (np.abs(eta) < 2.5)
    constituents = 4 + random.poisson(3 * np.log(true))
    scale = 0.86 - 0.03 * np.abs(eta) + 0.12 * (charged - 0.6) - 0.006 * (constituents - 16)
    resolution = 0.06 + 0.6 / np.sqrt(true)
    measured = true * scale * random.normal(1, resolution, n) + 0.5 * (rho[event] - 12)
    known = random.random(n) < 0.95  # The others come from pile-up.
    made = grouped(
        event,
        events,
        pt=np.maximum(measured, 8),
        eta=eta,
        phi=random.uniform(-np.pi, np.pi, n),
        chHEF=charged,
        nConstituents=constituents.astype("i4"),
        genJetIdx=np.where(known, 0, -1).astype("i4"),
    )
    generated = grouped(event[known], events, pt=true[known])
    # Measured jets are in the order of their pt, generated ones in that of theirs.
    order = ak.argsort(ak.unflatten(-true[known], ak.num(generated.pt)))
    rank = ak.argsort(order)
    flat = ak.to_numpy(ak.flatten(made.genJetIdx)).copy()
    flat[known] = ak.to_numpy(ak.flatten(rank))
    made["genJetIdx"] = ak.unflatten(flat, ak.num(made.pt))
    return {
        "Jet": made[ak.argsort(made.pt, ascending=False)],
        "GenJet": generated[order],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", help="the file to write")
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(write(options.file, options.events, options.seed))
